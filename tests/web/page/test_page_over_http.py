"""The page over HTTP, without a browser: headers, caching, roles, forms, other websites."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bridge.simulator.faces import sample_photo
from tests.persons.person_system import PHOTO
from tests.support.waiting import until
from tests.web.page.page_system import PageSystem

HTML = {"Accept": "text/html"}
ADMIN = {"Authorization": aiohttp.encode_basic_auth("admin", "secret"), **HTML}
OPERATOR = {"Authorization": "Bearer guard-token", **HTML}


@pytest.fixture
async def session(system: PageSystem) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(system.url) as session:
        yield session


async def token_in(session: aiohttp.ClientSession, path: str, **headers: str) -> str:
    async with session.get(path, headers={**HTML, **headers}) as response:
        found = re.search(r'name="token" value="([^"]+)"', await response.text())
    assert found is not None
    return found[1]


async def test_pages_are_not_cached_and_run_no_foreign_code(session: aiohttp.ClientSession) -> None:
    async with session.get("/", headers=HTML) as response:
        policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
        assert response.headers["Cache-Control"] == "no-store"
        text = await response.text()
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in str(policy)
    assert not re.findall(r'(?:href|src|action)="(?!\./|\.\./|#)[^"]*"', text)
    assert " style=" not in text
    assert not re.findall(r"<script(?![^>]*\bsrc=)", text)


async def test_static_files_are_cached_for_their_content(session: aiohttp.ClientSession) -> None:
    async with session.get("/", headers=HTML) as response:
        paths = re.findall(r'"\./(static/[^"]+)"', await response.text())
    assert len(set(paths)) >= 4
    for path in paths:
        async with session.get(f"/{path}", headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert "immutable" in response.headers["Cache-Control"]
            assert len(await response.read()) > 100
    other = re.sub(r"static/[^/]+/", "static/000000000000/", paths[0])
    async with session.get(f"/{other}") as response:
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    for wrong in ("/static/x/../context.py", "/static/x/nothing.js", "/static/x/%2e%2e/routes.py"):
        async with session.get(wrong) as response:
            assert response.status == 404


async def test_people_get_error_pages_and_programs_get_json(session: aiohttp.ClientSession) -> None:
    for path in ("/nothing", "/terminals/UNKNOWN", "/pending/UNKNOWN"):
        async with session.get(path, headers=HTML) as response:
            assert (response.status, response.content_type) == (404, "text/html")
            assert "Not found" in await response.text()
        async with session.get(path) as response:
            assert (response.status, response.content_type) == (404, "application/json")
    async with session.get("/api/nothing", headers=HTML) as response:
        assert (response.status, response.content_type) == (404, "application/json")


async def test_other_websites_can_press_nothing(system: PageSystem, session: aiohttp.ClientSession) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        token = await token_in(session, "/terminals/T1/open")
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
            async with session.post(
                "/terminals/T1/open", data={"token": token}, headers=headers, allow_redirects=False
            ) as response:
                assert response.status == 403
        assert terminal.opened == 0
        async with session.post("/terminals/T1/open", data={"token": token}, allow_redirects=False) as response:
            assert response.status == 303
            assert not response.headers["Location"].startswith(("/", "http"))
        assert terminal.opened == 1


@pytest.mark.parametrize(
    "back", ["//evil.example", "https://evil.example", "/\\evil", "../../x", "a\r\nX: y", "javascript:a"]
)
async def test_redirects_stay_on_the_page(session: aiohttp.ClientSession, back: str) -> None:
    form = {"back": back, "language": "xx\r\nSet-Cookie: a=b", "theme": "dark"}
    async with session.post("/preferences", data=form, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "./")
        assert [value.split(";")[0] for value in response.headers.getall("Set-Cookie")] == ["facebridge_theme=dark"]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("text/plain", b"token=x", 415),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 20_000, 413),
        ("application/x-www-form-urlencoded", b"&".join(b"a=b" for _ in range(300)), 400),
        ("application/x-www-form-urlencoded", b"a=%ff", 400),
        ("application/x-www-form-urlencoded", "a=ä".encode(), 400),
    ],
)
async def test_unreadable_forms_are_refused(
    session: aiohttp.ClientSession, content_type: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": content_type}
    async with session.post("/terminals/T1/open", data=body, headers=headers) as response:
        assert response.status == status


async def test_operator_reads_and_opens_and_nothing_else(tmp_path: Path) -> None:
    token = {"hash": "guard-token", "role": "operator"}
    web = {"username": "admin", "password": "secret", "tokens": {"guard": token}}
    async with (
        PageSystem(tmp_path, web=web) as system,
        system.terminal("T1").running() as terminal,
        system.terminal("NEW1").running() as waiting,
        aiohttp.ClientSession(system.url) as session,
    ):
        await terminal.wait_connected()
        await waiting.wait_refused()
        async with session.get("/", headers=HTML) as response:
            assert (response.status, response.content_type) == (200, "text/html")
            assert response.url.path == "/login"
            assert "NEW1" not in await response.text()
        for path in ("/", "/terminals/T1", "/terminals/T1/open", "/connect"):
            async with session.get(path, headers=OPERATOR) as response:
                assert response.status == 200, path
                text = await response.text()
                assert "pending/NEW1" not in text
                assert "reboot" not in text
                assert "Show the password" not in text
        forbidden = ["/terminals/T1/reboot", "/terminals/T1/sync", "/pending/NEW1", "/terminals/T1/forget"]
        for path in forbidden:
            async with session.get(path, headers=OPERATOR) as response:
                assert response.status == 403, path
        for path in (*forbidden, "/pending/NEW1/refuse", "/terminals/T1/edit", "/connect"):
            async with session.post(path, data={"token": "x"}, headers=OPERATOR) as response:
                assert response.status == 403, path
        button = await token_in(session, "/terminals/T1/open", **OPERATOR)
        async with session.post("/terminals/T1/open", data={"token": button}, headers=OPERATOR) as response:
            assert response.status == 200
        assert terminal.opened == 1
        async with session.get("/terminals/T1/reboot", headers=ADMIN) as response:
            assert response.status == 200


async def test_removal_everywhere_reaches_groups_too(system: PageSystem, session: aiohttp.ClientSession) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        form = aiohttp.FormData({"id": "1001", "name": "Ada", "enabled": "yes", "on-group-lobby": "yes"})
        form.add_field("photo", sample_photo(1), filename="ada.jpg", content_type="image/jpeg")
        async with session.post("/person-new", data=form) as response:
            assert response.status == 200
        await until(lambda: "1001" in terminal.persons)
        assert await kept(session, "lobby") == 1
        async with session.get("/persons/1001", headers=HTML) as response:
            text = await response.text()
        assert "<dt>Groups</dt><dd>lobby" in text
        assert text.count("through the group lobby") == 2
        async with session.post("/persons/1001/remove", data={}) as response:
            assert response.status == 200
        await until(lambda: "1001" not in terminal.persons)
        assert await kept(session, "lobby") == 0


@pytest.mark.parametrize(("person_id", "part"), [("..", "~.."), (".", "~.")])
async def test_every_person_has_an_address(
    system: PageSystem, session: aiohttp.ClientSession, person_id: str, part: str
) -> None:
    form = aiohttp.FormData({"id": person_id, "name": "Ada", "enabled": "yes", "on-group-lobby": "yes"})
    form.add_field("photo", sample_photo(1), filename="ada.jpg", content_type="image/jpeg")
    async with session.post("/person-new", data=form, headers=HTML) as response:
        assert (response.status, response.url.path) == (200, f"/persons/{part}")
        text = await response.text()
        assert "<h1>Ada</h1>" in text
    for path in ("photo", "edit", "remove"):
        assert f"persons/{part}/{path}" in text
        async with session.get(f"/persons/{part}/{path}", headers=HTML) as response:
            assert response.status == 200
    async with session.get("/persons", headers=HTML) as response:
        assert f'href="./persons/{part}"' in await response.text()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana"])
async def test_the_first_and_the_last_time_are_shown(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for person_id, until, shown in (("1", "9999-12-31", "9999-12-31 23:59:59"), ("2", 0, 'datetime="19')):
            body = {"name": "Ada", "photo": PHOTO, "valid_until": until}
            async with session.put(f"/api/terminals/T1/persons/{person_id}", json=body) as response:
                assert response.status == 202
            async with session.get(f"/persons/{person_id}", headers=HTML) as response:
                assert response.status == 200
                assert shown in (await response.text()).split("<dt>Valid until</dt>")[1].split("</dd>")[0]
            async with session.get(f"/persons/{person_id}/edit", headers=HTML) as response:
                assert response.status == 200
                assert until == 0 or 'value="9999-12-31T23:59' in await response.text()
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_files_of_a_bridge_that_was_killed_are_deleted_at_the_start(tmp_path: Path) -> None:
    left = tmp_path / "facebridge-import-left"
    left.mkdir()
    (left / "persons.zip").write_text("faces")
    async with PageSystem(tmp_path):
        assert not left.exists()


async def test_a_group_without_members_can_be_chosen_for_an_import(
    system: PageSystem, session: aiohttp.ClientSession
) -> None:
    async with session.put("/api/groups/all/persons/p1", json={"id": "p1", "name": "Ada", "photo": PHOTO}) as response:
        assert response.status == 202
    async with session.get("/import", headers=HTML) as response:
        offered = await response.text()
    assert 'value="group:yard"' not in offered
    assert offered.count('value="group:all"') == 1
    approved = {"name": "Yard", "groups": ["yard"]}
    async with session.post("/api/pending/N1/admit", json=approved) as response:
        assert response.status == 200, await response.text()
    async with session.put("/api/groups/yard/persons/p1", json={"id": "p1", "name": "Ada", "photo": PHOTO}) as response:
        assert response.status == 202
    async with session.delete("/api/terminals/N1") as response:
        assert response.status == 200, await response.text()
    for path in ("/import", "/export"):
        async with session.get(path, headers=HTML) as response:
            assert 'value="group:yard"' in await response.text()


async def kept(session: aiohttp.ClientSession, group: str) -> int:
    async with session.get(f"/api/groups/{group}/persons") as response:
        total: int = (await response.json())["total"]
        return total


async def test_shared_parts_are_never_outdated_and_never_shared_across_views(
    system: PageSystem, session: aiohttp.ClientSession
) -> None:
    part = {**HTML, "HX-Request": "true", "X-Page-Root": "./"}

    async def text(path: str = "/", **headers: str) -> str:
        async with session.get(path, headers={**part, **headers}) as response:
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-store"
            return await response.text()

    assert "0 of 2 online" in await text()
    assert await text() == await text()
    assert "0 of 2 online" not in await text(**{"Accept-Language": "zh-CN"})
    assert "terminal-T1" not in await text("/?state=online")
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        assert "1 of 2 online" in await text()
        assert "terminal-T1" in await text("/?state=online")
        async with session.post("/api/terminals/T1/open") as response:
            assert response.status == 200
        assert "Open: done" in await text()
