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

_TICK_SECONDS = 0.02
"""Time between two portions of a flood. Each portion takes less than a millisecond."""

_MAX_TICK_SECONDS = 1.0
"""The same if many connections flood at once."""

_TCP_ESTABLISHED = 1
"""`tcpi_state`, the first byte of `struct tcp_info` (linux/tcp.h), while neither side has ended the connection."""

_FINAL_FRAME = 0x80
_CONTROL_FRAME = 0x08
_TEXT_MESSAGE = 0x81
"""Bits of a frame's first byte (RFC 6455, section 5.2), and this byte for a text message of one frame."""

_MASK_BYTES = 4

_MAX_SINGLE_BYTES = 4096
"""Largest text message that is passed at once; a larger one is decoded in a task, which lets others run."""

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


def read_single_text(data: bytes) -> bytes | None:
    """Return the payload if the bytes are one text message of less than 64 KiB from a client, and nothing else."""
    # The mask bit, and a length without or with two more bytes.
    if len(data) < 4 + _MASK_BYTES or data[0] != _TEXT_MESSAGE or not 0x80 < data[1] < 0xFF:
        return None
    size, start = data[1] & 0x7F, 2
    if size == 126:
        size, start = data[2] << 8 | data[3], 4
    if len(data) != start + _MASK_BYTES + size:
        return None
    mask, payload = data[start : start + _MASK_BYTES], data[start + _MASK_BYTES :]
    repeated = (mask * (size // _MASK_BYTES + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


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

    A text message that arrives alone, as the answer to a press does, goes to `on_text` at once. aiohttp's reader, its
    queue and a task took a quarter of the processor time of an open (measured).

    Attributes:
        on_text: called with such a message; None before the session begins.
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
        self.on_text: Callable[[bytes], None] | None = None

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
        if self.on_text is not None and self._scanner.is_between_messages and len(data) <= _MAX_SINGLE_BYTES:
            text = read_single_text(data)
            if text is not None and self._take(len(data)):
                self.on_text(text)
                return False, b""
        return self._pass(data), b""

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
        return position > 0 and bool(self._reader.feed_data(data[:position])[0])

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
        if transport is None:
            return True
        try:
            information = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:
            return True
        return bool(information[0] != _TCP_ESTABLISHED)

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
        """When the last frame began to arrive (`Clock.boottime`)."""
        assert self._pacer is not None
        return self._pacer.last_frame_at

    def pass_texts_to(self, on_text: Callable[[bytes], None]) -> None:
        """Pass each text message that arrives alone to this function."""
        assert self._pacer is not None
        self._pacer.on_text = on_text

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
