"""What has become of the bytes written to a connection, as the kernel knows it.

A frame that was written may lie in the transport's buffer, in the kernel's, or be on its way. Only what the far side's
kernel has acknowledged is taken; the rest must be thrown away with the connection where it would arrive too late.
"""

import asyncio
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


def set_up(connection: Any, deadline: float) -> None:
    """Send at once, and give a link up on which nothing is acknowledged for as long as a press may take."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(deadline * 1000))


class Outgoing:
    """The outgoing bytes of one connection, plain or TLS: positions count what TCP carries."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket: Any = transport.get_extra_info("socket")
        self._acknowledged = 0
        self._ended = False

    def position(self) -> int:
        """Return the position after everything that was written so far."""
        return self._look() + self.unacknowledged()

    def acknowledged(self) -> int:
        """Return the position up to which the far side has taken everything; after the end as it was then."""
        return self._acknowledged if self._ended else self._look()

    def unacknowledged(self) -> int:
        """Return how many bytes the far side has yet to take; 0 once the connection has ended."""
        if self._ended:
            return 0
        queued = 0
        with suppress(OSError, ValueError):
            # SIOCOUTQ, which Linux gives the number of TIOCOUTQ (tcp(7)).
            answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            queued = int(struct.unpack("i", answer)[0])
        return queued + self._transport.get_write_buffer_size()

    def throw_away(self) -> None:
        """Let the end of the connection, whenever it comes, throw away what is not acknowledged."""
        with suppress(OSError, ValueError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def ended(self) -> None:
        """Note what was acknowledged, while the socket can still be asked."""
        if not self._ended:
            self._look()
            self._ended = True

    def _look(self) -> int:
        with suppress(OSError, ValueError):
            information = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
            self._acknowledged = max(self._acknowledged, _BYTES_ACKED.unpack(information)[0])
        return self._acknowledged
