"""Signing in to the page and out: the form, the cookie, CSRF tokens, roles, and what other websites cannot do."""

import ast
import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from bridge.net.passwords import hash_password
from bridge.web.page.terminals import ACTIONS
from tests.support.waiting import TIMEOUT_SECONDS, until
from tests.support.web import WebServerUnderTest
from tests.web.page.page_system import PageSystem

HTML = {"Accept": "text/html"}
PLAIN_NAME = "facebridge_session"
PAGE = Path(__file__).parents[3] / "bridge" / "web" / "page"

WEB: Mapping[str, Any] = {
    "username": "admin",
    "password": "secret",
    "tokens": {"guard": {"hash": "guard-token", "role": "operator"}, "robot": {"hash": "robot-token", "role": "admin"}},
}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[PageSystem]:
    """A bridge that needs a login."""
    async with PageSystem(tmp_path, web=dict(WEB)) as system:
        yield system


class Browser:
    """The cookies of one browser profile, and what a browser sends with each request."""

    def __init__(self, system: PageSystem, **headers: str) -> None:
        self._url = system.url
        self._headers = {**HTML, **headers}
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    @property
    def cookie(self) -> str:
        """The value of the session's cookie; empty if there is none."""
        morsel = self.http.cookie_jar.filter_cookies(URL(self._url)).get(PLAIN_NAME)
        return "" if morsel is None else morsel.value

    @cookie.setter
    def cookie(self, value: str) -> None:
        self.http.cookie_jar.update_cookies({PLAIN_NAME: value}, URL(self._url))

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return status and body, after redirects."""
        async with self.http.get(self._url + path, headers={**self._headers, **headers}) as response:
            return response.status, await response.text()

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> aiohttp.ClientResponse:
        """Send a form as the page of this server does; the response is complete, redirects are not followed."""
        sent = {**self._headers, "Origin": self._url, **headers}
        async with self.http.post(self._url + path, data=fields, headers=sent, allow_redirects=False) as response:
            await response.read()
            return response

    async def sign_in(self, name: str = "admin", password: str = "secret", destination: str = "") -> str:
        """Sign in, and return the path that the browser is sent to."""
        response = await self.post("/login", {"name": name, "password": password, "next": destination})
        assert response.status == 303, response.status
        return response.headers["Location"]

    async def csrf(self) -> str:
        """Return the token in the forms of the first page."""
        found = re.search(r'name="csrf" value="([0-9a-f]{32})"', (await self.get("/"))[1])
        assert found is not None
        return found[1]


async def test_a_browser_signs_in_where_it_wanted_to_go_and_a_program_gets_a_challenge(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser, aiohttp.ClientSession(guarded.url) as program:
        status, text = await browser.get("/persons?delivery=refused&q=a%20b")
        assert status == 200
        assert 'value="persons?delivery=refused&amp;q=a%20b"' in text
        assert "Front door" not in text
        assert await browser.sign_in(destination="persons?delivery=refused&q=a%20b") == (
            "./persons?delivery=refused&q=a%20b"
        )
        status, text = await browser.get("/")
        assert (status, "Front door" in text, "signed in as admin" in text) == (200, True, True)
        for path in ("/api/terminals", "/metrics", "/"):
            async with program.get(path) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"].startswith("Basic ")


async def test_no_request_of_a_page_makes_the_browser_show_a_dialog(guarded: PageSystem) -> None:
    async with aiohttp.ClientSession(guarded.url) as session:
        for path, headers in (
            ("/", {"HX-Request": "true"}),
            ("/api/events", {"Accept": "text/event-stream", "Referer": f"{guarded.url}/"}),
            ("/persons/1/photo", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "same-origin"}),
            ("/", {**HTML, "Authorization": "Basic b2xkOm9sZA=="}),
        ):
            async with session.get(path, headers=headers, allow_redirects=False) as response:
                assert response.status in (401, 303), path
                assert "WWW-Authenticate" not in response.headers
        async with session.get("/persons", headers={"HX-Request": "true", "X-Page-Root": "./"}) as response:
            assert response.headers["HX-Redirect"] == "./login"
        async with session.post("/persons/1/remove", headers={**HTML, "Origin": guarded.url}) as response:
            assert response.status == 401
            assert "nothing was done" in await response.text()


DESTINATIONS = [
    "https://evil.example.org", "//evil.example.org", "/\\evil.example.org", "\\\\evil.example.org", "/persons",
    "javascript:alert(1)", "persons/../../x", ".//evil.example.org", "%2F%2Fevil.example.org", "a\r\nSet-Cookie: x=y",
    "log?next=//x", "x" * 5000 + "<",
]  # fmt: skip


async def test_a_login_leads_to_no_other_website(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser:
        for destination in DESTINATIONS:
            location = await browser.sign_in(destination=destination)
            seen = URL(f"{guarded.url}/login").join(URL(location, encoded=True))
            assert seen.origin() == URL(guarded.url).origin(), destination
            assert location == "./", destination


async def test_wrong_logins_are_told_apart_from_nothing(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser:
        for name, password in (
            ("admin", "guess-1"),
            ("admin", "guard-token"),
            ("guard", "secret"),
            ("x", "guess-2"),
            ("", ""),
        ):
            response = await browser.post("/login", {"name": name, "password": password})
            assert response.status == 403
            assert "Set-Cookie" not in response.headers
            assert "WWW-Authenticate" not in response.headers
            assert "Name or password is wrong." in await response.text()
            assert password not in await response.text() or not password
        assert browser.cookie == ""


async def test_guesses_in_the_form_are_throttled_and_right_logins_are_not_locked_out(tmp_path: Path) -> None:
    web = {**WEB, "password": hash_password("secret")}
    async with PageSystem(tmp_path, web=web) as system, Browser(system) as browser:
        await browser.sign_in()
        statuses = [
            (await browser.post("/login", {"name": "admin", "password": f"guess {number}"})).status
            for number in range(12)
        ]
        assert statuses == [403] * 10 + [429] * 2
        response = await browser.post("/login", {"name": "admin", "password": "one more"})
        assert int(response.headers["Retry-After"]) <= 30
        assert "Too many wrong logins" in await response.text()
        await browser.sign_in()


async def test_operators_sign_in_with_the_name_of_a_token(guarded: PageSystem) -> None:
    async with Browser(guarded) as guard, Browser(guarded) as robot, guarded.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        await guard.sign_in("guard", "guard-token")
        await robot.sign_in("robot", "robot-token")
        assert "terminals/T1/reboot" not in (await guard.get("/terminals/T1"))[1]
        assert "terminals/T1/reboot" in (await robot.get("/terminals/T1"))[1]
        assert (await guard.get("/terminals/T1/reboot"))[0] == 403
        assert (await guard.get("/person-new"))[0] == 403
        token = await guard.csrf()
        for path in ("/terminals/T1/reboot", "/persons/1/remove", "/pending/X/refuse", "/export"):
            assert (await guard.post(path, {"csrf": token})).status == 403, path
        found = re.search(r'name="token" value="([^"]+)"', (await guard.get("/terminals/T1/open"))[1])
        assert found is not None
        assert (await guard.post("/terminals/T1/open", {"token": found[1], "csrf": token})).status == 303
        assert terminal.opened == 1

        async def logged() -> str:
            return (await guard.get("/log"))[1].partition('<div id="log"')[2].partition("</main>")[0]

        async with asyncio.timeout(TIMEOUT_SECONDS):
            while "guard" not in await logged():
                await asyncio.sleep(0.05)


async def test_the_cookie_cannot_be_read_by_scripts_and_is_bound_to_the_site(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser:
        response = await browser.post("/login", {"name": "admin", "password": "secret"})
        (header,) = response.headers.getall("Set-Cookie")
        (morsel,) = SimpleCookie(header).values()
        assert morsel.key == PLAIN_NAME
        assert (morsel["httponly"], morsel["samesite"], morsel["secure"], morsel["path"]) == (True, "Lax", "", "")
        assert int(morsel["max-age"]) == 12 * 3600
        assert "secret" not in header
        assert response.headers["Cache-Control"] == "no-store"


async def test_every_request_that_changes_something_needs_the_token_of_the_session(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser, Browser(guarded) as other:
        await browser.sign_in()
        await other.sign_in()
        tokens = ("", "x" * 32, await other.csrf())
        for method, path in unsafe_routes():
            url = guarded.url + re.sub(r"\{[a-z]+\}", "T1", path)
            for token in tokens:
                for form in ({}, {"data": {"csrf": token}}, {"data": multipart(token)}, {"json": {"csrf": token}}):
                    headers = {**HTML, "Origin": guarded.url}
                    async with browser.http.request(method, url, headers=headers, **form) as response:
                        # 404 and 415: the handler found nothing to change, or no form that it reads.
                        assert response.status in (403, 404, 413, 415), (method, path, form)
            headers = {**HTML, "Origin": guarded.url, "X-CSRF-Token": tokens[2]}
            async with browser.http.request(method, url, headers=headers) as response:
                assert response.status == 403, path
        assert browser.cookie
        assert (await browser.post("/preferences", {"theme": "dark", "csrf": await browser.csrf()})).status == 303
        assert (
            await browser.post("/api/terminals/T1/open", {}, **{"X-CSRF-Token": await browser.csrf()})
        ).status == 409
        async with aiohttp.ClientSession(guarded.url) as program:
            auth = {"Authorization": "Bearer robot-token"}
            async with program.post("/api/terminals/T1/open", headers=auth) as response:
                assert response.status == 409


def test_every_form_is_read_by_a_function_that_checks_the_token() -> None:
    """Without this, a new handler that reads no form could act before the check."""
    checked = {"read_form", "read_upload", "require_form_token"}
    handlers = 0
    for file in PAGE.glob("*.py"):
        tree = ast.parse(file.read_text())
        functions = {one.name: one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}

        def checks(name: str, seen: frozenset[str]) -> bool:
            if name in checked:
                return True
            if name in seen or name not in functions:  # noqa: B023  called within the iteration
                return False
            called = ast.walk(functions[name])  # noqa: B023
            names = (one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in called)
            return any(checks(one, seen | {name}) for one in names)

        for node in ast.walk(tree):
            is_post = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("outer.post")
            if is_post and file.name != "forms.py":
                assert isinstance(node, ast.Call)
                handler = node.args[1].func if isinstance(node.args[1], ast.Call) else node.args[1]
                assert isinstance(handler, ast.Attribute), ast.unparse(node)
                assert checks(handler.attr, frozenset()), f"{file.name}: {handler.attr}"
                handlers += 1
    assert handlers > 10


def multipart(token: str) -> aiohttp.FormData:
    form = aiohttp.FormData({"csrf": token, "target": "group:all"})
    form.add_field("file", b"id,name\n", filename="persons.csv", content_type="text/csv")
    return form


def unsafe_routes() -> list[tuple[str, str]]:
    """Return method and path of every route that changes something, without the login."""
    api = [one for one in WebServerUnderTest().server.routes if one[0] not in ("GET", "HEAD")]
    page = [
        ("POST", path.replace("{name}", "open").replace("{{", "{").replace("}}", "}"))
        for file in PAGE.glob("*.py")
        for path in re.findall(r'router\.post\(\s*f?"([^"]+)"', file.read_text())
    ]
    assert min(len(api), len(page)) > 10
    return api + page


FOR_OPERATORS = {
    ("POST", "/api/terminals/{sn}/open"),
    ("POST", "/api/groups/{name}/open"),
    *(("POST", path) for path in ("/terminals/{sn}/open", "/preferences", "/login", "/logout")),
}
"""What an operator may do besides reading."""

FORGED = {
    "X-Ingress-Path": "/api/hassio_ingress/token",
    "X-Remote-User-Id": "1",
    "X-Remote-User-Name": "admin",
    "X-Remote-User-Display-Name": "Admin",
    "X-Forwarded-For": "172.30.32.2",
    "Forwarded": "for=172.30.32.2",
    "X-HTTP-Method-Override": "POST",
}
"""Headers that say that Home Assistant passed the request of its administrator on."""


@pytest.mark.parametrize("login", ["session", "token"])
async def test_an_operator_may_change_nothing_by_any_route(guarded: PageSystem, login: str) -> None:
    routes = unsafe_routes()
    routes += [("POST", f"/terminals/{{sn}}/{action}") for action in ACTIONS if action != "open"]
    async with Browser(guarded) as guard, guarded.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        headers = {"Authorization": "Bearer guard-token"}
        if login == "session":
            await guard.sign_in("guard", "guard-token")
            headers = {"X-CSRF-Token": await guard.csrf()}
        for method, route in routes:
            if (method, route) in FOR_OPERATORS:
                continue
            path = re.sub(r"{(\w+)}", lambda part: {"sn": "T1", "name": "lobby", "id": "p1"}.get(part[1], "1"), route)
            for more in ({}, FORGED, {"HX-Request": "true"}):
                sent = {**HTML, **headers, **more}
                data = {"confirm": "T1", "role": "admin"}
                async with guard.http.request(method, guarded.url + path, headers=sent, data=data) as response:
                    assert response.status == 403, (method, path, more)
        assert terminal.opened == terminal.rebooted == 0
        assert terminal.persons == {}


async def test_a_form_of_another_website_changes_nothing(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser:
        await browser.sign_in()
        token = await browser.csrf()
        port = URL(guarded.url).port
        for headers in (
            {"Origin": "https://evil.example.org"},
            {"Origin": f"http://sub.localhost:{port}"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            for path in ("/logout", "/terminals/T1/open", "/login"):
                fields = {"csrf": token, "name": "admin", "password": "secret"}
                assert (await browser.post(path, fields, **headers)).status == 403, (path, headers)
        assert (await browser.get("/"))[0] == 200
    async with aiohttp.ClientSession(guarded.url) as session:
        fields = {"name": "admin", "password": "secret"}
        async with session.post("/login", data=fields, headers=HTML, allow_redirects=False) as response:
            assert response.status == 403, "a login that no page of this server has sent"


async def test_a_login_makes_a_new_session_and_ends_the_one_before(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser, Browser(guarded) as attacker:
        await attacker.sign_in("guard", "guard-token")
        fixed = attacker.cookie
        # The attacker has planted the cookie of a session of his own.
        browser.cookie = fixed
        await browser.sign_in()
        assert browser.cookie != fixed
        assert "signed in as admin" in (await browser.get("/"))[1]
        assert "signed in as" not in (await attacker.get("/"))[1]


async def test_a_stolen_cookie_is_worthless_after_the_logout_also_after_a_restart(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser, Browser(guarded) as thief, Browser(guarded) as other:
        await browser.sign_in()
        await other.sign_in()
        thief.cookie = stolen = browser.cookie
        assert "signed in as admin" in (await thief.get("/"))[1]
        assert (await browser.post("/logout", {})).status == 403, "without the token"
        response = await browser.post("/logout", {"csrf": await browser.csrf()})
        assert (response.status, response.headers["Location"]) == (303, "./login?out=1")
        assert browser.cookie == ""
        assert "You have signed out." in (await browser.get("/login?out=1"))[1]
        for _ in range(2):
            thief.cookie = stolen
            assert "signed in as" not in (await thief.get("/"))[1]
            assert (await thief.get("/api/terminals", Accept="application/json"))[0] == 401
            assert "signed in as admin" in (await other.get("/"))[1]
            await guarded.bridge.kill()
            await guarded.bridge.start()


async def test_changing_the_password_ends_its_sessions(guarded: PageSystem) -> None:
    config = guarded.bridge.folder / "config.yaml"
    async with Browser(guarded) as admin, Browser(guarded) as guard:
        await admin.sign_in()
        await guard.sign_in("guard", "guard-token")
        await guarded.bridge.stop()
        config.write_text(config.read_text().replace("password: secret", "password: another"))
        await guarded.bridge.start()
        assert "signed in as" not in (await admin.get("/"))[1]
        assert "signed in as guard" in (await guard.get("/"))[1]


async def test_a_stream_of_events_ends_with_its_session(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser, Browser(guarded) as other:
        await browser.sign_in()
        await other.sign_in()
        async with (
            browser.http.get(f"{guarded.url}/api/events") as stream,
            other.http.get(f"{guarded.url}/api/events") as kept,
        ):
            assert (stream.status, kept.status) == (200, 200)
            await stream.content.readuntil(b"event: snapshot")
            await browser.post("/logout", {"csrf": await browser.csrf()})
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert b"event: snapshot" not in await stream.content.read()
                await kept.content.readuntil(b"event: heartbeat")
                await kept.content.readuntil(b"event: heartbeat")


async def test_a_forged_cookie_is_no_session(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser, aiohttp.ClientSession(guarded.url) as session:
        await browser.sign_in()
        value = browser.cookie
        forged = [
            value[:-4] + ("AAAA" if value[-4:] != "AAAA" else "BBBB"),
            value[:20] + ("x" if value[20] != "x" else "y") + value[21:],
            value[: len(value) // 2],
            "admin",
            "gAAAAA" + "A" * 200,
            value + "A" * 2000,
            "A" * 7000,
            "ä" * 50,
        ]
        cookies = [(PLAIN_NAME, one) for one in forged]
        # A cookie is valid only under the name that it was issued for.
        cookies += [(name, value) for name in ("__Host-" + PLAIN_NAME, "__Secure-" + PLAIN_NAME, "facebridge")]
        for name, one in cookies:
            async with session.get("/api/terminals", headers={"Cookie": f"{name}={one}"}) as response:
                assert response.status == 401, (name, one)
        async with session.get("/api/terminals", headers={"Cookie": f"{PLAIN_NAME}={value}"}) as response:
            assert response.status == 200


async def test_no_website_can_frame_the_login(guarded: PageSystem) -> None:
    async with aiohttp.ClientSession(guarded.url) as session, session.get("/login", headers=HTML) as response:
        assert response.status == 200
        policy = response.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert response.headers["Cache-Control"] == "no-store"
        assert "api/events" not in re.sub(r"data-events=\"[^\"]*\"", "", await response.text())


async def test_language_can_be_chosen_before_the_login(guarded: PageSystem) -> None:
    async with Browser(guarded) as browser:
        response = await browser.post("/preferences", {"language": "zh-CN", "back": "login?next=persons"})
        assert (response.status, response.headers["Location"]) == (303, "./login?next=persons")
        text = (await browser.get("/login?next=persons"))[1]
        assert 'lang="zh-CN"' in text
        assert "登录" in text
        stylesheet = re.search(r'href="\./(static/[^"]+\.css)"', text)
        assert stylesheet is not None
        assert (await browser.get(f"/{stylesheet[1]}"))[0] == 200


async def test_without_a_configured_login_there_is_no_login_page(system: PageSystem) -> None:
    async with Browser(system) as browser:
        async with browser.http.get(f"{system.url}/login?next=persons", headers=HTML) as response:
            assert response.url.path == "/persons"
            assert "Sign out" not in await response.text()
        assert (await browser.post("/login", {"name": "x", "password": "y", "next": "log"})).status == 303


async def test_a_storm_of_logins_does_not_stop_the_bridge(tmp_path: Path) -> None:
    web = {**WEB, "password": hash_password("secret")}
    async with PageSystem(tmp_path, web=web) as system, Browser(system) as browser, Browser(system) as storm:
        await browser.sign_in()
        headers = {"Authorization": "Bearer guard-token"}
        async with system.terminal("T1").running() as terminal:
            await terminal.wait_connected()
            guesses = [
                asyncio.get_running_loop().create_task(storm.post("/login", {"name": "admin", "password": f"{number}"}))
                for number in range(200)
            ]
            async with browser.http.post(f"{system.url}/api/terminals/T1/open", headers=headers) as response:
                assert response.status == 200
            assert "signed in as admin" in (await browser.get("/"))[1]
            statuses = {response.status for response in await asyncio.gather(*guesses)}
        assert statuses <= {403, 429, 503}
        await until(lambda: system.bridge.log.count("wrong login from") <= 10)
