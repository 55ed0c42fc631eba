"""Pacing of terminals that flood: their frames are read more slowly, so that other terminals do not wait."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp.http import WebSocketReader
from aiohttp.web import BaseRequest

from bridge.core.clock import Clock
from bridge.net.one_request import OneRequestConnection
from bridge.terminals.accepting import has_ended

_TICK_SECONDS = 0.02
"""Time between two portions of a flood. Each portion takes less than a millisecond."""

_MAX_TICK_SECONDS = 1.0
"""The same if many connections flood at once."""

_FINAL_FRAME = 0x80
_CONTROL_FRAME = 0x08
"""Bits of a frame's first byte (RFC 6455, section 5.2)."""

TEXT, PING, PONG = 0x81, 0x89, 0x8A
"""The first byte of a message of one frame."""

_SINGLE_FRAMES = frozenset((TEXT, PING, PONG))

_LONG_PAYLOAD, _VERY_LONG_PAYLOAD = 126, 127
"""Lengths of a payload that say that its length follows in two or eight bytes."""

_MASKED = 0x80
"""The bit of a header's second byte that says that the payload is masked."""

_MASK_BYTES = 4

_MAX_SINGLE_BYTES = 4096
"""Largest message that is passed at once; a larger one is decoded in a task, which lets others run."""

_MAX_HEAD_BYTES = 16_384
"""Largest head of a handshake; terminals send some hundred bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacingLimits:
    """What one terminal may send before its bytes wait.

    Attributes:
        frame_burst: frames that are read at once: more than a terminal has to say after an outage.
        frames_per_second: frames that are read in the long run: far more than a terminal needs, and a twentieth of a
            processor. Control frames and continuation frames count too.
        byte_burst: bytes that are read at once: two frames of the largest size.
        bytes_per_second: bytes that are read in the long run.
    """

    frame_burst: int = 5000
    frames_per_second: int = 1000
    byte_burst: int = 2 << 20
    bytes_per_second: int = 1 << 20


class FrameScanner:
    """Finds the boundaries of WebSocket frames (RFC 6455, section 5.2) without reading their content.

    Attributes:
        in_message: whether the last data frame is to be continued by another one.
    """

    def __init__(self) -> None:
        self.in_message = False
        self._header = bytearray()
        self._payload_left = 0

    @property
    def is_between_messages(self) -> bool:
        """Whether the next byte begins a message."""
        return not (self._payload_left or self._header or self.in_message)

    def scan(self, data: bytes, max_frames: int) -> tuple[int, int]:
        """Read on in the byte stream.

        Args:
            data: the next bytes.
            max_frames: stop before the header of a further frame.

        Returns:
            The number of bytes that were read, and how many frames begin in them.
        """
        position = frames = 0
        while position < len(data):
            if self._payload_left:
                step = min(self._payload_left, len(data) - position)
                self._payload_left -= step
                position += step
                continue
            if not self._header:
                if frames >= max_frames:
                    break
                frames += 1
            missing = _header_bytes(self._header) - len(self._header)
            self._header += data[position : position + missing]
            position += min(missing, len(data) - position)
            if len(self._header) == _header_bytes(self._header):
                self._payload_left = _payload_bytes(self._header)
                if not self._header[0] & _CONTROL_FRAME:
                    self.in_message = not self._header[0] & _FINAL_FRAME
                self._header.clear()
        return position, frames


def read_single_frame(data: bytes) -> tuple[int, bytes] | None:
    """Return the first byte and the payload if the bytes are one whole message from a client, and nothing else.

    Only for text of less than 64 KiB, pings and pongs.
    """
    if len(data) < 2 + _MASK_BYTES or data[0] not in _SINGLE_FRAMES or not data[1] & _MASKED:
        return None
    size, start = data[1] & ~_MASKED, 2
    if size == _LONG_PAYLOAD and data[0] == TEXT:
        size, start = data[2] << 8 | data[3], 4
    elif size >= _LONG_PAYLOAD:
        return None
    if len(data) != start + _MASK_BYTES + size:
        return None
    if not size:
        return data[0], b""
    mask, payload = data[start : start + _MASK_BYTES], data[start + _MASK_BYTES :]
    repeated = (mask * (size // _MASK_BYTES + 1))[:size]
    return data[0], (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def _header_bytes(header: bytearray) -> int:
    """Return the length of a header, as far as its beginning says it."""
    if len(header) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(header[1] & 0x7F, 0)
    return 2 + extended + (4 if header[1] & 0x80 else 0)


def _payload_bytes(header: bytearray) -> int:
    length = header[1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(header[2:4] if length == 126 else header[2:10], "big")


class Pacing:
    """The limits of all connections. Those beyond their limit share the speed of one."""

    def __init__(self, limits: PacingLimits, clock: Clock) -> None:
        self.limits = limits
        self.clock = clock
        self._slowed: set[FramePacer] = set()

    @property
    def slowed(self) -> int:
        """How many connections are read more slowly than they send."""
        return len(self._slowed)

    def add(self, pacer: "FramePacer") -> None:
        """Count a connection that is beyond its limit."""
        self._slowed.add(pacer)

    def remove(self, pacer: "FramePacer") -> None:
        """Stop counting a connection."""
        self._slowed.discard(pacer)


class FramePacer:
    """Stands between the socket and aiohttp's WebSocket reader; keeps what is beyond the limit for later.

    A message that arrives alone, as a ping and the answer to a press do, goes to `on_single_frame` at once. aiohttp's
    reader, its queue and a task took a quarter of the processor time of an open, and half of that of a ping (measured).

    Attributes:
        on_single_frame: called with the first byte and the payload of such a message; None before the session begins.
    """

    def __init__(self, reader: WebSocketReader, connection: OneRequestConnection, pacing: Pacing) -> None:
        """Build the pacer of one connection.

        Args:
            reader: aiohttp's reader.
            connection: is held while bytes wait.
            pacing: the limits.
        """
        self._reader = reader
        self._connection = connection
        self._pacing = pacing
        self._scanner = FrameScanner()
        self._waiting = bytearray()
        self._frames_left = float(pacing.limits.frame_burst)
        self._bytes_left = float(pacing.limits.byte_burst)
        self._earned_at = pacing.clock.boottime()
        self._last_frame_at = self._earned_at
        self._timer: asyncio.TimerHandle | None = None
        self.on_single_frame: Callable[[int, bytes], None] | None = None

    @property
    def last_frame_at(self) -> float:
        """When the last frame began to arrive (`Clock.boottime`). Waiting bytes count as arriving now."""
        return self._pacing.clock.boottime() if self._waiting else self._last_frame_at

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass bytes to the reader as far as the limits allow; aiohttp's interface of a reader."""
        if self._waiting:
            self._waiting += data
            self._connection.hold()
            return False, b""
        return self._pass(data), b""

    def pass_single_frame(self, data: bytes) -> bool:
        """Pass bytes to `on_single_frame`; return False if they are not one message, or may not be passed now."""
        if (
            self.on_single_frame is None
            or self._waiting
            or len(data) > _MAX_SINGLE_BYTES
            or not self._scanner.is_between_messages
        ):
            return False
        frame = read_single_frame(data)
        if frame is None or not self._take(len(data)):
            return False
        self.on_single_frame(*frame)
        return True

    def feed_eof(self) -> None:
        """End with the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._pacing.remove(self)
        self._waiting.clear()
        self._reader.feed_eof()

    def _take(self, size: int) -> bool:
        """Count one frame of this size; return False if it is beyond the limits."""
        self._earn()
        if self._frames_left < 1 or self._bytes_left < size or self._timer is not None:
            return False
        self._frames_left -= 1
        self._bytes_left -= size
        self._last_frame_at = self._earned_at
        return True

    def _pass(self, data: bytes) -> bool:
        """Pass what may be passed, and keep the rest; return whether the reader wants no more."""
        self._earn()
        allowed = data if len(data) <= self._bytes_left else data[: int(self._bytes_left)]
        position, frames = self._scanner.scan(allowed, int(self._frames_left))
        self._frames_left -= frames
        self._bytes_left -= position
        if frames:
            self._last_frame_at = self._earned_at
        if position < len(data):
            self._waiting += data[position:]
            self._connection.hold()
            self._pacing.add(self)
            delay = min(_MAX_TICK_SECONDS, _TICK_SECONDS * self._pacing.slowed)
            self._timer = asyncio.get_running_loop().call_later(delay, self._continue)
        elif self._timer is not None:
            self._timer = None
            self._pacing.remove(self)
        if not position or not self._reader.feed_data(data[:position])[0]:
            return False
        # What follows a frame that is not valid is not read (RFC 6455, section 7.1.7).
        self.on_single_frame = None
        return True

    def _continue(self) -> None:
        if self._has_ended():
            # While the connection is held, the event loop does not notice its end.
            self._abort()
            return
        waiting = bytes(self._waiting)
        self._waiting.clear()
        if self._pass(waiting):
            self._connection.close()
        if not self._waiting:
            self._connection.release()

    def _has_ended(self) -> bool:
        transport = self._connection.transport
        return transport is None or has_ended(transport.get_extra_info("socket"))

    def _abort(self) -> None:
        if self._connection.transport is not None:
            self._connection.transport.abort()

    def _earn(self) -> None:
        limits, now = self._pacing.limits, self._pacing.clock.boottime()
        # A timer means that this connection is slowed, so it is one of those that share.
        share = self._pacing.slowed if self._timer is not None else 1
        earned = (now - self._earned_at) / share
        self._earned_at = now
        self._frames_left = min(limits.frame_burst, self._frames_left + earned * limits.frames_per_second)
        self._bytes_left = min(limits.byte_burst, self._bytes_left + earned * limits.bytes_per_second)


class TerminalConnection(OneRequestConnection):
    """The connection of a client on the terminals' port: a head without a body, then paced WebSocket frames.

    Attributes:
        socket: its socket, which belongs to the transport.
    """

    def __init__(self, server: Any, pacing: Pacing, connection: socket.socket, **settings: Any) -> None:
        super().__init__(server, max_head_bytes=_MAX_HEAD_BYTES, **settings)
        self.socket = connection
        self._pacing = pacing
        self._pacer: FramePacer | None = None

    @property
    def last_frame_at(self) -> float:
        """When the last frame began to arrive (`Clock.boottime`); now if the connection has ended."""
        return self._pacing.clock.boottime() if self._pacer is None else self._pacer.last_frame_at

    def pass_single_frames_to(self, on_single_frame: Callable[[int, bytes], None]) -> None:
        """Pass the first byte and the payload of each message that arrives alone to this function."""
        if self._pacer is not None:
            self._pacer.on_single_frame = on_single_frame

    def data_received(self, data: bytes) -> None:
        """Pass a message that arrives alone to the session, and everything else to aiohttp."""
        if self._pacer is None or not self._pacer.pass_single_frame(data):
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the session and the rest of the connection.

        They refer to each other. The garbage collector would find their 14 KB only after hours, because it rarely looks
        at old objects (`bridge/app.py`).
        """
        super().connection_lost(exc)
        self._pacer = None

    def set_parser(self, parser: WebSocketReader, data_received_cb: Callable[[], None] | None = None) -> None:
        """Begin to read frames; aiohttp calls this after its response to the handshake."""
        self._pacer = FramePacer(parser, self, self._pacing)
        super().set_parser(self._pacer, data_received_cb)  # type: ignore[arg-type]  # it has a reader's interface
        self.parse_rest()


def connection_of(request: BaseRequest) -> TerminalConnection:
    """Return the connection of a request to the terminal server."""
    connection = request.protocol
    assert isinstance(connection, TerminalConnection)
    return connection
