"""What has become of the bytes written to a connection, as the kernel knows it.

A frame that was written may lie in the transport's buffer, in the kernel's, or be on its way. Only what the far side's
kernel has acknowledged is taken; the rest must be thrown away with the connection where it would arrive too late.
"""

import asyncio
import errno
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Any

_BYTES_ACKED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` in `struct tcp_info` (linux/tcp.h): 8 octets, 24 words and two 64-bit pacing rates come before."""

_RESET = struct.pack("ii", 1, 0)
"""`struct linger`: on, zero seconds. Closing then sends RST and forgets what was not acknowledged (socket(7))."""

_IN_ORDER = struct.pack("ii", 0, 0)
"""`struct linger`: off. Closing then sends FIN, behind what is still to be acknowledged."""

_GIVEN_UP = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
"""How TCP_USER_TIMEOUT ends a connection: with ETIMEDOUT, or with what was last heard of the way there. Seen with a
pulled cable: ETIMEDOUT within the first three seconds, EHOSTUNREACH once the neighbour was looked for in vain."""


def set_up(connection: Any, deadline: float) -> None:
    """Send at once, and give a link up on which nothing is acknowledged for as long as a press may take."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(deadline * 1000))


def was_given_up(error: BaseException | None) -> bool:
    """Tell whether this kernel ended a connection, and threw away what was not acknowledged; not the other side."""
    return isinstance(error, OSError) and error.errno in _GIVEN_UP


class SendBuffer:
    """The outgoing bytes of one connection, plain or TLS: positions count what TCP carries."""

    def __init__(self, transport: asyncio.Transport, below: asyncio.Transport) -> None:
        """Look after a connection.

        Args:
            transport: what is written to.
            below: the transport of its socket; the same, unless TLS is in between.
        """
        self._transport = transport
        self._below = below
        self._socket: Any = below.get_extra_info("socket")
        self._acknowledged = 0
        self._ended = False
        self._known_at_end = False

    def position(self) -> int:
        """Return the position after everything that was written so far."""
        self._look()
        while True:
            # An acknowledgement that comes in between would be missing from both.
            before = self._acknowledged
            unacknowledged = self.unacknowledged()
            if not self._look() or self._acknowledged == before:
                return before + unacknowledged

    def acknowledged(self, position: int) -> bool | None:
        """Tell whether the far side has taken everything up to a position.

        After the end it is as it was then; None where that could not be seen any more.
        """
        if not self._ended:
            self._look()
        if self._acknowledged >= position:
            return True
        return None if self._ended and not self._known_at_end else False

    def unacknowledged(self) -> int:
        """Return how many bytes the far side has yet to take; 0 once the connection has ended."""
        if self._ended:
            return 0
        queued = 0
        with suppress(OSError, ValueError):
            # SIOCOUTQ, which Linux gives the number of TIOCOUTQ (tcp(7)).
            answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            queued = int(struct.unpack("i", answer)[0])
        queued += self._transport.get_write_buffer_size()
        if self._below is not self._transport:
            # What TLS has handed down and the kernel has not yet had room for.
            queued += self._below.get_write_buffer_size()
        return queued

    def throw_away(self) -> None:
        """Let the end of the connection, whoever brings it about, throw away what is not acknowledged."""
        self._linger(_RESET)

    def let_through(self) -> None:
        """Let the connection end in order: there is nothing left that may not be late."""
        self._linger(_IN_ORDER)

    def ended(self) -> None:
        """Note what was acknowledged, while the socket can still be asked."""
        if not self._ended:
            self._known_at_end = self._look()
            self._ended = True

    def _linger(self, how: bytes) -> None:
        with suppress(OSError, ValueError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)

    def _look(self) -> bool:
        try:
            information = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        except (OSError, ValueError):
            return False
        self._acknowledged = max(self._acknowledged, _BYTES_ACKED.unpack(information)[0])
        return True
