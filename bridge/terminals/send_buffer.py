"""Delivery state of the bytes that were written to a connection.

Written bytes can be in user space (the transport's buffer), in this machine's kernel, or on their way. The bytes that
the peer's kernel has acknowledged are delivered. The bytes that TCP has not transmitted never arrive if the connection
is reset. Bytes in between may arrive (docs/promises.md).
"""

import asyncio
import errno
import fcntl
import socket
import struct
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bridge.core.ports import WrittenFrame

_TCP_INFO = struct.Struct("=120xQ16xI80xI")
"""Three fields of `struct tcp_info` (linux/tcp.h): `tcpi_bytes_acked` at octet 120, `tcpi_notsent_bytes` at 144 and
`tcpi_snd_wnd` at 228. A kernel before Linux 5.4 leaves out the last one."""

_WINDOW_OFFSET = 228
_UNKNOWN_WINDOW = 1 << 30
"""Used if the kernel does not report the peer's window: larger than any window (RFC 7323, section 2.3)."""

MAX_UNACKNOWLEDGED_BYTES = 4096
"""A press is written only if at most this many bytes are unacknowledged. It must be more than zero: a peer may
acknowledge the end of a frame up to 40 ms late (delayed acknowledgement), and presses may follow each other within one
round trip. It must be small: these bytes reach the terminal before the press, also while the bridge is frozen."""

_FRAME_OVERHEAD_BYTES = 64
"""Upper limit of what TLS adds to a press (22 bytes)."""

_LINGER = struct.Struct("ii")
"""`struct linger` (socket(7)): on or off, seconds."""
_DISCARD = (1, 0)
"""Linger for zero seconds: closing sends RST and discards unacknowledged bytes."""
_DELIVER = (0, 0)
"""No linger: closing sends FIN after the unacknowledged bytes, which the kernel goes on delivering."""

_TIMED_OUT = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
"""Errors with which TCP_USER_TIMEOUT ends a connection: ETIMEDOUT, or the last error of the network. Seen with a
pulled cable: ETIMEDOUT in the first three seconds, EHOSTUNREACH once the neighbour did not answer."""


def configure_socket(connection: Any, timeout_seconds: float) -> None:
    """Let a socket send at once, and let it fail when sent bytes stay unacknowledged for `timeout_seconds`."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_seconds * 1000))


def has_timed_out(error: BaseException | None) -> bool:
    """Return whether this machine's kernel ended a connection (and discarded its bytes), rather than the peer."""
    return isinstance(error, OSError) and error.errno in _TIMED_OUT


@dataclass(slots=True, eq=False)
class _KernelState:
    """What the kernel reports about the outgoing bytes at one moment.

    Attributes:
        acknowledged: the number of acknowledged bytes, from the start of the connection.
        unacknowledged: bytes in the kernel that are not acknowledged, transmitted or not.
        not_transmitted: those of them that TCP has not transmitted yet.
        window: how many bytes from `acknowledged` on the peer is ready to receive.
    """

    acknowledged: int
    unacknowledged: int
    not_transmitted: int
    window: int


class SendBuffer:
    """The outgoing bytes of one connection, plain or TLS; positions count the bytes that TCP carries."""

    def __init__(self, transport: asyncio.Transport, below: asyncio.Transport, connection: socket.socket) -> None:
        """Watch a connection.

        Args:
            transport: the transport that frames are written to.
            below: the transport of the socket; the same one, unless TLS is in between.
            connection: the socket, which the transport closes. That of `below.get_extra_info` takes three times as long
                for each call, because uvloop makes a socket object for it.
        """
        self._transport = transport
        self._below = below
        self._socket = connection
        self._acknowledged = 0
        self._transmitted = 0
        self._ended = False
        self._known_at_end = False

    def position(self) -> int:
        """Return the position after all bytes that were written so far."""
        state = self._update()
        if state is None:
            return self._acknowledged
        return state.acknowledged + state.unacknowledged + self.in_user_space()

    @property
    def is_closing(self) -> bool:
        """Whether the connection accepts no more bytes."""
        return self._transport.is_closing()

    def write_if_clear(self, frame: bytes) -> WrittenFrame | None:
        """Write a frame and return its place; None if TCP would not transmit it as soon as it is written.

        A frame that would wait in a buffer could leave it at any later time, also while this process is frozen.
        """
        if self.in_user_space():
            return None
        state = self._update()
        if (
            state is None
            or state.not_transmitted
            or state.unacknowledged > MAX_UNACKNOWLEDGED_BYTES
            or state.unacknowledged + len(frame) + _FRAME_OVERHEAD_BYTES > state.window
        ):
            return None
        start = state.acknowledged + state.unacknowledged
        self._transport.write(frame)
        # TLS adds bytes.
        end = start + len(frame) if self._below is self._transport else self.position()
        return WrittenFrame(start, end)

    def write(self, frame: bytes) -> None:
        """Write a frame; it may wait in this process."""
        self._transport.write(frame)

    def delivered(self, written: WrittenFrame) -> bool | None:
        """Return whether a frame was delivered; see `Connection.delivered`.

        After the end of the connection: as it was then; None if that is unknown.
        """
        if not self._ended:
            self._update()
        if self._acknowledged >= written.end:
            return True
        if self._ended and not self._known_at_end:
            return None
        return False if self._transmitted <= written.start else None

    def unacknowledged(self) -> int:
        """Return how many bytes the peer has not acknowledged; 0 once the connection has ended."""
        if self._ended:
            return 0
        state = self._update()
        return self.in_user_space() + (state.unacknowledged if state is not None else 0)

    def in_user_space(self) -> int:
        """Return how many bytes wait in this process, because the kernel has no room for them yet."""
        waiting = self._transport.get_write_buffer_size()
        if self._below is not self._transport:
            # Bytes that TLS has encrypted and passed to the transport below.
            waiting += self._below.get_write_buffer_size()
        return waiting

    def discard_at_end(self) -> None:
        """Let the kernel discard unacknowledged bytes when the connection ends, also if this process is killed."""
        self._set_linger(_DISCARD)

    def deliver_at_end(self) -> None:
        """Let the kernel deliver unacknowledged bytes after the connection is closed."""
        self._set_linger(_DELIVER)

    @property
    def discards_at_end(self) -> bool:
        """Whether the kernel will discard unacknowledged bytes when the connection ends."""
        linger = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
        return _LINGER.unpack(linger) == _DISCARD

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def ended(self) -> None:
        """Record which bytes are acknowledged; to be called while the socket is still open."""
        if not self._ended:
            self._known_at_end = self._update() is not None
            self._ended = True

    def _set_linger(self, linger: tuple[int, int]) -> None:
        with suppress(OSError, ValueError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(*linger))

    def _update(self) -> _KernelState | None:
        """Read the state of the outgoing bytes from the kernel; return None if that fails."""
        state = self._read_kernel()
        if state is not None:
            self._acknowledged = max(self._acknowledged, state.acknowledged)
            transmitted = state.acknowledged + state.unacknowledged - state.not_transmitted
            self._transmitted = max(self._transmitted, transmitted)
        return state

    def _read_kernel(self) -> _KernelState | None:
        try:
            unacknowledged = self._unacknowledged()
            while True:
                acknowledged, not_transmitted, window = self._tcp_information()
                # Without unacknowledged bytes nothing can change between the two reads. Otherwise repeat if the peer
                # acknowledged bytes: the numbers do not fit together. TCP_INFO takes three times as long (7 us).
                if not unacknowledged or (again := self._unacknowledged()) == unacknowledged:
                    return _KernelState(acknowledged, unacknowledged, not_transmitted, window)
                unacknowledged = again
        except (OSError, ValueError):
            return None

    def _unacknowledged(self) -> int:
        # SIOCOUTQ, which has the same number as TIOCOUTQ on Linux (tcp(7)).
        answer = fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0\0\0\0")
        return int.from_bytes(answer, sys.byteorder)

    def _tcp_information(self) -> tuple[int, int, int]:
        """Return `tcpi_bytes_acked`, `tcpi_notsent_bytes` and `tcpi_snd_wnd`."""
        information = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(information) < _TCP_INFO.size:
            information = information[:_WINDOW_OFFSET].ljust(_WINDOW_OFFSET, b"\0") + struct.pack("=I", _UNKNOWN_WINDOW)
        acknowledged, not_transmitted, window = _TCP_INFO.unpack(information)
        return acknowledged, not_transmitted, window
