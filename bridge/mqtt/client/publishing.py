"""The messages that a connection publishes, until the broker has acknowledged them."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.mqtt.client.errors import NotConnectedError, PacketTooLargeError
from bridge.mqtt.client.messages import ConnackInfo, Publication
from bridge.mqtt.client.packets import encode_publish

_PACKET_OVERHEAD_BYTES = 32
"""Upper limit for the bytes of a PUBLISH besides topic, payload and Correlation Data: fixed header, lengths, packet
id."""

_DEFAULT_RECEIVE_MAXIMUM = 65_535
"""QoS 1 publishes that a broker accepts before it has acknowledged them, if its CONNACK has no limit (MQTT 5, section
3.2.2.3.3)."""

_FIRST_PACKET_ID = 1_024
_LAST_PACKET_ID = 65_535
"""The packet ids of publishes. paho has those below for its SUBSCRIBE packets, of which a connection sends a few."""

_MAX_IN_FLIGHT = 60_000
"""Publishes that wait for an acknowledgement; some packet ids stay free, so that the next one is soon found."""


@dataclass(slots=True, eq=False)
class _Outgoing:
    """A message being published.

    Attributes:
        publication: the message.
        topic: its topic as bytes.
        payload: its payload as bytes.
        correlation_data: its Correlation Data, None over MQTT 3.1.1.
        acknowledged: the future that `OutgoingMessages.publish` returns.
        on_lost: the callback that `OutgoingMessages.publish` was given.
    """

    publication: Publication
    topic: bytes
    payload: bytes
    correlation_data: bytes | None
    acknowledged: asyncio.Future[str | None]
    on_lost: Callable[[], None] | None


class OutgoingMessages:
    """Numbers and encodes messages, sends no more than the broker accepts, and notes its acknowledgements."""

    def __init__(self, write: Callable[[bytes], None], *, is_5: bool) -> None:
        """Begin without messages.

        Args:
            write: sends a packet.
            is_5: whether the connection uses MQTT 5.
        """
        self._write = write
        self._is_5 = is_5
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[int, _Outgoing] = {}
        self._queued: deque[_Outgoing] = deque()
        self._receive_maximum = _MAX_IN_FLIGHT
        self._maximum_packet: int | None = None
        self._last_packet_id = _LAST_PACKET_ID

    def __contains__(self, packet_id: int) -> bool:
        """Return whether a message with this packet id waits for its acknowledgement."""
        return packet_id in self._in_flight

    @property
    def outstanding(self) -> list["asyncio.Future[str | None]"]:
        """The futures of all messages that the broker has not acknowledged."""
        return [outgoing.acknowledged for outgoing in (*self._in_flight.values(), *self._queued)]

    def accepted(self, info: ConnackInfo) -> None:
        """Use the limits of the broker's CONNACK."""
        self._receive_maximum = min(info.receive_maximum or _DEFAULT_RECEIVE_MAXIMUM, _MAX_IN_FLIGHT)
        self._maximum_packet = info.maximum_packet

    def publish(
        self, publication: Publication, on_lost: Callable[[], None] | None = None
    ) -> "asyncio.Future[str | None]":
        """Publish as `MqttSession.publish` does. Raise PacketTooLargeError."""
        payload = publication.payload.encode() if isinstance(publication.payload, str) else publication.payload
        topic = publication.topic.encode()
        correlation_data = publication.correlation_data if self._is_5 else None
        if self._maximum_packet is not None:
            size = len(topic) + len(payload) + len(correlation_data or b"") + _PACKET_OVERHEAD_BYTES
            if size > self._maximum_packet:
                raise PacketTooLargeError(size)
        outgoing = _Outgoing(publication, topic, payload, correlation_data, self._loop.create_future(), on_lost)
        if publication.qos > 0 and len(self._in_flight) >= self._receive_maximum:
            self._queued.append(outgoing)
        else:
            self._send(outgoing)
        return outgoing.acknowledged

    def acknowledged(self, packet_id: int, refusal: str | None) -> str:
        """End a message that the broker has acknowledged or refused; return its topic."""
        outgoing = self._in_flight.pop(packet_id)
        # A cancelled waiter has cancelled its future.
        if not outgoing.acknowledged.done():
            outgoing.acknowledged.set_result(refusal)
        while self._queued and len(self._in_flight) < self._receive_maximum:
            self._send(self._queued.popleft())
        return outgoing.publication.topic

    def lost(self, error: Callable[[], NotConnectedError]) -> None:
        """End every message: the connection has ended.

        Args:
            error: returns what the messages' futures raise.
        """
        lost = (*self._in_flight.values(), *self._queued)
        self._in_flight.clear()
        self._queued.clear()
        for outgoing in lost:
            fail(outgoing.acknowledged, error())
            if outgoing.on_lost is not None:
                outgoing.on_lost()

    def _send(self, outgoing: _Outgoing) -> None:
        one = outgoing.publication
        packet_id = self._next_packet_id() if one.qos > 0 else None
        packet = encode_publish(
            outgoing.topic,
            outgoing.payload,
            packet_id=packet_id,
            retain=one.retain,
            is_5=self._is_5,
            correlation_data=outgoing.correlation_data,
        )
        if packet_id is not None:
            self._in_flight[packet_id] = outgoing
        else:
            outgoing.acknowledged.set_result(None)
        self._write(packet)

    def _next_packet_id(self) -> int:
        """Return a packet id that no unacknowledged publish has."""
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id + 1 if packet_id < _LAST_PACKET_ID else _FIRST_PACKET_ID
            if packet_id not in self._in_flight:
                self._last_packet_id = packet_id
                return packet_id


def fail(future: "asyncio.Future[Any]", error: NotConnectedError) -> None:
    """Let a future raise an error, unless it has ended; no caller has to wait for it."""
    if not future.done():
        future.set_exception(error)
        # asyncio logs exceptions that are never read, and many callers do not wait for the acknowledgement.
        future.exception()
