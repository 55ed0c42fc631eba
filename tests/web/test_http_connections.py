"""Connections of the HTTP server: garbage, slowness, numbers, and one request on each."""

import asyncio
import logging
import re
import socket

import aiohttp
import orjson
import pytest

from bridge.protocol.replies import TerminalReply
from bridge.web import connections
from tests.support.core import WrittenConnection
from tests.support.waiting import PATIENCE, until
from tests.support.web import Site

OPEN = b"POST /api/terminals/%s/open HTTP/1.1\r\nHost: localhost\r\n\r\n"

HEAD = (OPEN % b"T1")[:-2]

GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9\r\n\r\n",
    b"\0\r\n\r\n",
    b"POST /api/terminals/T1/open HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: x\r\n" * 100 + b"\r\n",
    HEAD + b"Content-Length: -1\r\n\r\n",
    HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_answered_in_json_and_leaves_no_traceback(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site()
    async with site.open() as session:
        answer = await site.send(garbage)
        assert re.match(rb"HTTP/1\.[01] 400 ", answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert orjson.loads(body)["errors"]
        assert re.findall(rb"\r\nServer: (.*)\r\n", head) == [b"facebridge"]
        async with session.get("/healthz") as response:
            assert response.status == 200
    assert site.connection.frames == []
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]


@pytest.mark.parametrize("part", [b"", b"POST /api/te", OPEN % b"T1" + b"x", HEAD + b"Content-Length: 5\r\n\r\n{"])
async def test_whoever_goes_away_half_way_leaves_no_traceback(part: bytes, caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    async with site.open() as session:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
            writer.write(part)
            await asyncio.sleep(0.01)
            writer.transport.abort()
        async with session.get("/healthz") as response:
            assert response.status == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]


@pytest.mark.parametrize("part", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"])
async def test_a_request_that_does_not_come_is_not_waited_for(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_REQUEST_PATIENCE", 0.2)
    site = Site()
    async with site.open():
        assert await site.send(part) == b""


async def test_a_press_sent_ahead_behind_another_is_not_carried_out() -> None:
    """It would wait until the first is answered, and open a door late without anybody noticing."""
    site = Site(deadline=5)
    waiting: list[str] = []
    slow = WrittenConnection(site.registry, "T2", waiting.append)
    async with site.open():
        site.registry.connected(slow)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        writer.write(OPEN % b"T2" + OPEN % b"T1")
        await until(lambda: waiting)
        writer.write(OPEN % b"T1")
        await asyncio.sleep(0.1)
        site.registry.received(slow, TerminalReply(waiting[0], None, 0, "ok"))
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert site.connection.frames == []


async def test_an_answer_that_needs_no_body_arrives_all_the_same() -> None:
    site = Site()
    async with site.open():
        head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        assert (await site.send(head, b"x" * 1_000_000)).startswith(b"HTTP/1.1 404 ")


async def test_idle_connections_make_room_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAXIMUM_CONNECTIONS", 5)
    site = Site()
    async with site.open() as session:
        idle = [await asyncio.open_connection("127.0.0.1", site.server.port) for _ in range(20)]
        for _ in range(3):
            async with session.get("/healthz") as response:
                assert response.status == 200
        assert site.server._connections is not None
        assert len(site.server._connections) <= 5
        # Well before they would have to go for being idle.
        async with asyncio.timeout(connections._REQUEST_PATIENCE / 2):
            for reader, _ in idle[:15]:
                assert await reader.read() == b""
        for _, writer in idle:
            writer.close()


async def test_connections_that_have_ended_are_forgotten() -> None:
    site = Site()
    async with site.open() as session:
        for _ in range(3):
            async with session.get("/healthz") as response:
                assert response.status == 200
            assert await site.send(b"garbage\r\n\r\n")
        await until(lambda: site.server._connections is not None and len(site.server._connections) == 0)


async def test_where_all_are_being_answered_the_new_one_is_turned_away_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MAXIMUM_CONNECTIONS", 3)
    site = Site(deadline=1)
    async with site.open() as session:
        silent = WrittenConnection(site.registry, "T1", lambda _: None)
        site.registry.connected(silent)
        presses = [asyncio.get_running_loop().create_task(session.post("/api/terminals/T1/open")) for _ in range(3)]
        await until(lambda: len(silent.frames) == 3)
        with pytest.raises(aiohttp.ClientError):
            await session.post("/api/terminals/T1/open")
        assert [(await press).status for press in presses] == [504] * 3
        async with session.get("/healthz") as response:
            assert response.status == 200
    assert len(silent.frames) == 3


async def test_answers_are_not_kept_framed_or_guessed_at() -> None:
    async with Site().open() as session:
        for path in ("/api/terminals", "/healthz", "/nothing", "/metrics"):
            async with session.get(path) as response:
                assert response.headers["Cache-Control"] == "no-store"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
                assert response.headers["Server"] == "facebridge"
                assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "/api/terminals/T1/close", 404, None),
        ("GET", "/api/nothing", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/api/terminals/", 404, None),
        ("POST", "/healthz", 405, "GET,HEAD"),
        ("GET", "/api/terminals/T1/open", 405, "POST"),
        ("OPTIONS", "/api/terminals/T1/open", 405, "POST"),
        ("DELETE", "/api/terminals", 405, "GET,HEAD"),
    ],
)
async def test_what_there_is_not_is_told_in_json(method: str, path: str, status: int, allow: str | None) -> None:
    async with Site().open() as session, session.request(method, path) as response:
        assert (response.status, response.headers.get("Allow")) == (status, allow)
        answer = await response.json()
    assert answer["outcome"] == "invalid"
    assert set(answer["errors"][0]) == {"path", "message"}


async def test_a_port_in_use_is_told_by_its_key() -> None:
    site = Site()
    async with site.open():
        other = Site(port=site.server.port)
        with pytest.raises(OSError, match=r"^web.port: cannot listen on 127.0.0.1:\d+: Address already in use$"):
            await other.server.start()
        other.verifier.close()


async def test_a_host_without_an_address_is_told() -> None:
    site = Site(host="nowhere.invalid")
    with pytest.raises(OSError, match=r"^web.port: cannot listen on nowhere.invalid:0: (?!Unknown)"):
        await site.server.start()
    site.verifier.close()


async def test_it_listens_on_every_address_of_its_host_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    async def two_addresses(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two_addresses)
    listeners = await connections.listen("two.example.org", 0)
    names = [listener.getsockname() for listener in listeners]
    for listener in listeners:
        listener.close()
    assert names == [("127.0.0.1", names[0][1]), ("127.0.0.2", names[0][1])]
