"""One connection to the broker, from CONNECT until it is gone: paho inside the event loop.

paho keeps what it could not send and sends it after a reconnect, which would be late; so each connection has a client
of its own, and what waits in it dies with it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock
from bridge.model.faults import shorten
from bridge.mqtt.client.messages import Message, NotConnectedError, SubscriptionRefusedError, Will
from bridge.mqtt.client.paho_client import build_client, connect_in_thread, packet_properties
from bridge.mqtt.client.paho_socket import PahoSocket
from bridge.mqtt.client.reasons import ENDINGS, LOST, failure, refusal, unanswered
from bridge.mqtt.client.sockets import hang_up, second_handle
from bridge.mqtt.client.tls import TlsFilesError

_LOGGER = logging.getLogger(__name__)

_CONNECT_TIMEOUT = 10.0
"""Seconds for name, TCP, TLS and CONNACK together: a broker that takes longer is as good as away."""

_GOODBYE = 0.5
"""Seconds, twice, for a broker to acknowledge what is under way and to hang up; what it has not taken by then it will
not. The process has five to end in (CONTRACT, section 2)."""

_MISCELLANY = 1.0
"""Seconds between looks at paho's keep-alive."""

_TOPICS_A_PACKET = 200
"""Topics subscribed to in one packet: far below the packet limits of brokers."""

_REFUSALS_TOLD = 20
"""Topics of a connection of which it is said that the broker refuses them; by then somebody knows."""

_PACKET_OVERHEAD = 32
"""Bytes at most of a PUBLISH besides topic, payload and Correlation Data: fixed header, lengths, packet id."""


_WINDOW = 65_535
"""Publishes with QoS 1 that a broker takes ahead of its acknowledgements unless it says less (MQTT 5, 3.2.2.3.3); there
are no more packet ids either."""


@dataclass(frozen=True, slots=True)
class _Publication:
    """Something published; `acknowledged` turns False where the connection ends before a broker has taken QoS 1."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties | None
    acknowledged: asyncio.Future[bool]


class PahoSession:
    """One connection; used once."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        clock: Clock,
        *,
        persistent: bool,
        will: Will | None,
        on_message: Callable[[Message], None],
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._clock = clock
        self._persistent = persistent
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._published: dict[int, _Publication] = {}
        self._queued: deque[_Publication] = deque()
        self._window = _WINDOW
        self._subscribed: dict[int, asyncio.Future[Sequence[ReasonCode] | None]] = {}
        self._brokers_maximum_packet: int | None = None
        self._refused: set[str] = set()
        self._client = build_client(settings, client_id, persistent=persistent, will=will)
        self._socket = PahoSocket(self._client, on_close=self._end, on_garbage=self.abort)
        self._client.on_connect = self._connack
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received
        self._client.on_publish = self._acknowledged
        self._client.on_subscribe = self._suback

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted it and it has not ended."""
        return self._accepted.done() and not self._ended.done()

    @property
    def protocol5(self) -> bool:
        """Whether it speaks MQTT 5."""
        return self._settings.protocol == "5"

    async def connect(self) -> None:
        """Connect.

        Raises:
            NotConnectedError: with what is in the way.
        """
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                await connect_in_thread(self._client, self._settings, persistent=self._persistent)
                self._socket.adopt()
                await asyncio.wait((self._accepted, self._ended), return_when=asyncio.FIRST_COMPLETED)
        except TlsFilesError as error:
            self.abort(str(error))
        except Exception as error:  # noqa: BLE001  whatever paho and its codecs raise, there is no connection
            self.abort(failure(error, self._settings))
        if self._ended.done():
            raise NotConnectedError(self._ended.result())

    async def wait_ended(self) -> str:
        """Keep the connection going until it ends; return why it did."""
        while not self._ended.done():
            await asyncio.wait((self._ended,), timeout=_MISCELLANY)
            self._client.loop_misc()
            self._socket.flush()
        return self._ended.result()

    async def close(self) -> None:
        """Let the broker take what was published, and say goodbye, so that no will is published."""
        if self.connected and (under_way := [*self._published.values(), *self._queued]):
            await asyncio.wait([publication.acknowledged for publication in under_way], timeout=_GOODBYE)
        if self.connected and self._socket.connection is not None:
            # paho closes its own handle as soon as the DISCONNECT is written.
            handle = second_handle(self._socket.connection)
            with handle, suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    self._client.disconnect()
                    self._socket.flush()
                    await asyncio.shield(self._ended)
                    await hang_up(handle)
        self.abort("closed")

    def abort(self, reason: str) -> None:
        """End it at once."""
        self._end(reason)
        self._socket.close()

    def publish(
        self, topic: str, payload: bytes | str, qos: int, *, retain: bool, correlation_data: bytes | None
    ) -> "asyncio.Future[bool] | None":
        """Publish; a packet that the broker would hang up for is dropped with a warning.

        Returns:
            With QoS 1 what turns true once the broker has acknowledged it, false where the connection ends first.

        Raises:
            NotConnectedError: the connection has ended.
        """
        if not self.connected:
            raise NotConnectedError
        payload = payload.encode() if isinstance(payload, str) else payload
        properties = None
        size = len(topic.encode()) + len(payload) + _PACKET_OVERHEAD
        if correlation_data is not None and self.protocol5:
            properties = packet_properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation_data
            size += len(correlation_data)
        if self._brokers_maximum_packet is not None and size > self._brokers_maximum_packet:
            _LOGGER.warning("%d bytes for %s are more than the broker takes: not published", size, shorten(topic))
            return None
        publication = _Publication(topic, payload, qos, retain, properties, self._loop.create_future())
        if qos > 0 and len(self._published) >= self._window:
            self._queued.append(publication)
        else:
            self._send(publication)
        return publication.acknowledged if qos > 0 else None

    async def publish_and_wait(
        self, topic: str, payload: bytes | str, qos: int, *, retain: bool, correlation_data: bytes | None
    ) -> None:
        """Publish with QoS 1, and return once the broker has acknowledged it; errors as for `publish`."""
        acknowledged = self.publish(topic, payload, qos, retain=retain, correlation_data=correlation_data)
        if acknowledged is not None and not await acknowledged:
            raise NotConnectedError

    async def subscribe(self, topics: Sequence[str], qos: int) -> None:
        """Subscribe, and return once the broker has confirmed; errors as for `publish`.

        Raises:
            SubscriptionRefusedError: the broker does not allow one.
        """
        for start in range(0, len(topics), _TOPICS_A_PACKET):
            await self._subscribe(topics[start : start + _TOPICS_A_PACKET], qos)

    def acknowledge(self, message: Message) -> None:
        """Let the broker drop a message that came in on this connection."""
        if self.connected and message.qos > 0:
            self._client.ack(message.mid, message.qos)
            self._socket.flush()

    def _send(self, publication: _Publication) -> None:
        one = publication
        published = self._client.publish(one.topic, one.payload, one.qos, one.retain, one.properties)
        self._socket.flush()
        if published.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise NotConnectedError
        if one.qos > 0:
            self._published[published.mid] = one

    async def _subscribe(self, topics: Sequence[str], qos: int) -> None:
        if not self.connected:
            raise NotConnectedError
        if self.protocol5:
            # Stored messages stay away, and a retained press can be told from a fresh one.
            options = SubscribeOptions(qos, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            _, mid = self._client.subscribe([(topic, options) for topic in topics])
        else:
            _, mid = self._client.subscribe([(topic, qos) for topic in topics])
        self._socket.flush()
        if mid is None or not self.connected:
            raise NotConnectedError
        answered: asyncio.Future[Sequence[ReasonCode] | None] = self._loop.create_future()
        self._subscribed[mid] = answered
        codes = await answered
        if codes is None:
            raise NotConnectedError
        for topic, code in zip(topics, codes, strict=False):
            if code.is_failure:
                raise SubscriptionRefusedError(topic)

    def _end(self, reason: str) -> None:
        if self._ended.done():
            return
        self._ended.set_result(reason)
        for publication in (*self._published.values(), *self._queued):
            _settle(publication.acknowledged, False)
        for answered in self._subscribed.values():
            _settle(answered, None)
        self._published.clear()
        self._queued.clear()
        self._subscribed.clear()

    def _connack(
        self, _client: paho.Client, _userdata: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end(refusal(reason.getName()))
            return
        self._window = getattr(properties, "ReceiveMaximum", _WINDOW)
        self._brokers_maximum_packet = getattr(properties, "MaximumPacketSize", None)
        _settle(self._accepted, None)

    def _disconnected(
        self, _client: paho.Client, _userdata: object, flags: Any, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(refusal(reason.getName()))
        else:
            broke = LOST if self._accepted.done() else unanswered(self._settings)
            self._end(ENDINGS.get(reason.getName(), broke))

    def _received(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Brokers must refuse such a topic; one that doesn't would send it again and again.
            self._client.ack(message.mid, message.qos)
            return
        properties = message.properties
        received = Message(
            topic=topic,
            payload=bytes(message.payload),
            qos=message.qos,
            retain=bool(message.retain),
            received_at=self._clock.boottime(),
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation_data=getattr(properties, "CorrelationData", None),
            session=self,
            mid=message.mid,
        )
        try:
            self._on_message(received)
        except Exception:
            _LOGGER.exception("%s could not handle a message on %s", self._client_id, shorten(topic))

    def _acknowledged(
        self, _client: paho.Client, _userdata: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        publication = self._published.pop(mid, None)
        if publication is None:
            return
        topic = publication.topic
        if reason.is_failure and topic not in self._refused and len(self._refused) < _REFUSALS_TOLD:
            self._refused.add(topic)
            _LOGGER.warning("the broker refuses what is published on %s: %s", shorten(topic), reason)
        _settle(publication.acknowledged, True)
        while self._queued and len(self._published) < self._window:
            with suppress(NotConnectedError):
                self._send(self._queued.popleft())

    def _suback(
        self, _client: paho.Client, _userdata: object, mid: int, codes: Sequence[ReasonCode], _properties: object
    ) -> None:
        answered = self._subscribed.pop(mid, None)
        if answered is not None:
            _settle(answered, codes)


def _settle(future: "asyncio.Future[Any]", result: object) -> None:
    # Whoever waited may have been cancelled, and the future with them.
    if not future.done():
        future.set_result(result)
