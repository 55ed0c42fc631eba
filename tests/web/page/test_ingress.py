"""The page inside Home Assistant: requests of the Supervisor, and no others, are believed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from bridge.config.settings import OWN_TOKEN
from tests.web.page.page_system import PageSystem

BROWSER = {
    "Accept": "text/html",
    "Host": "ha.example.org",
    "X-Ingress-Path": "/api/hassio_ingress/token",
    "X-Remote-User-Id": "0123",
    "X-Remote-User-Name": "ada",
    "X-Remote-User-Display-Name": "Ada Lovelace",
}
"""What the Supervisor passes on from a browser at https://ha.example.org."""


@pytest.fixture(params=["127.0.0.1", "127.0.0.9"])
async def ingress(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[PageSystem, bool]]:
    """A bridge, and whether this machine is its `web.ingress`."""
    web = {"ingress": request.param, "username": "nobody", "password": "secret"}
    async with PageSystem(tmp_path, web=web) as system:
        yield system, request.param == "127.0.0.1"


async def status(session: aiohttp.ClientSession, headers: Mapping[str, str], *, post: bool = False) -> int:
    method = "POST" if post else "GET"
    data = {"theme": "dark"} if post else None
    path = "/preferences" if post else "/"
    async with session.request(method, path, headers=headers, data=data, allow_redirects=False) as response:
        return response.status


async def test_only_the_supervisor_is_believed(ingress: tuple[PageSystem, bool]) -> None:
    system, is_supervisor = ingress
    async with aiohttp.ClientSession(system.url) as session:
        assert await status(session, BROWSER) == (200 if is_supervisor else 403)
        # With the server's own name, another client still has to log in.
        own = {name: value for name, value in BROWSER.items() if name != "Host"}
        assert await status(session, own) == (200 if is_supervisor else 303)
        async with session.get("/", headers=own) as response:
            assert response.url.path == ("/" if is_supervisor else "/login")
        for origin, allowed in (("https://ha.example.org", True), ("https://evil.example.org", False)):
            got = await status(session, {**BROWSER, "Origin": origin}, post=True)
            assert got == (303 if is_supervisor and allowed else 403)
        cross_site = {**BROWSER, "Sec-Fetch-Site": "cross-site"}
        assert await status(session, cross_site, post=True) == 403


async def test_home_assistants_users_never_see_the_login(ingress: tuple[PageSystem, bool]) -> None:
    system, is_supervisor = ingress
    own = {name: value for name, value in BROWSER.items() if name != "Host"}
    async with aiohttp.ClientSession(system.url) as session:
        async with session.get("/login?next=log", headers=own, allow_redirects=False) as response:
            assert response.status == (303 if is_supervisor else 200)
            assert response.headers.get("Location") == ("./log" if is_supervisor else None)
        form = {"name": "nobody", "password": "secret"}
        headers = {**own, "Origin": system.url}
        async with session.post("/login", headers=headers, data=form, allow_redirects=False) as response:
            assert response.status == 303
            assert ("Set-Cookie" in response.headers) is not is_supervisor
        if is_supervisor:
            async with session.get("/", headers=own) as response:
                assert "Sign out" not in await response.text()


async def test_the_users_name_is_logged_and_home_assistant_may_frame_the_page(
    ingress: tuple[PageSystem, bool],
) -> None:
    system, is_supervisor = ingress
    if not is_supervisor:
        async with (
            aiohttp.ClientSession(system.url) as session,
            session.get("/", headers={"Accept": "text/html"}) as got,
        ):
            assert "frame-ancestors 'none'" in got.headers["Content-Security-Policy"]
        return
    async with aiohttp.ClientSession(system.url) as session:
        async with session.get("/", headers=BROWSER) as got:
            assert "frame-ancestors 'self'" in got.headers["Content-Security-Policy"]
            assert "Ada Lovelace" in await got.text()
        async with session.post("/api/terminals/T1/open", headers=BROWSER) as got:
            assert got.status == 409

        async def users() -> list[str]:
            async with session.get("/api/log", headers=BROWSER) as got:
                return [one["user"] for one in (await got.json())["items"]]

        # The bridge writes the log after the response.
        async with asyncio.timeout(10):
            while not (logged := await users()):
                await asyncio.sleep(0.05)
        assert logged == ["Ada Lovelace"]


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "Open Facebridge in Home Assistant's sidebar"),
        ("zh-CN", "请在 Home Assistant 的侧边栏中打开 Facebridge"),
    ],
)
async def test_an_address_without_accounts_says_where_to_go(tmp_path: Path, language: str, sentence: str) -> None:
    """The app's own port without `web.username`: no form could succeed there."""
    tokens = {OWN_TOKEN: {"hash": "a-token-that-only-the-doctor-knows", "role": "operator"}}
    browser = {"Accept": "text/html", "Accept-Language": language}
    async with PageSystem(tmp_path, web={"ingress": "127.0.0.9", "tokens": tokens}) as system:
        async with aiohttp.ClientSession(system.url, headers=browser) as session:
            for path in ("/", "/login", "/persons", "/login?next=log"):
                async with session.get(path, allow_redirects=False) as response:
                    assert response.status == 403, path
                    text = await response.text()
                    assert sentence in text
                    assert "web.username" in text
                    assert '<form method="post" action="./login"' not in text
                    assert 'type="password"' not in text
            form = {"name": OWN_TOKEN, "password": "x", "next": ""}
            async with session.post("/login", data=form, headers={"Origin": system.url}) as response:
                assert response.status == 403
                assert sentence in await response.text()
            async with session.post("/terminals/T1/open", data={"token": "x"}) as response:
                assert response.status == 403
        async with aiohttp.ClientSession(system.url) as program:
            async with program.get("/api/terminals") as response:
                assert response.status == 401
            async with program.get("/healthz") as response:
                assert response.status == 200


@pytest.mark.parametrize(
    ("method", "mode", "destination", "allowed"),
    [
        ("GET", "navigate", "document", True),
        ("GET", "navigate", "iframe", False),
        ("GET", "no-cors", "image", False),
        ("POST", "navigate", "document", False),
    ],
)
async def test_links_to_the_page_are_allowed_and_nothing_else(
    system: PageSystem, method: str, mode: str, destination: str, allowed: bool
) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
    async with aiohttp.ClientSession(system.url) as session:
        path = "/" if method == "GET" else "/terminals/T1/open"
        async with session.request(method, path, headers=headers) as response:
            assert response.status == (200 if allowed else 403)
