"""Connections of the HTTP server: malformed and slow requests, limits, and which connections are used again."""

import asyncio
import logging
import re

import aiohttp
import orjson
import pytest

from bridge.net.listening import ListenError
from bridge.protocol.replies import TerminalReply
from bridge.web.context import WebLimits
from tests.support.core import RecordingConnection
from tests.support.waiting import TIMEOUT_SECONDS, until
from tests.support.web import WebServerUnderTest

OPEN = b"POST /api/terminals/%s/open HTTP/1.1\r\nHost: localhost\r\n\r\n"

HEAD = (OPEN % b"T1")[:-2]


async def response_on(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return head and body of the next response of a connection."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert found is not None, head
        return head, await reader.readexactly(int(found[1]))


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
async def test_a_malformed_request_is_answered_in_json_and_leaves_no_traceback(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site = WebServerUnderTest()
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
async def test_a_client_that_disconnects_during_a_request_leaves_no_traceback(
    part: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site = WebServerUnderTest()
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
async def test_an_incomplete_request_times_out(part: bytes) -> None:
    site = WebServerUnderTest(limits=WebLimits(request_seconds=0.2))
    async with site.open():
        assert await site.send(part) == b""


async def test_a_pipelined_press_is_not_carried_out() -> None:
    """It would wait unnoticed until the first press is answered, and then open the door late."""
    site = WebServerUnderTest(deadline=5)
    waiting: list[str] = []
    slow = RecordingConnection(site.registry, "T2", waiting.append)
    async with site.open():
        site.registry.connected(slow)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        writer.write(OPEN % b"T2" + OPEN % b"T1")
        await until(lambda: waiting)
        writer.write(OPEN % b"T1")
        await asyncio.sleep(0.1)
        site.registry.received(slow, TerminalReply(waiting[0], None, 0, "ok"))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert site.connection.frames == []


async def test_reading_uses_a_connection_again_and_a_press_is_its_last_request() -> None:
    site = WebServerUnderTest()
    async with site.open():
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        for path in (b"/healthz", b"/api/terminals", b"/api/terminals/T9", b"/nothing", b"/healthz"):
            writer.write(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
            head, _ = await response_on(reader)
            assert b"Connection: close" not in head
        writer.write(OPEN % b"T1")
        head, _ = await response_on(reader)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in head
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await reader.read() == b""
        writer.close()
    assert len(site.connection.frames) == 1


async def test_a_press_that_is_pipelined_behind_a_read_is_not_carried_out() -> None:
    site = WebServerUnderTest()
    asked, answered = asyncio.Event(), asyncio.Event()

    async def query() -> bool:
        asked.set()
        await answered.wait()
        return True

    site.store_reachable = query
    async with site.open():
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n" + OPEN % b"T1")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asked.wait()
            answered.set()
            answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert site.connection.frames == []


async def test_an_unused_connection_is_closed() -> None:
    site = WebServerUnderTest(limits=WebLimits(request_seconds=0.2))
    async with site.open():
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await response_on(reader)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("earlier", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_the_age_of_a_press_counts_from_its_first_byte(earlier: bytes) -> None:
    site = WebServerUnderTest(deadline=1)
    async with site.open():
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        if earlier:
            writer.write(earlier)
            await response_on(reader)
        writer.write(HEAD)
        await asyncio.sleep(1.2)
        writer.write(b"\r\n")
        head, body = await response_on(reader)
        writer.close()
    assert head.startswith(b"HTTP/1.1 504 ")
    assert orjson.loads(body)["outcome"] == "expired"
    assert site.connection.frames == []


async def test_a_response_arrives_although_the_body_was_not_read() -> None:
    site = WebServerUnderTest()
    async with site.open():
        head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        assert (await site.send(head, b"x" * 1_000_000)).startswith(b"HTTP/1.1 404 ")


async def test_too_many_idle_connections_close_the_oldest() -> None:
    limits = WebLimits(max_connections=5)
    site = WebServerUnderTest(limits=limits)
    async with site.open() as session:
        idle = [await asyncio.open_connection("127.0.0.1", site.server.port) for _ in range(20)]
        for _ in range(3):
            async with session.get("/healthz") as response:
                assert response.status == 200
        assert site.server.open_connections <= 5
        # Well before their time-out.
        async with asyncio.timeout(limits.request_seconds / 2):
            for reader, _ in idle[:15]:
                assert await reader.read() == b""
        for _, writer in idle:
            writer.close()


async def test_ended_connections_are_forgotten() -> None:
    site = WebServerUnderTest()
    async with site.open() as session:
        for _ in range(3):
            async with session.get("/healthz") as response:
                assert response.status == 200
            assert await site.send(b"garbage\r\n\r\n")
        await session.close()
        await until(lambda: site.server.open_connections == 0)


async def test_a_new_connection_is_closed_at_once_if_all_others_have_running_requests() -> None:
    site = WebServerUnderTest(deadline=3, limits=WebLimits(max_connections=3))
    async with site.open() as session:
        silent = RecordingConnection(site.registry, "T1", lambda _: None)
        site.registry.connected(silent)
        presses = [asyncio.get_running_loop().create_task(session.post("/api/terminals/T1/open")) for _ in range(3)]
        await until(lambda: len(silent.frames) == 3)
        with pytest.raises(aiohttp.ClientError):
            await session.post("/api/terminals/T1/open")
        assert [(await press).status for press in presses] == [504] * 3
        async with session.get("/healthz") as response:
            assert response.status == 200
    assert len(silent.frames) == 3


async def test_every_response_has_the_security_headers() -> None:
    async with WebServerUnderTest().open() as session:
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
async def test_unknown_paths_and_methods_are_answered_in_json(
    method: str, path: str, status: int, allow: str | None
) -> None:
    async with WebServerUnderTest().open() as session, session.request(method, path) as response:
        assert (response.status, response.headers.get("Allow")) == (status, allow)
        answer = await response.json()
    assert answer["outcome"] == "invalid"
    assert set(answer["errors"][0]) == {"path", "message"}


async def test_a_port_in_use_is_named_by_its_key() -> None:
    site = WebServerUnderTest()
    async with site.open():
        other = WebServerUnderTest(port=site.server.port)
        with pytest.raises(ListenError, match=r"^web.port: cannot listen on 127.0.0.1:\d+: Address already in use\."):
            await other.server.start()
        other.verifier.close()


async def test_an_unknown_host_is_an_error() -> None:
    site = WebServerUnderTest(host="nowhere.invalid")
    with pytest.raises(ListenError, match=r"^web.port: cannot listen on nowhere.invalid:0: (?!Unknown)"):
        await site.server.start()
    site.verifier.close()
