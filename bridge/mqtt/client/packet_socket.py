"""The socket of a connection to the broker in the event loop, with paho on top of it.

paho does not own the socket. `PacketSocket` stands between the two: it passes the usual packets of a press and its
reply to the session as bytes (`bridge.mqtt.client.packets`), and all others to paho.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import paho.mqtt.client as paho

from bridge.core.clock import Clock
from bridge.mqtt.client.errors import CONNECTION_LOST
from bridge.mqtt.client.packets import PacketSpan, find_packet

_TCP_USER_TIMEOUT_MS = 10_000
"""Milliseconds for which the broker's machine may leave bytes unacknowledged. The heartbeat writes at least once a
second, so a cut cable is noticed within this time instead of the kernel's quarter of an hour."""

_READ_BYTES = 8_192
"""Bytes of one read, unless a larger packet is incomplete: some eighty presses, which take a few milliseconds. Then the
event loop serves others."""

_MAX_READ_BYTES = 1 << 20
"""Bytes of one read while a large packet is incomplete."""

_SEND_AT_ONCE_SECONDS = 0.000_25
"""Time after which a packet is sent at once. Below it the bridge is busy: it sends more than 4,000 packets a second."""

_LATE_SECONDS = 0.002
_MAX_LATE_PACKETS = 10
"""How long acknowledgements wait for a packet to go with, and how many may wait: Mosquitto sends at most 20 messages
before they are acknowledged (`max_inflight_messages`)."""


class PahoSocket:
    """The socket as paho sees it: it reads the packets that were left to it, and writes behind the session's packets.

    Attributes:
        connection: the real socket.
        unread: bytes for paho.
        unsent: bytes that the kernel has not taken yet.
        has_ended: whether paho reads the end of the stream after `unread`.
        on_unsent: called after paho has added to `unsent`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.unread = b""
        self.unsent: list[bytes] = []
        self.has_ended = False
        self.on_unsent: Callable[[], None] | None = None

    def recv(self, size: int) -> bytes:
        """Return the next bytes for paho, none at the end of the stream. Raises BlockingIOError."""
        if not self.unread and not self.has_ended:
            raise BlockingIOError
        taken, self.unread = self.unread[:size], self.unread[size:]
        return taken

    def send(self, data: bytes | bytearray) -> int:
        """Take all bytes, so that the session's packets never stand in the middle of one of paho's."""
        self.unsent.append(bytes(data))
        if self.on_unsent is not None:
            self.on_unsent()
        return len(data)

    def close(self) -> None:
        """Send what waits, if the kernel has room, and close: paho closes as soon as it has passed its DISCONNECT."""
        with suppress(OSError):
            self.connection.send(b"".join(self.unsent))
        self.unsent.clear()
        self.connection.close()

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self.connection.fileno()

    def setblocking(self, flag: bool) -> None:
        """Set whether the socket's calls wait."""
        self.connection.setblocking(flag)


class PacketSocket:
    """One connection to the broker in the event loop, in place of paho's own thread.

    Attributes:
        connection: the connected socket; None before `adopt` and after the end.
        has_received: whether bytes were received; the owner resets it.
        has_sent: whether bytes were sent; the owner resets it.
    """

    def __init__(
        self,
        client: paho.Client,
        clock: Clock,
        *,
        on_packet: Callable[[bytes, int, PacketSpan], bool],
        on_close: Callable[[str], None],
        on_garbage: Callable[[str], None],
        quick_ack: bool,
    ) -> None:
        """Prepare the socket's events.

        Args:
            client: paho's client.
            clock: measures the time between two sends.
            on_packet: called with each packet: a buffer, its first byte in there, and its place. It returns False to
                leave the packet to paho.
            on_close: called with a text for users after paho has closed the socket. paho reports its own reason to
                `on_disconnect` before that.
            on_garbage: called with a text for users if the broker sent data that is not MQTT. The connection cannot
                be used further.
            quick_ack: let the kernel acknowledge each segment at once.
        """
        self.connection: socket.socket | None = None
        self.has_received = self.has_sent = False
        self._client = client
        self._clock = clock
        self._on_packet = on_packet
        self._on_close = on_close
        self._on_garbage = on_garbage
        self._quick_ack = quick_ack
        self._loop = asyncio.get_running_loop()
        self._paho_socket: PahoSocket | None = None
        self._partial = bytearray()
        self._missing = 0
        self._unsent: list[bytes] = []
        self._late: list[bytes] = []
        self._flush_handle: asyncio.Handle | None = None
        self._late_timer: asyncio.TimerHandle | None = None
        self._is_reading = False
        self._sent_at = 0.0
        self._is_waiting_to_write = False
        self._drained: asyncio.Future[None] | None = None

    def adopt(self) -> None:
        """Take over the connected socket from the connecting thread. paho's callbacks run only from now on.

        Raises:
            ConnectionResetError: the connection has ended already.
        """
        paho_socket = cast("PahoSocket | None", self._client.socket())
        if paho_socket is None:
            raise ConnectionResetError
        connection = paho_socket.connection
        self._paho_socket, self.connection = paho_socket, connection
        # PUBACK and then PUBLISH are two small writes. With Nagle the second waits for the broker's ACK (40 ms).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
        self._set_quick_ack(connection)
        self._client.on_socket_close = self._socket_closed
        self._loop.add_reader(connection, self._read)
        # From now on paho and the session write into the same list.
        self._unsent = paho_socket.unsent
        paho_socket.on_unsent = self._schedule_flush
        self._schedule_flush()

    def write(self, packet: bytes) -> None:
        """Send a packet behind the earlier ones.

        A packet is sent at once if the last one was sent a while ago. Otherwise the packets of one iteration of the
        event loop share a system call, which takes as long as all that is computed for them.
        """
        self._unsent.append(packet)
        if self._is_reading or self._flush_handle is not None:
            return
        if self._clock.boottime() - self._sent_at > _SEND_AT_ONCE_SECONDS:
            self.flush()
        else:
            self._schedule_flush()

    def write_later(self, packet: bytes) -> None:
        """Send a packet with the next one, at most a few milliseconds later.

        The acknowledgement of a press goes out with its reply, if the terminal answers quickly.
        """
        self._late.append(packet)
        if len(self._late) >= _MAX_LATE_PACKETS:
            self._schedule_flush()
        elif self._late_timer is None:
            self._late_timer = self._loop.call_later(_LATE_SECONDS, self.flush)

    async def drain(self) -> None:
        """Wait until the kernel has taken everything that was written, or the connection has ended."""
        self.flush()
        while self.connection is not None and self._unsent:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def flush(self) -> None:
        """Send what waits. If the socket is full, continue when it has room."""
        self._cancel_flush()
        self._join_late()
        if self.connection is not None and self._client.want_write():
            # paho collects packets while one of its callbacks runs.
            self._client.loop_write()
        if self.connection is not None and self._unsent and not self._is_waiting_to_write:
            self._send(self.connection)

    def close(self) -> None:
        """Close the socket at once, without a callback."""
        # Otherwise paho would report the close when it is garbage-collected, long after the loop forgot the socket.
        self._client.on_socket_close = None
        paho_socket = cast("PahoSocket | None", self._client.socket())
        self._unsent.clear()
        self._forget()
        if paho_socket is not None and paho_socket.fileno() >= 0:
            self._remove_events(paho_socket.connection)
            paho_socket.close()

    def _read(self) -> None:
        connection = self.connection
        if connection is None:
            return
        self._is_reading = True
        try:
            self._receive(connection, min(max(self._missing, _READ_BYTES), _MAX_READ_BYTES))
            # The event loop does not see data that TLS has decrypted already.
            while isinstance(self.connection, ssl.SSLSocket) and (pending := self.connection.pending()):
                self._receive(self.connection, pending)
        finally:
            self._is_reading = False
        if self.connection is not None:
            self._set_quick_ack(self.connection)
            if self._unsent or self._client.want_write():
                self.flush()

    def _receive(self, connection: socket.socket, size: int) -> None:
        try:
            data = connection.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        self._received(data)

    def _received(self, data: bytes) -> None:
        try:
            if data:
                self.has_received = True
                self._split(data)
            else:
                self._end_stream()
        except Exception as error:  # noqa: BLE001  invalid packets can make paho's parser raise any error
            self._on_garbage(f"the broker sent data that is not valid MQTT ({type(error).__name__})")

    def _split(self, data: bytes) -> None:
        """Handle the complete packets, in their order, and keep an incomplete one."""
        if self._partial:
            self._partial += data
            if len(data) < self._missing:
                self._missing -= len(data)
                return
            data = bytes(self._partial)
            self._partial.clear()
        self._missing = 0
        start = 0
        while start < len(data):
            span = find_packet(data, start)
            if isinstance(span, int):
                self._partial += data[start:]
                self._missing = span - len(self._partial)
                return
            if not self._on_packet(data, start, span):
                self._pass_to_paho(data[start : span.end])
            if self.connection is None:
                return
            start = span.end

    def _pass_to_paho(self, packet: bytes) -> None:
        paho_socket = self._paho_socket
        assert paho_socket is not None
        # paho acknowledges at once, and acknowledgements keep the order of the messages (MQTT 5, section 4.6).
        self._join_late()
        paho_socket.unread = packet
        while paho_socket.unread and self.connection is not None:
            self._client.loop_read()

    def _end_stream(self) -> None:
        """Let paho read the end of the stream: it reports the reason and closes the socket."""
        assert self._paho_socket is not None
        self._paho_socket.has_ended = True
        self._client.loop_read()

    def _join_late(self) -> None:
        self._unsent += self._late
        self._late.clear()

    def _schedule_flush(self) -> None:
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self.flush)

    def _send(self, connection: socket.socket) -> None:
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        try:
            sent = connection.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            # The broker may have sent its reason before it closed the connection.
            self._loop.call_soon(self._read_reason, connection)
            return
        self.has_sent = True
        self._sent_at = self._clock.boottime()
        if sent < len(data):
            self._unsent.append(data[sent:])
            self._is_waiting_to_write = True
            self._loop.add_writer(connection, self._write_on)
        else:
            self._notify_drained()

    def _write_on(self) -> None:
        if self.connection is None:
            return
        self._loop.remove_writer(self.connection)
        self._is_waiting_to_write = False
        self.flush()

    def _notify_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _read_reason(self, connection: socket.socket) -> None:
        if self.connection is not connection:
            return
        data = b""
        with suppress(OSError):
            data = connection.recv(_READ_BYTES)
        if data:
            self._received(data)
        if self.connection is not None:
            self._received(b"")

    def _set_quick_ack(self, connection: socket.socket) -> None:
        # A stock Mosquitto has Nagle on, and its second small write waits for this side's ACK. The kernel resets the
        # option by itself, so it is set after each read.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, int(self._quick_ack))

    def _socket_closed(self, _client: paho.Client, _userdata: object, paho_socket: Any) -> None:
        self._remove_events(paho_socket.connection)
        self._forget()
        # paho calls `on_disconnect` with the reason right after this.
        self._loop.call_soon(self._on_close, CONNECTION_LOST)

    def _forget(self) -> None:
        self.connection = None
        self._partial.clear()
        self._late.clear()
        self._notify_drained()
        self._cancel_flush()

    def _cancel_flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if self._late_timer is not None:
            self._late_timer.cancel()
            self._late_timer = None

    def _remove_events(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        if self._is_waiting_to_write:
            self._loop.remove_writer(connection)
            self._is_waiting_to_write = False
