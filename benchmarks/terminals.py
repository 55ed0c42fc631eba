"""Terminals that answer `ok` to every frame without decoding it, in a process of their own.

A simulated terminal checks a `setPerson` strictly: 2.6 ms for a photo of 100 KB, as much as the bridge needs for it.
Many of them on the same machine would dominate the measurement. These terminals use raw sockets and `epoll`: 0.02 ms of
processor for an open.

`python -m benchmarks.terminals PORT COUNT` connects `T1`, `T2`, … to `ws://127.0.0.1:PORT/devs/`, all at once, and
prints one line of JSON when all are connected: how long it took, and how many attempts failed and were repeated. It
ends when its standard input ends, and therefore with the process that started it. Then it prints the line again.
"""

import base64
import errno
import gc
import heapq
import re
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from random import Random
from time import perf_counter

import click
import orjson

RECEIVE_BYTES = 256 * 1024
HANDSHAKE_SECONDS = 10.0
"""A terminal whose handshake takes longer tries again. The document of the vendor names no time."""

RETRY_SECONDS = 1.0
"""Shortest pause before another attempt; the longest is twice as long, so that attempts spread."""

OTHER_FILES = 50
"""Open files of the process besides the connections."""

_AUTHORIZATION = base64.b64encode(b"dev:123").decode()
_MSGID = re.compile(rb'"msgid": ?"([^"]+)", ?"sn": ?"([^"]+)"')
_MSGID_END = 200
"""A frame has its msgid and SN within its first bytes."""

_FIN = 0x80
_MASKED = 0x80
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10

_EMPTY_PING = bytes([_FIN | _PING, _MASKED]) + bytes(4)


@dataclass(slots=True)
class Statistics:
    """What the process reports.

    Attributes:
        connected: terminals that are connected now.
        retries: failed attempts that were repeated.
        lost: established connections that ended without an order to do so.
        churned: established connections that a terminal closed to connect again.
        seconds: time from the first attempt until all terminals were connected, or 0.
    """

    connected: int = 0
    retries: int = 0
    lost: int = 0
    churned: int = 0
    seconds: float = 0.0


class Fleet:
    """The terminals, their timers and the loop that serves them."""

    def __init__(self, port: int, terminals: int, ping_seconds: float, churn_per_second: float) -> None:
        self.poll = select.epoll()
        self.statistics = Statistics()
        self.address = ("127.0.0.1", port)
        self.random = Random(1)
        self._terminals = [Terminal(self, f"T{number}") for number in range(1, terminals + 1)]
        self._ping_seconds = ping_seconds
        self._churn_per_second = churn_per_second
        self._by_file: dict[int, Terminal] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action later."""
        heapq.heappush(self._timers, (perf_counter() + seconds, next(self._numbers), action))

    def watch(self, terminal: "Terminal", file: int) -> None:
        """Call the terminal when its new socket can be written or read."""
        self._by_file[file] = terminal
        self.poll.register(file, select.EPOLLIN | select.EPOLLOUT)

    def run(self) -> None:
        """Connect all terminals and serve them until the standard input ends."""
        began = perf_counter()
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN)
        for terminal in self._terminals:
            terminal.connect()
            # Answer the first ones before the last ones connect.
            self._serve(0)
        while True:
            if not self.statistics.seconds and self.statistics.connected == len(self._terminals):
                self.statistics.seconds = perf_counter() - began
                self.report()
                self._start_timers()
            if self._serve(max(0.0, self._timers[0][0] - perf_counter()) if self._timers else None):
                return

    def report(self) -> None:
        """Print the statistics."""
        print(orjson.dumps(self.statistics).decode(), flush=True)

    def _serve(self, seconds: float | None) -> bool:
        """Handle events and timers; return whether the standard input has ended."""
        for file, events in self.poll.poll(seconds):
            if file == sys.stdin.fileno():
                return True
            self._by_file[file].ready(events)
        while self._timers and self._timers[0][0] <= perf_counter():
            heapq.heappop(self._timers)[2]()
        return False

    def _churn(self) -> None:
        terminal = self.random.choice(self._terminals)
        if terminal.is_connected:
            self.statistics.churned += 1
            self.statistics.connected -= 1
            terminal.reconnect()
        self.after(self.random.expovariate(self._churn_per_second), self._churn)

    def _start_timers(self) -> None:
        if self._churn_per_second:
            self.after(0, self._churn)
        if self._ping_seconds:
            for terminal in self._terminals:
                self.after(self.random.uniform(0, self._ping_seconds), terminal.ping)

    def ping_again(self, terminal: "Terminal") -> None:
        """Let a terminal ping after the usual time."""
        self.after(self._ping_seconds, terminal.ping)


class Terminal:
    """A terminal with its WebSocket connection (RFC 6455). Its masking key is 0, which leaves payloads unchanged."""

    __slots__ = ("_attempt", "_connected", "_fleet", "_received", "_sn", "_socket", "_writing")

    def __init__(self, fleet: Fleet, sn: str) -> None:
        self._fleet = fleet
        self._sn = sn
        self._received = bytearray()
        self._connected = False
        self._writing = False
        self._attempt = 0
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Start an attempt to connect."""
        self._attempt += 1
        attempt = self._attempt
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writing = True
        error = self._socket.connect_ex(self._fleet.address)
        if error not in (0, errno.EINPROGRESS):
            self._end()
            return
        self._fleet.watch(self, self._socket.fileno())
        self._fleet.after(HANDSHAKE_SECONDS, lambda: self._give_up(attempt))

    @property
    def is_connected(self) -> bool:
        """Whether the WebSocket connection is established."""
        return self._connected

    def reconnect(self) -> None:
        """Close the connection, and connect again soon."""
        assert self._socket is not None
        self._socket.close()
        self._forget()

    def ping(self) -> None:
        """Send an empty ping, as terminals do at intervals."""
        if self._connected:
            self._send(_EMPTY_PING)
        self._fleet.ping_again(self)

    def ready(self, events: int) -> None:
        """Handle that the socket can be read or written."""
        try:
            if self._writing and events & select.EPOLLOUT:
                self._request_upgrade()
            if events & ~select.EPOLLOUT:
                self._receive()
        except OSError:
            self._end()

    def _request_upgrade(self) -> None:
        assert self._socket is not None
        self._writing = False
        self._fleet.poll.modify(self._socket, select.EPOLLIN)
        self._socket.send(
            f"GET /devs/{self._sn} HTTP/1.1\r\nHost: bridge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
            f"Authorization: Basic {_AUTHORIZATION}\r\n\r\n".encode()
        )

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            self._end()
            return
        self._received += data
        if not self._connected:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._end()
                return
            self._received = rest
            self._connected = True
            self._fleet.statistics.connected += 1
        while (bounds := payload_bounds(self._received)) is not None:
            start, end_of_frame = bounds
            self._handle(self._received[0] & 0x0F, start, end_of_frame)
            del self._received[:end_of_frame]

    def _handle(self, opcode: int, start: int, end: int) -> None:
        if opcode == _TEXT:
            request = _MSGID.search(self._received, start, start + _MSGID_END)
            assert request is not None, bytes(self._received[start : start + _MSGID_END])
            self._send(
                frame(
                    _TEXT,
                    rb'{"msgid":"%b","sn":"%b","cmd":"","msg":"{\"status\":0,\"msg\":\"ok\"}"}' % request.groups(),
                )
            )
        elif opcode == _PING:
            self._send(frame(_PONG, bytes(self._received[start:end])))
        elif opcode == _CLOSE:
            raise ConnectionResetError

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        with suppress(OSError):  # The end of a connection is handled when it is read.
            self._socket.send(data)

    def _give_up(self, attempt: int) -> None:
        if attempt == self._attempt and not self._connected and self._socket is not None:
            self._end()

    def _end(self) -> None:
        """Close the connection, and try again later."""
        assert self._socket is not None
        self._socket.close()
        if self._connected:
            self._fleet.statistics.connected -= 1
            self._fleet.statistics.lost += 1
        else:
            self._fleet.statistics.retries += 1
        self._forget()

    def _forget(self) -> None:
        self._socket = None
        self._received = bytearray()
        self._connected = False
        self._fleet.after(self._fleet.random.uniform(RETRY_SECONDS, 2 * RETRY_SECONDS), self.connect)


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a masked WebSocket frame."""
    length = len(payload)
    assert length < 65536
    head = bytes([_FIN | opcode, _MASKED | length]) if length < 126 else b"%c\xfe" % (_FIN | opcode)
    return head + (b"" if length < 126 else length.to_bytes(2)) + bytes(4) + payload


def payload_bounds(buffer: bytearray) -> tuple[int, int] | None:
    """Return the start and end of the first frame's payload; None if the frame is incomplete."""
    if len(buffer) < 2:
        return None
    length, start = buffer[1], 2
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(buffer) < start:
            return None
        length = int.from_bytes(buffer[2:start])
    return (start, start + length) if len(buffer) >= start + length else None


def allow_open_files(number: int) -> None:
    """Raise the limit of open files of this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number if most == resource.RLIM_INFINITY else min(number, most), most))


@click.command()
@click.argument("port", type=int)
@click.argument("terminals", type=int)
@click.option("--ping-seconds", type=float, default=30.0, show_default=True, help="Interval of pings; 0: none.")
@click.option("--churn-per-second", type=float, default=0.0, help="Connections that terminals close and open again.")
def main(port: int, terminals: int, ping_seconds: float, churn_per_second: float) -> None:
    """Connect terminals, and keep them connected until the standard input ends."""
    # Ctrl-C sends SIGINT to this process too; it ends when the process that started it closes its standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_open_files(terminals + OTHER_FILES)
    gc.disable()
    fleet = Fleet(port, terminals, ping_seconds, churn_per_second)
    fleet.run()
    fleet.report()


if __name__ == "__main__":
    main()
