"""An ended connection leaves no cyclic garbage, which the rare garbage collection would keep for hours."""

import asyncio
import gc
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from bridge.terminals.pacing import TerminalConnection
from bridge.terminals.session import Session
from tests.support.core import known_terminal
from tests.support.terminal_server import AUTHORIZATION, TerminalServerUnderTest, issue_certificate
from tests.support.waiting import TIMEOUT_SECONDS, until
from tests.terminals.test_floods import HANDSHAKE, PING, TEXT, frame

CLOSE = 8

Writer = asyncio.StreamWriter


def reset(writer: Writer) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def close(writer: Writer) -> None:
    writer.close()


def send_close_frame(writer: Writer) -> None:
    writer.write(frame(CLOSE))
    writer.close()


def send_invalid_frame(writer: Writer) -> None:
    writer.write(frame(PING, 200))


def send_half_a_message(writer: Writer) -> None:
    writer.write(frame(TEXT, 10, final=False))
    writer.close()


ENDS = (close, send_close_frame, reset, send_invalid_frame, send_half_a_message)


@pytest.fixture
def without_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def objects_of_connections() -> list[str]:
    kinds = (TerminalConnection, Session)
    return [type(one).__name__ for one in gc.get_objects() if type(one) in kinds]


async def connect(
    system: TerminalServerUnderTest, handshake: str, tls: ssl.SSLContext | None = None
) -> tuple[Writer, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port, ssl=tls)
    writer.write(handshake.encode())
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return writer, await reader.readuntil(b"\r\n\r\n")


@pytest.mark.usefixtures("without_collection")
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
async def test_an_ended_connection_leaves_nothing(
    tmp_path: Path, end: Callable[[Writer], None], *, has_tls: bool
) -> None:
    authority = trustme.CA()
    tls = issue_certificate(tmp_path, authority) if has_tls else None
    client = ssl.create_default_context() if has_tls else None
    if client is not None:
        authority.configure_trust(client)
    async with TerminalServerUnderTest(known_terminal("T1"), tls=tls).open() as system:
        writer, response = await connect(system, HANDSHAKE.format(sn="T1"), client)
        assert response.startswith(b"HTTP/1.1 101")
        await until(lambda: system.server.statistics().sessions == 1)
        assert sorted(objects_of_connections()) == ["Session", "TerminalConnection"]
        end(writer)
        await until(lambda: system.server.statistics().connections == 0)
        writer.close()
        await until(lambda: not objects_of_connections())


@pytest.mark.usefixtures("without_collection")
async def test_a_connection_that_the_bridge_ends_leaves_nothing() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        first, _ = await connect(system, HANDSHAKE.format(sn="T1"))
        second, _ = await connect(system, HANDSHAKE.format(sn="T1"))
        await until(lambda: system.server.statistics().connections == 1)
        await until(lambda: sorted(objects_of_connections()) == ["Session", "TerminalConnection"])
        await system.server.stop()
        await until(lambda: not objects_of_connections())
        first.close()
        second.close()


@pytest.mark.usefixtures("without_collection")
async def test_a_refused_handshake_leaves_nothing() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        writer, response = await connect(system, HANDSHAKE.format(sn="T1").replace(AUTHORIZATION, "Basic eDp5"))
        assert response.startswith(b"HTTP/1.1 401")
        writer.close()
        await until(lambda: system.server.statistics().connections == 0)
        await until(lambda: not objects_of_connections())
