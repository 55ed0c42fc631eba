"""Connections before their handshake is done: accepted quickly, opened in order, bounded in time and number."""

import asyncio
import errno
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bridge.core.clock import Clock
from bridge.core.tasks import BackgroundTasks

_LOGGER = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that the kernel keeps until the server accepts them; Linux limits it to net.core.somaxconn, which is 4096
too. If there are more, the kernel drops them, and the clients try again after 1, 3, 7, 15 and 31 s."""

ACCEPTED_AT_ONCE = 128
"""Connections that are accepted before other tasks run, which takes a millisecond. With one at a time, 10,000 terminals
that connected at once overflowed the backlog, and the last one had to wait 69 s."""

_MAX_WAITING = 16_384
"""Accepted connections that wait for their handshake, each with one file descriptor and some 300 bytes. If there are
more, they wait in the kernel."""

_OPENED_AT_ONCE = 8
"""Handshakes that begin before other tasks run: answering one takes some 0.3 ms, and a press waits for all of them."""

GRACE_SECONDS = 2.0
"""A new client is not closed for others before this time: TCP sends a lost packet again after one second (RFC 6298)."""

_PEER_GONE = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
)
"""Errors of `accept` for a peer that has gone already (accept(2)); others may still wait behind it."""

_TCP_ESTABLISHED = 1
"""`tcpi_state`, the first byte of `struct tcp_info` (linux/tcp.h), while neither side has ended the connection."""

_RETRY_SECONDS = 0.5
"""Pause when `accept` fails for another reason, mostly because the process has no free file descriptor."""

_WARNING_SECONDS = 60.0
"""Pause between two warnings about that."""


class Acceptor:
    """Accepts connections, and opens them in the order in which they were accepted.

    A connection that waits costs little, and its handshake does not time out, because nothing was read from it yet.
    """

    def __init__(
        self,
        open_connection: Callable[[socket.socket], Coroutine[Any, Any, None]],
        wait_room: Callable[[], Awaitable[int]],
        clock: Clock,
    ) -> None:
        """Build the acceptor; it starts with `start`.

        Args:
            open_connection: begins the handshake on an accepted socket.
            wait_room: waits until another handshake may begin, and returns how many may.
            clock: measures how long connections wait, and the pause between two warnings.
        """
        self._open_connection = open_connection
        self._wait_room = wait_room
        self._clock = clock
        # With the time at which each was accepted.
        self._waiting: deque[tuple[socket.socket, float]] = deque()
        self._has_waiting = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        # Whether the kernel may have connections that do not wait here yet.
        self._is_draining = False
        self._warned_at = -_WARNING_SECONDS
        self._tasks = BackgroundTasks()

    @property
    def waiting(self) -> int:
        """The number of accepted connections whose handshake has not begun."""
        return len(self._waiting)

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections from non-blocking sockets."""
        self._tasks.start(self._open_waiting(), name="handshakes of terminals")
        for listener in listeners:
            self._tasks.start(self._accept(listener), name="accepting terminals")

    async def stop(self) -> None:
        """Accept no more connections, and close those that wait."""
        await self._tasks.stop()
        for connection, _ in self._waiting:
            connection.close()
        self._waiting.clear()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._has_room.wait()
            try:
                connection, _ = await loop.sock_accept(listener)
                self._add(connection)
                self._is_draining = True
                while self._has_room.is_set() and self._accept_burst(listener):  # noqa: ASYNC110  others run in between
                    await asyncio.sleep(0)
            except OSError as error:
                self._is_draining = False
                if error.errno not in _PEER_GONE:
                    self._warn(error)
                    await asyncio.sleep(_RETRY_SECONDS)
            self._is_draining = False

    def _accept_burst(self, listener: socket.socket) -> bool:
        """Accept connections without waiting; return whether the kernel may have more. Raises OSError."""
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                connection, _ = listener.accept()
                connection.setblocking(False)
                self._add(connection)
        except BlockingIOError:
            return False
        return True

    def _add(self, connection: socket.socket) -> None:
        self._waiting.append((connection, self._clock.boottime()))
        self._has_waiting.set()
        if len(self._waiting) >= _MAX_WAITING:
            self._has_room.clear()

    def _warn(self, error: OSError) -> None:
        now = self._clock.boottime()
        if now - self._warned_at >= _WARNING_SECONDS:
            self._warned_at = now
            _LOGGER.warning("no more terminals can connect now: %s", error.strerror)

    async def _open_waiting(self) -> None:
        while True:
            await self._has_waiting.wait()
            room = await self._wait_room()
            if self._is_draining and self._has_room.is_set():
                # The kernel drops what it has no room for; what is accepted can wait.
                await asyncio.sleep(0)
                continue
            for _ in range(min(_OPENED_AT_ONCE, room, len(self._waiting))):
                connection, accepted_at = self._waiting.popleft()
                if self._clock.boottime() - accepted_at > GRACE_SECONDS and has_ended(connection):
                    connection.close()
                else:
                    self._tasks.start(self._open_connection(connection), name="handshake")
            self._has_room.set()
            if not self._waiting:
                self._has_waiting.clear()
            await asyncio.sleep(0)


def has_ended(connection: socket.socket) -> bool:
    """Return whether one side has ended a connection, although the bytes from before may be unread.

    Terminals give up after some seconds and try again. On an overloaded machine, the answers to those that have given
    up would take the processor time of those that still wait: 10,000 terminals made 58,000 attempts in 164 s.
    """
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_ESTABLISHED
    except OSError:
        return True


@dataclass(slots=True)
class _Handshake:
    abort: Callable[[], object]
    began_at: float
    timer: asyncio.TimerHandle


class HalfOpenConnections:
    """Connections whose handshake has begun but not ended, bounded in time and number."""

    def __init__(self, maximum: int, timeout_seconds: float) -> None:
        self._maximum = maximum
        self._timeout_seconds = timeout_seconds
        # Those that have not sent their whole request, and those that the bridge must answer; the oldest first.
        self._incomplete: OrderedDict[object, _Handshake] = OrderedDict()
        self._unanswered: OrderedDict[object, _Handshake] = OrderedDict()
        self._removed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._incomplete) + len(self._unanswered)

    def add(self, key: object, abort: Callable[[], object]) -> None:
        """Add a connection; `abort` is called at the time-out, or when newer connections need the room."""
        loop = asyncio.get_running_loop()
        if len(self) >= self._maximum and self._seconds_of_grace() <= 0:
            self._abort(next(iter(self._incomplete)))
        timer = loop.call_later(self._timeout_seconds, self._abort, key)
        self._incomplete[key] = _Handshake(abort, loop.time(), timer)

    def request_arrived(self, key: object) -> None:
        """Count a connection among those that the bridge must answer, and start its time-out again."""
        handshake = self._incomplete.pop(key, None)
        if handshake is not None:
            handshake.timer.cancel()
            handshake.timer = asyncio.get_running_loop().call_later(self._timeout_seconds, self._abort, key)
            self._unanswered[key] = handshake

    def remove(self, key: object) -> None:
        """Remove a connection whose handshake is done, or that has ended."""
        handshake = self._incomplete.pop(key, None) or self._unanswered.pop(key, None)
        if handshake is not None:
            handshake.timer.cancel()
            self._removed.set()

    async def wait_room(self) -> int:
        """Wait while there are too many, but only until the oldest one had time to send its request.

        Returns:
            How many may be added.
        """
        while len(self) >= self._maximum and (seconds := self._seconds_of_grace()) > 0:
            self._removed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._removed.wait()
        return max(1, self._maximum - len(self))

    def _seconds_of_grace(self) -> float:
        """Return how long the oldest connection without a request must not be closed for others.

        Connections that the bridge must answer are not closed for others: they end soon, or time out.
        """
        if not self._incomplete:
            return self._timeout_seconds
        oldest = next(iter(self._incomplete.values()))
        return oldest.began_at + GRACE_SECONDS - asyncio.get_running_loop().time()

    def _abort(self, key: object) -> None:
        handshake = self._incomplete.get(key) or self._unanswered[key]
        self.remove(key)
        handshake.abort()
