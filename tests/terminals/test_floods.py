"""Terminals that flood: they are read more slowly, stay connected, and slow down no other terminal."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import WebSocketReader
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.admission import MAXIMUM_WAITING_TO_REGISTER
from bridge.model.commands import Open
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from bridge.protocol.requests import decode_request
from bridge.simulator.terminal import SimulatedTerminal
from bridge.terminals.accepting import ACCEPTED_AT_ONCE
from bridge.terminals.pacing import FrameScanner, PacingLimits, read_single_frame
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
        with suppress(OSError, AttributeError):
            # The server may have ended the connection already.
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
            await until(lambda: system.server.statistics().slowed == 1)
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


def masked_text(payload: bytes, first: int = 0x80 | TEXT) -> bytes:
    head = bytes((first, 0x80 | len(payload))) if len(payload) < 126 else b"%c\xfe" % first + len(payload).to_bytes(2)
    return head + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))


MESSAGES = {0x81: WSMsgType.TEXT, 0x89: WSMsgType.PING, 0x8A: WSMsgType.PONG}
"""The first byte of a message of one frame, and how aiohttp names its type."""


@given(
    first=st.sampled_from([0x81, 0x81, 0x81, 0x01, 0x80, 0x82, 0x89, 0xC1]) | st.integers(0, 255),
    second=st.none() | st.integers(0, 255),
    payload=st.binary(max_size=300),
    behind=st.binary(max_size=3),
)
@example(first=0x81, second=None, payload=b'{"msgid": "1"}', behind=b"")
@example(first=0x81, second=None, payload=b"x" * 125, behind=b"")
@example(first=0x81, second=None, payload=b"x" * 126, behind=b"")
@example(first=0x81, second=0xFF, payload=b"x" * 127, behind=b"")
@example(first=0x89, second=None, payload=b"", behind=b"")
@example(first=0x89, second=None, payload=b"x" * 125, behind=b"")
@example(first=0x89, second=None, payload=b"x" * 126, behind=b"")
@example(first=0x8A, second=None, payload=b"x", behind=b"")
@example(first=0x81, second=0x7E, payload=b"x" * 254, behind=b"")
def test_a_message_that_is_read_without_aiohttp_is_what_aiohttp_reads(
    first: int, second: int | None, payload: bytes, behind: bytes
) -> None:
    loop = asyncio.new_event_loop()
    try:
        data = masked_text(payload, first) + behind
        if second is not None:
            data = data[:1] + bytes((second,)) + data[2:]
        queue = WebSocketDataQueue(BaseProtocol(loop), 1 << 16, loop=loop)
        reader = WebSocketReader(queue, MAX_FRAME_BYTES, compress=False, decode_text=False)
        frame = read_single_frame(data)
        if frame is None:
            is_too_long = first != 0x81 and len(payload) > 125
            assert first not in MESSAGES or second is not None or behind or is_too_long
            return
        reader.feed_data(data)
        message = loop.run_until_complete(queue.read())
        assert (message.type, message.data) == (MESSAGES[first], frame[1])
        assert frame[0] == first
    finally:
        loop.close()


def answer(msgid: str) -> bytes:
    return b'{"msgid": "%s", "sn": "T1", "msg": {"status": 0, "msg": "ok"}}' % msgid.encode()


@pytest.mark.parametrize("pieces", [1, 2, 9])
async def test_an_answer_is_read_however_its_bytes_arrive(pieces: int) -> None:
    async with (
        TerminalServerUnderTest(known_terminal("T1")).open() as system,
        upgraded(system, "T1") as (reader, writer),
    ):
        for _ in range(3):
            pressing = asyncio.get_running_loop().create_task(press(system, "T1"))
            async with asyncio.timeout(TIMEOUT_SECONDS):
                head = await reader.readexactly(2)
                size = head[1] if head[1] < 126 else int.from_bytes(await reader.readexactly(2))
                request = await reader.readexactly(size)
            sent = masked_text(answer(decode_request(request).msgid))
            step = -(-len(sent) // pieces)
            for start in range(0, len(sent), step):
                writer.write(sent[start : start + step])
                await asyncio.sleep(0.01)
            assert (await pressing).outcome is Outcome.OK


async def test_a_message_inside_a_fragmented_one_ends_the_connection() -> None:
    """A text of one frame must not overtake the checks of aiohttp's reader (RFC 6455, section 5.4)."""
    async with (
        TerminalServerUnderTest(known_terminal("T1")).open() as system,
        upgraded(system, "T1") as (reader, writer),
    ):
        writer.write(masked_text(b"begin", TEXT))
        await asyncio.sleep(0.05)
        writer.write(masked_text(answer("m1")))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with suppress(ConnectionResetError):
                await reader.read()
            known = system.registry.get("T1")
            assert known is not None
            await until(lambda: known.connection is None)
        assert known.unknown_replies == 0


async def test_texts_that_arrive_alone_count_as_frames_for_the_idle_time() -> None:
    async with (
        TerminalServerUnderTest(known_terminal("T1"), idle_timeout=2.4).open() as system,
        upgraded(system, "T1") as (reader, writer),
    ):
        known = system.registry.get("T1")
        assert known is not None
        for _ in range(30):
            writer.write(masked_text(answer("m1")))
            await asyncio.sleep(0.1)
        assert known.connection is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert (await reader.readexactly(2))[0] == 0x80 | PING
            await until(lambda: known.connection is None)


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
