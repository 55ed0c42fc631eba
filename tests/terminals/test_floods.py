"""Terminals that flood: they are read more slowly, stay connected, and slow down no other terminal."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.admission import MAXIMUM_WAITING_TO_REGISTER
from bridge.model.commands import Open
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from bridge.simulator.terminal import SimulatedTerminal
from bridge.terminals.accepting import ACCEPTED_AT_ONCE
from bridge.terminals.pacing import FrameScanner, PacingLimits
from bridge.terminals.session import MAX_FRAME_BYTES, MAX_REPLY_BYTES
from tests.support.core import known_terminal
from tests.support.terminal_server import AUTHORIZATION, TerminalServerUnderTest
from tests.support.waiting import TIMEOUT_SECONDS, until

MASK = b"abcd"

HANDSHAKE = (
    "GET /devs/{sn} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Authorization: {AUTHORIZATION}\r\n\r\n"
)

TEXT, CONTINUATION, BINARY, PING, PONG = 1, 0, 2, 9, 10


def frame(opcode: int, length: int = 0, *, final: bool = True, masked: bool = True) -> bytes:
    """Return a frame; its payload does not matter."""
    first, mask_bit = opcode | (0x80 if final else 0), 0x80 if masked else 0
    if length < 126:
        head = bytes([first, mask_bit | length])
    elif length < 65536:
        head = bytes([first, mask_bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, mask_bit | 127]) + length.to_bytes(8, "big")
    return head + (MASK if masked else b"") + bytes(length)


FLOODS = {
    "empty continuation frames": (frame(TEXT, 1, final=False), frame(CONTINUATION, final=False) * 10_000),
    "fragments of one byte": (frame(BINARY, 1, final=False), frame(CONTINUATION, 1, final=False) * 10_000),
    "empty pings": (b"", frame(PING) * 10_000),
    "pongs": (b"", frame(PONG, 125) * 1_000),
    "frames of 64 KB": (b"", frame(TEXT, 65_000)),
    "large frames": (b"", frame(BINARY, MAX_FRAME_BYTES)),
}
FLOOD_BYTES = 24 << 20


@asynccontextmanager
async def upgraded(
    system: TerminalServerUnderTest, sn: str, behind: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect a terminal byte for byte; `behind` is sent together with the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
    writer.write(HANDSHAKE.format(sn=sn).encode() + behind)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    try:
        yield reader, writer
    finally:
        # RST instead of FIN, which the kernel would deliver behind the unread bytes.
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def press(system: TerminalServerUnderTest, sn: str) -> Reply:
    return await system.presses.press(sn, Open(), Origin(source="test"), system.clock.boottime())


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_one_terminal_delays_no_press_on_another(kind: str) -> None:
    first, repeated = FLOODS[kind]
    system = TerminalServerUnderTest(known_terminal("T1"), known_terminal("T2"))
    async with system.open(), SimulatedTerminal(system.terminal_url, "T2").running() as other:
        await other.wait_connected()
        async with upgraded(system, "T1") as (_, flood):
            flood.write(first + repeated * (FLOOD_BYTES // len(repeated)))
            for _ in range(50):
                assert (await press(system, "T2")).outcome is Outcome.OK
            assert flood.transport.get_write_buffer_size() > 0, "most of the flood is not even sent"
            assert system.server.statistics().slowed == 1
            known = system.registry.get("T1")
            assert known is not None
            assert known.connection is not None, "it is not cut off"
        assert other.connections == 1
        await until(lambda: system.server.statistics().slowed == 0)


async def test_many_flooding_terminals_together_delay_no_press_on_another() -> None:
    flooding = [f"F{number}" for number in range(40)]
    system = TerminalServerUnderTest(*(known_terminal(sn) for sn in flooding), known_terminal("T2"))
    flood = frame(TEXT, 1, final=False) + frame(CONTINUATION, final=False) * 500_000
    async with system.open(), SimulatedTerminal(system.terminal_url, "T2").running() as other:
        await other.wait_connected()
        connections = [await asyncio.open_connection("127.0.0.1", system.server.port) for _ in flooding]
        for sn, (_, writer) in zip(flooding, connections, strict=True):
            writer.write(HANDSHAKE.format(sn=sn).encode() + flood)
        await until(lambda: system.server.statistics().slowed == len(flooding))
        for _ in range(20):
            assert (await press(system, "T2")).outcome is Outcome.OK
        assert system.server.statistics().slowed == len(flooding)
        for _, writer in connections:
            writer.transport.abort()


async def test_more_terminals_than_half_open_connections_all_connect() -> None:
    # Each begins to connect before any of them sends its request, as after a power cut on a busy network.
    known = [known_terminal(f"T{number}") for number in range(30)]
    limits = {"max_half_open": 5, "handshake_seconds": 60}
    async with TerminalServerUnderTest(*known, limits=limits).open() as system:
        connections = [await asyncio.open_connection("127.0.0.1", system.server.port) for _ in known]
        await until(lambda: system.server.statistics().half_open == len(known))
        for terminal, (_, writer) in zip(known, connections, strict=True):
            writer.write(HANDSHAKE.format(sn=terminal.sn).encode())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for reader, _ in connections:
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert system.server.statistics().half_open == 0
        for _, writer in connections:
            writer.transport.abort()


@pytest.mark.parametrize("count", [ACCEPTED_AT_ONCE, ACCEPTED_AT_ONCE + 1, 2 * ACCEPTED_AT_ONCE + 1])
async def test_terminals_that_connect_at_the_same_moment_are_all_answered(count: int) -> None:
    known = [known_terminal(f"T{number}") for number in range(count)]
    async with TerminalServerUnderTest(*known, limits={"handshake_seconds": 60}).open() as system:
        # All of them wait in the kernel before the event loop runs again.
        sockets = [socket.create_connection(("127.0.0.1", system.server.port)) for _ in known]
        for terminal, one in zip(known, sockets, strict=True):
            one.sendall(HANDSHAKE.format(sn=terminal.sn).encode())
        await until(lambda: system.server.statistics().sessions == count)
        for one in sockets:
            one.close()


async def test_more_new_terminals_than_the_store_takes_at_once_wait_and_connect() -> None:
    limits = {"handshake_seconds": 60}
    system = TerminalServerUnderTest(admit="any", limits=limits)
    sns = [f"T{number}" for number in range(2 * MAXIMUM_WAITING_TO_REGISTER)]
    async with system.open():
        system.persons.may_follow.clear()
        connections = []
        for sn in sns:
            connections.append(await asyncio.open_connection("127.0.0.1", system.server.port))
            connections[-1][1].write(HANDSHAKE.format(sn=sn).encode())
        await until(lambda: system.server.statistics().half_open == len(sns))
        assert system.server.statistics().connections < len(sns), "the others wait before their handshake"
        system.persons.may_follow.set()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for reader, _ in connections:
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert len(system.registry) == len(sns)
        for _, writer in connections:
            writer.transport.abort()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_large_frame_is_dropped_and_counted(opcode: int, caplog: pytest.LogCaptureFixture) -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        async with upgraded(system, "T1") as (reader, writer):
            for length in (MAX_REPLY_BYTES + 1, MAX_FRAME_BYTES):
                writer.write(frame(opcode, length) + frame(PING))
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    assert await reader.readexactly(2) == frame(PONG, masked=False)
            assert system.server.statistics().non_replies == 2
        assert max(len(record.getMessage()) for record in caplog.records) < 200, "the log does not quote it"


async def test_frames_behind_the_handshake_are_paced_too() -> None:
    limits = {"pacing": PacingLimits(frame_burst=10, frames_per_second=1000)}
    async with TerminalServerUnderTest(known_terminal("T1"), limits=limits).open() as system:
        async with upgraded(system, "T1", behind=frame(PING) * 100) as (reader, _):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert await reader.readexactly(200) == frame(PONG, masked=False) * 100
        await until(lambda: system.server.statistics().slowed == 0)


async def test_a_terminal_that_is_read_slowly_is_not_idle() -> None:
    limits = {"pacing": PacingLimits(frame_burst=1, frames_per_second=1)}
    system = TerminalServerUnderTest(known_terminal("T1"), limits=limits, idle_timeout=0.3)
    async with system.open(), upgraded(system, "T1") as (_, writer):
        writer.write(frame(TEXT, 1, final=False) + frame(CONTINUATION, final=False) * 100)
        await asyncio.sleep(1)
        assert system.server.statistics().sessions == 1


@pytest.mark.parametrize("header", ["Content-Length: 1", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("upgrade", [True, False])
async def test_a_handshake_with_a_body_is_refused(header: str, upgrade: bool) -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        head = HANDSHAKE if upgrade else HANDSHAKE.replace("Connection: Upgrade\r\nUpgrade: websocket\r\n", "")
        reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
        writer.write(head.format(sn="T1")[:-2].encode() + f"{header}\r\n\r\n".encode())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"a handshake has no body\n")


async def test_bodies_of_unauthenticated_clients_delay_no_press() -> None:
    system = TerminalServerUnderTest(known_terminal("T1"))
    body = b"1\r\nx\r\n" * 500_000
    head = b"POST /devs/T1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    stop = asyncio.Event()
    answers: list[bytes] = []

    async def send_bodies() -> None:
        while not stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
            writer.write(head + body)
            try:
                answers.append(await reader.read(100))
            except ConnectionError:
                answers.append(b"")
            writer.transport.abort()

    async with system.open(), SimulatedTerminal(system.terminal_url, "T1").running() as terminal:
        await terminal.wait_connected()
        flood = [asyncio.get_running_loop().create_task(send_bodies()) for _ in range(60)]
        for _ in range(20):
            assert (await press(system, "T1")).outcome is Outcome.OK
        stop.set()
        await asyncio.gather(*flood)
        assert terminal.connections == 1
    assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 405", b""}


async def test_an_endless_head_times_out() -> None:
    async with TerminalServerUnderTest(known_terminal("T1"), limits={"handshake_seconds": 0.5}).open() as system:
        reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
        writer.write(b"GET /devs/T1 HTTP/1.1\r\n" + (b"X: " + b"x" * 8000 + b"\r\n") * 1000)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        await until(lambda: system.server.statistics().connections == 0)


def split(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    parts, position = [], 0
    for length in lengths:
        parts.append(data[position : position + length])
        position += length
    return [*parts, data[position:]]


FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT, CONTINUATION, BINARY, PING]),
    st.sampled_from([0, 1, 125, 126, 127, 300, 65_535, 65_536]),
    final=st.booleans(),
    masked=st.booleans(),
)


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 200), max_size=10), st.integers(0, 8))
def test_the_scanner_finds_each_frame_however_the_bytes_arrive(
    frames: list[bytes], lengths: list[int], max_frames: int
) -> None:
    scanner = FrameScanner()
    counted = consumed = 0
    for part in split(b"".join(frames), lengths):
        position, number = scanner.scan(part, max_frames - counted)
        counted += number
        consumed += position
        if position < len(part):
            break
    assert counted == min(max_frames, len(frames))
    assert consumed == sum(len(one) for one in frames[:max_frames])
