"""Bodies of HTTP requests: nothing parses one that no route takes."""

import asyncio

import orjson
import pytest
from aiohttp import web

from bridge.model.secret import Secret
from bridge.net.one_request import OneRequestConnection
from tests.support.waiting import TIMEOUT_SECONDS, until
from tests.support.web import WebServerUnderTest

CHUNKED = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"


def request(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/api/terminals"), ("HEAD", "/healthz")],
)
@pytest.mark.parametrize(
    ("header", "body"), [("Transfer-Encoding: chunked", CHUNKED), ("Content-Length: 1000000", b"x" * 1_000_000)]
)
async def test_a_body_is_refused_where_the_path_takes_none(method: str, path: str, header: str, body: bytes) -> None:
    site = WebServerUnderTest()
    async with site.open():
        answer = await site.send(request(method, path, header), body)
        assert answer.startswith(b"HTTP/1.1 400 ")
        if method == "GET":
            fault = {"path": "body", "message": "this path takes no body"}
            assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["errors"] == [fault]
        await until(lambda: site.server.open_connections == 0)


async def test_an_empty_body_is_no_body() -> None:
    site = WebServerUnderTest()
    async with site.open():
        head = request("GET", "/healthz", "Content-Length: 0", "Connection: close")
        assert (await site.send(head)).startswith(b"HTTP/1.1 200 ")


async def test_a_request_without_a_login_is_answered_before_its_body_is_read() -> None:
    site = WebServerUnderTest(username="admin", password=Secret("p"))
    async with site.open():
        head = request("POST", "/api/terminals/T1/open", "Content-Length: 100", "Content-Type: application/json")
        assert (await site.send(head)).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("part", [1, 7, 100, 1_000_000])
async def test_a_head_may_arrive_in_any_parts(part: int) -> None:
    site = WebServerUnderTest()
    async with site.open():
        sent = b"\r\n" + request(
            "POST", "/api/terminals/T1/open", "Content-Type: application/json", "Transfer-Encoding: chunked"
        )
        sent += b'5\r\n{"req\r\n10\r\nuest_id": "r-17"\r\n1\r\n}\r\n0\r\n\r\n'
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        for position in range(0, len(sent), part):
            writer.write(sent[position : position + part])
            await asyncio.sleep(0)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["request_id"] == "r-17"


async def test_a_body_in_tiny_chunks_is_too_large_like_any_other() -> None:
    site = WebServerUnderTest()
    async with site.open():
        head = request("POST", "/api/terminals/T1/open", "Content-Type: application/json", "Transfer-Encoding: chunked")
        assert (await site.send(head, CHUNKED)).startswith(b"HTTP/1.1 413 ")
    assert site.connection.frames == []


async def test_what_follows_the_head_is_not_parsed_before_the_handler_wants_it() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()
    parsed: list[int] = []

    async def handle(incoming: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await go_on.wait()
        parsed.append(incoming.content.total_bytes)
        connection = incoming.protocol
        assert isinstance(connection, OneRequestConnection)
        connection.parse_body(incoming.content, 600)
        parsed.append(len(await incoming.content.readany()))
        response = web.Response()
        response.force_close()
        return response

    loop = asyncio.get_running_loop()
    aiohttps = web.Server(handle)
    server = await loop.create_server(
        lambda: OneRequestConnection(aiohttps, max_head_bytes=1000, loop=loop, lingering_time=0), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request("POST", "/", "Transfer-Encoding: chunked") + CHUNKED)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await arrived.wait()
            go_on.set()
            assert (await reader.read(12)) == b"HTTP/1.1 200"
        writer.close()
    assert parsed == [0, 100]
