"""The parts of pages that scripts keep current, over HTTP: only changes are sent, also with 10,000 terminals."""

import re
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest

from tests.persons.person_system import PHOTO
from tests.support.core import RecordingConnection, known_terminal
from tests.support.waiting import until
from tests.support.web import WebServerUnderTest
from tests.web.page.page_system import PageSystem

HTML = {"Accept": "text/html"}
PART = {**HTML, "HX-Request": "true"}

TERMINALS = 10_000
MAX_LIST_BYTES = 6_000
"""Of the compressed first page, with 50 terminals."""
MAX_SNAPSHOT_BYTES = 2_000


@pytest.fixture
async def session(system: PageSystem) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(system.url) as session:
        yield session


async def etag_of(session: aiohttp.ClientSession, path: str) -> tuple[str, str]:
    """Return the root that a page's script names, and the ETag of the page's part."""
    async with session.get(path, headers=HTML) as response:
        assert response.status == 200
        found = re.search(r'<body data-root="([./]+)".*?data-etag="&#34;(\w+)&#34;"', await response.text(), re.DOTALL)
    assert found is not None, path
    return found[1], f'"{found[2]}"'


@pytest.mark.parametrize(
    "path",
    ["/", "/?q=door&state=offline", "/terminals/T1", "/persons", "/persons/p1", "/log?sn=T2", "/connect", "/health"],
)
async def test_script_gets_the_part_of_its_page_only_after_a_change(session: aiohttp.ClientSession, path: str) -> None:
    async with session.put("/api/terminals/T1/persons/p1", json={"name": "Ada", "photo": PHOTO}) as response:
        assert response.status == 202
    root, etag = await etag_of(session, path)
    for tag in (etag, f"W/{etag}"):
        async with session.get(path, headers={**PART, "X-Page-Root": root, "If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert int(response.headers["X-Page-Clock"]) > 0
            assert response.headers["Cache-Control"] == "no-store"
    async with session.get(path, headers={**PART, "X-Page-Root": root, "If-None-Match": '"other"'}) as response:
        assert (response.status, response.headers["ETag"]) == (200, etag)
        assert "<html" not in await response.text()


async def test_part_is_sent_again_after_a_change(system: PageSystem, session: aiohttp.ClientSession) -> None:
    root, etag = await etag_of(session, "/")
    headers = {**PART, "X-Page-Root": root, "If-None-Match": etag}
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        async with session.get("/", headers=headers) as response:
            assert response.status == 200
            assert response.headers["ETag"] != etag
            assert "1 of 2 online" in await response.text()


async def test_list_of_ten_thousand_terminals_sends_only_a_page() -> None:
    server = WebServerUnderTest(has_page=True)
    for number in range(TERMINALS - 2):
        server.registry.put(known_terminal(f"D{number:04}", name=f"Door {number:04}", groups=(f"g{number % 50}",)))
    server.registry.connected(RecordingConnection(server.registry, "D9000"))
    async with server.open(), aiohttp.ClientSession(server.url, auto_decompress=False) as session:
        async with session.get("/", headers={**HTML, "Accept-Encoding": "gzip"}) as response:
            assert len(await response.read()) < MAX_LIST_BYTES
        async with session.get("/", headers={**HTML, "Accept-Encoding": "identity"}) as response:
            text = await response.text()
        assert text.count('<li id="terminal-') == 50
        assert "Page 1 of 200" in text
        assert "2 of 10000 online" in text
        for query, sns in (
            ("q=door+9997", ["D9997"]),
            ("q=g7&page=4", [f"D{number:04}" for number in range(7507, TERMINALS, 50)]),
            ("state=online", ["D9000", "T1"]),
            ("state=online&q=DOOR+9", ["D9000"]),
            ("state=offline&page=200", [*(f"D{number:04}" for number in range(9951, 9998)), "T2"]),
        ):
            async with session.get(f"/?{query}", headers={**HTML, "Accept-Encoding": "identity"}) as response:
                text = await response.text()
            assert re.findall(r'<li id="terminal-(\w+)"', text) == sns, query


async def test_stream_of_the_list_begins_without_the_states_of_its_terminals() -> None:
    server = WebServerUnderTest(has_page=True)
    for number in range(TERMINALS):
        server.registry.put(known_terminal(f"D{number:04}"))
    async with server.open(), aiohttp.ClientSession(server.url) as session:
        async with session.get("/", headers=HTML) as response:
            stream = re.search(r'data-stream="\./([^"]+)"', await response.text())
        assert stream is not None
        async with session.get("/" + stream[1].replace("&amp;", "&")) as events:
            assert events.status == 200
            await events.content.readuntil(b"event: snapshot\n")
            await events.content.readuntil(b"data: ")
            data = await events.content.readuntil(b"\n\n")
            assert len(data) < MAX_SNAPSHOT_BYTES
            assert orjson.loads(data)["terminals"] == []
            # Changes of the terminals on the page come nevertheless, and of no other.
            await until(lambda: server.server.open_streams == 1)
            for sn in ("D9999", "D0001"):
                server.registry.connected(RecordingConnection(server.registry, sn))
            await events.content.readuntil(b"event: terminal\n")
            await events.content.readuntil(b"data: ")
            assert orjson.loads(await events.content.readline())["sn"] == "D0001"
