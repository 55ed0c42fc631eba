"""Delivery state of the bytes that were written to a connection.

Written bytes can be in user space (the transport's buffer), in this machine's kernel, or on their way. Only the bytes
that the peer's kernel has acknowledged are delivered. All others must be discarded with the connection if they would
arrive too late (docs/promises.md).
"""

import asyncio
import errno
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Any

_TCP_INFO_BYTES_ACKED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` in `struct tcp_info` (linux/tcp.h): 8 octets, 24 words and two 64-bit pacing rates precede it."""

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


class SendBuffer:
    """The outgoing bytes of one connection, plain or TLS; positions count the bytes that TCP carries."""

    def __init__(self, transport: asyncio.Transport, below: asyncio.Transport) -> None:
        """Watch a connection.

        Args:
            transport: the transport that frames are written to.
            below: the transport of the socket; the same one, unless TLS is in between.
        """
        self._transport = transport
        self._below = below
        self._socket: Any = below.get_extra_info("socket")
        self._acknowledged = 0
        self._ended = False
        self._known_at_end = False

    def position(self) -> int:
        """Return the position after all bytes that were written so far."""
        self._update()
        while True:
            # Repeat if the peer acknowledged bytes between the two reads: both numbers would lack them.
            before = self._acknowledged
            unacknowledged = self.unacknowledged()
            if not self._update() or self._acknowledged == before:
                return before + unacknowledged

    def acknowledged(self, position: int) -> bool | None:
        """Return whether the peer has acknowledged all bytes up to a position.

        After the end of the connection: whether it had done so then; None if that is unknown.
        """
        if not self._ended:
            self._update()
        if self._acknowledged >= position:
            return True
        return None if self._ended and not self._known_at_end else False

    def unacknowledged(self) -> int:
        """Return how many bytes the peer has not acknowledged; 0 once the connection has ended."""
        if self._ended:
            return 0
        in_kernel = 0
        with suppress(OSError, ValueError):
            # SIOCOUTQ, which has the same number as TIOCOUTQ on Linux (tcp(7)).
            answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            in_kernel = int(struct.unpack("i", answer)[0])
        return in_kernel + self.in_user_space()

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
            self._known_at_end = self._update()
            self._ended = True

    def _set_linger(self, linger: tuple[int, int]) -> None:
        with suppress(OSError, ValueError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(*linger))

    def _update(self) -> bool:
        """Read the number of acknowledged bytes from the kernel; return False if that fails."""
        try:
            information = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES_ACKED.size)
        except (OSError, ValueError):
            return False
        self._acknowledged = max(self._acknowledged, _TCP_INFO_BYTES_ACKED.unpack(information)[0])
        return True
