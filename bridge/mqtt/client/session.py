"""One connection to the broker, from CONNECT to its end.

paho keeps messages that it could not send, and sends them after a reconnect. For a press that is too late. Therefore
each connection has a paho client of its own, and messages that wait in it are dropped with it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock, seconds_to_tick
from bridge.model.faults import shorten
from bridge.mqtt.client.errors import (
    CONNECTION_LOST,
    NotConnectedError,
    describe_ending,
    describe_failure,
    describe_refusal,
)
from bridge.mqtt.client.messages import ConnackInfo, Message, Publication, SessionOptions
from bridge.mqtt.client.packet_socket import PacketSocket
from bridge.mqtt.client.packets import (
    PUBACK,
    PUBLISH,
    PacketSpan,
    ReceivedPublish,
    encode_puback,
    packet_type,
    read_puback,
    read_publish,
)
from bridge.mqtt.client.publishing import OutgoingMessages, fail
from bridge.mqtt.client.transport import (
    build_client,
    connack_info,
    connect_in_thread,
    duplicate_handle,
    packet_properties,
    shut_down,
)

_LOGGER = logging.getLogger(__name__)

_CLOSE_STEP_SECONDS = 0.5
"""Time for the broker to acknowledge what was published, and then again to close the connection. A healthy broker needs
less, and the process must stop within five seconds (docs/operation.md)."""

_KEEPALIVE_CHECK_SECONDS = 1.0
"""Interval of paho's keep-alive check."""

_TOPICS_PER_SUBSCRIBE = 200
"""Topic filters in one SUBSCRIBE: far below the packet limits of brokers."""

_FIRST_FAILURE = 0x80
"""Reason codes from this one on are failures (MQTT 5, section 2.4)."""


class MqttSession:
    """A connection to the broker. It is used once: connect, use, close."""

    def __init__(
        self,
        settings: MqttSettings,
        options: SessionOptions,
        clock: Clock,
        *,
        on_message: Callable[[Message], None],
        on_publish_refused: Callable[[str, str], None] | None = None,
    ) -> None:
        """Build the client.

        Args:
            settings: the broker's settings.
            options: what the client asks of the connection.
            clock: dates received messages.
            on_message: called with each received message, in order.
            on_publish_refused: called with topic and reason when the broker refuses a publish (MQTT 5).
        """
        self._settings = settings
        self._options = options
        self._clock = clock
        self._on_message = on_message
        self._on_publish_refused = on_publish_refused
        self._loop = asyncio.get_running_loop()
        self._connack: asyncio.Future[ConnackInfo] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self._is_5 = settings.protocol == "5"
        self._session_present = False
        self._subscribed: dict[int, asyncio.Future[Sequence[ReasonCode]]] = {}
        self._client = build_client(settings, options)
        self._socket = PacketSocket(
            self._client,
            clock,
            on_packet=self._packet_received,
            on_close=self._end,
            on_garbage=self.abort,
            quick_ack=options.quick_ack,
        )
        self._outgoing = OutgoingMessages(self._socket.write, is_5=self._is_5)
        self._client.on_connect = self._connack_received
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message_received
        self._client.on_subscribe = self._suback_received

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it has not ended."""
        return self._connack.done() and not self._ended.done()

    @property
    def protocol5(self) -> bool:
        """Whether the connection uses MQTT 5."""
        return self._is_5

    async def connect(self) -> ConnackInfo:
        """Connect.

        Raises:
            NotConnectedError: the connection could not be made; its text says why.
        """
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await connect_in_thread(self._client, self._settings, persistent=self._options.persistent)
                self._socket.adopt()
                self._keepalive_timer = self._loop.call_later(
                    seconds_to_tick(_KEEPALIVE_CHECK_SECONDS), self._check_keepalive
                )
                await asyncio.wait((self._connack, self._ended), return_when=asyncio.FIRST_COMPLETED)
        except Exception as error:  # noqa: BLE001  paho and the codecs can raise any error
            self.abort(describe_failure(error, self._settings))
        if self._ended.done():
            raise self._not_connected()
        return self._connack.result()

    async def wait_ended(self) -> str:
        """Wait until the connection ends, and return the reason for users."""
        return await asyncio.shield(self._ended)

    async def close(self, *, session_expiry_seconds: int | None = None) -> None:
        """Wait for outstanding acknowledgements and send DISCONNECT, so that no will is published.

        Args:
            session_expiry_seconds: time for which the broker keeps the session from now on, in place of the time that
                CONNECT asked for (MQTT 5).
        """
        if self.connected and (outstanding := self._outgoing.outstanding):
            await asyncio.wait(outstanding, timeout=_CLOSE_STEP_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_STEP_SECONDS):
                await self._socket.drain()
        if self.connected and self._socket.connection is not None:
            properties = None
            if session_expiry_seconds is not None and self.protocol5:
                properties = packet_properties(PacketTypes.DISCONNECT)
                properties.SessionExpiryInterval = session_expiry_seconds
            # paho closes its own handle as soon as the DISCONNECT is written.
            handle = duplicate_handle(self._socket.connection)
            with handle, suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_STEP_SECONDS):
                    self._client.disconnect(None, properties)
                    self._socket.flush()
                    await self.wait_ended()
                    await shut_down(handle)
        self.abort("closed")

    def abort(self, reason: str) -> None:
        """Close the connection at once, without DISCONNECT: the broker publishes the will."""
        self._end(reason)
        self._socket.close()

    def publish(
        self, publication: Publication, *, on_lost: Callable[[], None] | None = None
    ) -> "asyncio.Future[str | None]":
        """Publish.

        Args:
            publication: the message.
            on_lost: called if the connection ends before the broker has acknowledged the message. A callback of the
                future would cost the event loop a round of its own for each acknowledged message.

        Returns:
            A future that ends when the broker has acknowledged the message, at once with QoS 0. Its result is the
            reason for which the broker refused the message, or None. It raises NotConnectedError if the connection
            ends first.

        Raises:
            NotConnectedError: the connection has ended.
            PacketTooLargeError: the broker would end the connection because of the packet's size.
        """
        if not self.connected:
            raise self._not_connected()
        return self._outgoing.publish(publication, on_lost)

    async def subscribe(
        self, topics: Sequence[str], *, qos: int = 1, stored_messages: bool = False
    ) -> Sequence[str | None]:
        """Subscribe, and wait for the broker's answer.

        Args:
            topics: topic filters.
            qos: the highest QoS of delivered messages.
            stored_messages: whether the broker shall send retained messages now. Over MQTT 3.1.1 it always does.

        Returns:
            For each topic the reason for which the broker refused it, or None.

        Raises:
            NotConnectedError: the connection has ended.
        """
        refusals: list[str | None] = []
        for start in range(0, len(topics), _TOPICS_PER_SUBSCRIBE):
            codes = await self._subscribe(topics[start : start + _TOPICS_PER_SUBSCRIBE], qos, stored_messages)
            refusals += [code.getName() if code.is_failure else None for code in codes]
        return refusals

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of this connection, so that the broker drops it."""
        if self.connected and message.qos > 0:
            if message.qos == 1:
                self._socket.write(encode_puback(message.mid))
            else:
                self._client.ack(message.mid, message.qos)

    async def _subscribe(self, topics: Sequence[str], qos: int, stored_messages: bool) -> Sequence[ReasonCode]:
        if not self.connected:
            raise self._not_connected()
        if self.protocol5:
            # Retain As Published tells a retained press from a fresh one.
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if stored_messages else SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            options = SubscribeOptions(qos, retainAsPublished=True, retainHandling=handling)
            _, mid = self._client.subscribe([(topic, options) for topic in topics])
        else:
            _, mid = self._client.subscribe([(topic, qos) for topic in topics])
        self._socket.flush()
        if mid is None or not self.connected:
            raise self._not_connected()
        answered: asyncio.Future[Sequence[ReasonCode]] = self._loop.create_future()
        self._subscribed[mid] = answered
        return await answered

    def _check_keepalive(self) -> None:
        # paho sees only the packets that pass through it. Packets in both directions need no ping.
        if not (self._socket.has_received and self._socket.has_sent):
            self._client.loop_misc()
            self._socket.flush()
        self._socket.has_received = self._socket.has_sent = False
        if not self._ended.done():
            self._keepalive_timer = self._loop.call_later(
                seconds_to_tick(_KEEPALIVE_CHECK_SECONDS), self._check_keepalive
            )

    def _not_connected(self) -> NotConnectedError:
        return NotConnectedError(self._ended.result() if self._ended.done() else CONNECTION_LOST)

    def _end(self, reason: str) -> None:
        if self._ended.done():
            return
        self._ended.set_result(reason)
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
        for answered in self._subscribed.values():
            fail(answered, self._not_connected())
        self._subscribed.clear()
        self._outgoing.lost(self._not_connected)

    def _connack_received(
        self, _client: paho.Client, _userdata: object, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end(describe_refusal(reason.getName()))
            return
        info = connack_info(bool(flags.session_present), properties)
        self._session_present = info.session_present
        self._outgoing.accepted(info)
        _settle(self._connack, info)

    def _disconnected(
        self, _client: paho.Client, _userdata: object, flags: Any, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(describe_refusal(reason.getName()))
        else:
            self._end(describe_ending(reason.getName(), self._settings, accepted=self._connack.done()))

    def _packet_received(self, data: bytes, start: int, span: PacketSpan) -> bool:
        """Handle a PUBLISH or PUBACK of the usual form; return False for another packet, which paho then reads."""
        kind = packet_type(data[start])
        if kind == PUBLISH and self._connack.done():
            publish = read_publish(data, start, span, is_5=self._is_5)
            if publish is None:
                return False
            self._publish_received(publish)
            return True
        if kind == PUBACK:
            acknowledged = read_puback(data, span)
            if acknowledged is None or acknowledged[0] not in self._outgoing:
                return False
            self._publish_acknowledged(*acknowledged)
            return True
        return False

    def _publish_received(self, publish: ReceivedPublish) -> None:
        topic, payload, qos, retain, dup, packet_id, response_topic, correlation_data = publish
        self._handle(
            Message(
                topic=topic,
                payload=payload,
                qos=qos,
                retain=retain,
                dup=dup,
                received_at=self._clock.boottime(),
                response_topic=response_topic,
                correlation_data=correlation_data,
                session_present=self._session_present,
                session=self,
                mid=packet_id,
            )
        )
        if qos and not self._options.persistent:
            self._socket.write_later(encode_puback(packet_id))

    def _message_received(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        """Handle a message that paho has read."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Brokers must refuse such a topic; one that does not would deliver the message again and again.
            self._client.ack(message.mid, message.qos)
            return
        properties = message.properties
        self._handle(
            Message(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retain=bool(message.retain),
                dup=bool(message.dup),
                received_at=self._clock.boottime(),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation_data=getattr(properties, "CorrelationData", None),
                session_present=self._connack.result().session_present,
                session=self,
                mid=message.mid,
            )
        )

    def _handle(self, message: Message) -> None:
        try:
            self._on_message(message)
        except Exception:
            _LOGGER.exception("%s could not handle a message on %s", self._options.client_id, shorten(message.topic))

    def _publish_acknowledged(self, packet_id: int, code: int) -> None:
        refusal = _puback_refusal(code)
        topic = self._outgoing.acknowledged(packet_id, refusal)
        if refusal is not None and self._on_publish_refused is not None:
            self._on_publish_refused(topic, refusal)

    def _suback_received(
        self, _client: paho.Client, _userdata: object, mid: int, codes: Sequence[ReasonCode], _properties: object
    ) -> None:
        answered = self._subscribed.pop(mid, None)
        if answered is not None:
            _settle(answered, codes)


def _puback_refusal(code: int) -> str | None:
    """Return the name of a PUBACK's reason code; None for one that is no failure (MQTT 5, section 3.4.2.1)."""
    if code < _FIRST_FAILURE:
        return None
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=code).getName())
    except KeyError:
        return f"reason code {code}"


def _settle(future: "asyncio.Future[Any]", result: object) -> None:
    # A cancelled waiter has cancelled its future.
    if not future.done():
        future.set_result(result)
