"""One connection to the broker, from CONNECT until it is gone: paho inside the event loop.

paho keeps what it could not send and sends it after a reconnect, which would be late; so each connection has a client
of its own, and dies with it.
"""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.config.settings import MqttSettings
from bridge.hub.clock import Clock
from bridge.mqtt.reasons import failure, refusal
from bridge.mqtt.sockets import acknowledge_at_once, set_up

_LOGGER = logging.getLogger(__name__)

_KEEPALIVE = 15
"""Seconds without a packet before a ping; a broker that hangs shows within two of them. The live connection's heartbeat
is quicker, this is for the intake's."""

_CONNECT_TIMEOUT = 10.0
"""Seconds for name, TCP and TLS, and again for CONNACK: a broker that takes longer is as good as away."""

_MISCELLANY = 1.0
"""Seconds between looks at paho's keep-alive."""

_RECEIVE_MAXIMUM = 100
"""Messages the broker may send ahead of their acknowledgements: as many as are committed together."""

_MAXIMUM_PACKET = 64 * 1024 * 1024
"""Bytes of a packet that is still read: one far above what is obeyed (some 16 MB) gets its `invalid`; beyond that the
broker keeps it away (MQTT 5), so that nobody fills the memory."""

_KEPT_FOR_EVER = 0xFFFFFFFF
"""The session expiry interval that means never (MQTT 5, 3.1.2.11.2)."""

_TOPICS_A_PACKET = 200
"""Topics subscribed to in one packet: far below the packet limits of brokers."""


class NotConnectedError(Exception):
    """The broker is away: nothing was published, and nothing will be later."""


class SubscriptionRefusedError(Exception):
    """The broker does not let us subscribe.

    Attributes:
        topic: to what.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What came in.

    Attributes:
        topic: it was published on.
        payload: as it is.
        qos: it was delivered with.
        retain: whether the broker had stored it, or (MQTT 5) it was published retained.
        received_at: when it was read (`Clock.boottime`).
        response_topic: MQTT 5's.
        correlation_data: MQTT 5's.
        session: the connection it came in on.
        mid: its packet id there.
    """

    topic: str
    payload: bytes = field(repr=False)
    qos: int
    retain: bool
    received_at: float
    response_topic: str | None = None
    correlation_data: bytes | None = None
    session: "PahoSession | None" = field(default=None, repr=False, compare=False)
    mid: int = field(default=0, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes when the connection ends without a goodbye."""

    topic: str
    payload: bytes | str
    qos: int = 1
    retain: bool = True


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
        self._clock = clock
        self._persistent = persistent
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._writing = False
        self._reading = False
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._published: dict[int, asyncio.Future[None]] = {}
        self._subscribed: dict[int, asyncio.Future[Sequence[ReasonCode]]] = {}
        self._client = self._build_client(client_id, will)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted it and it has not ended."""
        return self._accepted.done() and not self._ended.done()

    async def connect(self) -> None:
        """Connect.

        Raises:
            NotConnectedError: with what is in the way.
        """
        try:
            async with asyncio.timeout(2 * _CONNECT_TIMEOUT):
                await self._connect_in_thread()
        except TimeoutError:
            raise NotConnectedError(failure(TimeoutError(), str(self._settings.host), self._settings.port)) from None
        except OSError as error:
            raise NotConnectedError(failure(error, str(self._settings.host), self._settings.port)) from None
        connection = cast("socket.socket | None", self._client.socket())
        if connection is None:
            raise NotConnectedError("the broker ended the connection")
        self._socket = connection
        set_up(connection)
        self._client.on_socket_close = self._socket_closes
        self._loop.add_reader(connection, self._read)
        self._flush()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                await asyncio.wait((self._accepted, self._ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self.abort(f"no answer from {self._settings.host}:{self._settings.port}")
        if self._ended.done():
            raise NotConnectedError(self._ended.result())

    async def wait_ended(self) -> str:
        """Keep the connection going until it ends; return why it did."""
        while not self._ended.done():
            await asyncio.wait((self._ended,), timeout=_MISCELLANY)
            self._client.loop_misc()
            self._flush()
        return self._ended.result()

    async def close(self) -> None:
        """Send what was published and a DISCONNECT, so that no will is published; wait until it is on its way."""
        if not self.connected:
            self.abort("closed")
            return
        self._client.disconnect()
        self._flush()
        # paho closes the socket itself once the DISCONNECT is written; a broker that reads nothing is not waited for.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(self._ended)
        self.abort("closed")

    def abort(self, reason: str) -> None:
        """End it at once."""
        self._end(reason)
        connection, self._socket = self._socket, None
        if connection is not None:
            self._forget(connection)
            connection.close()

    def publish(
        self, topic: str, payload: bytes | str, qos: int, *, retain: bool, correlation_data: bytes | None
    ) -> int:
        """Publish, and return the packet id.

        Raises:
            NotConnectedError: the connection has ended.
        """
        if not self.connected:
            raise NotConnectedError
        properties = None
        if correlation_data is not None and self.protocol5:
            properties = _properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation_data
        published = self._client.publish(topic, payload, qos, retain, properties)
        self._flush()
        if published.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise NotConnectedError
        return published.mid

    async def publish_and_wait(
        self, topic: str, payload: bytes | str, qos: int, *, retain: bool, correlation_data: bytes | None
    ) -> None:
        """Publish with QoS 1, and return once the broker has acknowledged it; errors as for `publish`."""
        mid = self.publish(topic, payload, qos, retain=retain, correlation_data=correlation_data)
        if qos == 0:
            return
        acknowledged: asyncio.Future[None] = self._loop.create_future()
        self._published[mid] = acknowledged
        try:
            await self._unless_ended(acknowledged)
        finally:
            self._published.pop(mid, None)

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
            self._flush()

    @property
    def protocol5(self) -> bool:
        """Whether it speaks MQTT 5."""
        return self._settings.protocol == "5"

    def _build_client(self, client_id: str, will: Will | None) -> paho.Client:
        settings = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if self.protocol5 else not self._persistent,
            protocol=MQTTProtocolVersion.MQTTv5 if self.protocol5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=self._persistent,
        )
        client.connect_timeout = _CONNECT_TIMEOUT
        # What is limited here would queue the heartbeat behind a flood of retained topics.
        client.max_inflight_messages_set(0)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password.reveal() if settings.password else None)
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._connack
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_publish = self._acknowledged
        client.on_subscribe = self._suback
        return client

    async def _connect_in_thread(self) -> None:
        """Run paho's blocking connect in a thread that nothing waits for when the bridge stops."""
        connected: asyncio.Future[None] = self._loop.create_future()

        def settle(error: BaseException | None) -> None:
            connection = self._client.socket()
            if connected.cancelled():
                if connection is not None:
                    connection.close()
            elif error is None:
                connected.set_result(None)
            else:
                connected.set_exception(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                self._connect()
            except OSError as failed:
                error = failed
            except ValueError as failed:
                # paho's own checks, and a name that cannot be encoded.
                error = OSError(0, str(failed))
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=work, name="MQTT connect", daemon=True).start()
        await connected

    def _connect(self) -> None:
        settings = self._settings
        if settings.tls is not None:
            context = ssl.create_default_context(cafile=settings.tls.ca)
            context.sslsocket_class = _ClosingSocket
            if not settings.tls.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if settings.tls.certificate is not None:
                context.load_cert_chain(settings.tls.certificate, settings.tls.key)
            self._client.tls_set_context(context)
        host = str(settings.host)
        if not self.protocol5:
            self._client.connect(host, settings.port, _KEEPALIVE)
            return
        properties = _properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = _RECEIVE_MAXIMUM
        properties.MaximumPacketSize = _MAXIMUM_PACKET
        if self._persistent:
            properties.SessionExpiryInterval = _KEPT_FOR_EVER
        self._client.connect(host, settings.port, _KEEPALIVE, clean_start=not self._persistent, properties=properties)

    async def _subscribe(self, topics: Sequence[str], qos: int) -> None:
        if not self.connected:
            raise NotConnectedError
        if self.protocol5:
            # Stored messages stay away, and a retained press can be told from a fresh one.
            options = SubscribeOptions(qos, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            _, mid = self._client.subscribe([(topic, options) for topic in topics])
        else:
            _, mid = self._client.subscribe([(topic, qos) for topic in topics])
        self._flush()
        if mid is None:
            raise NotConnectedError
        answered: asyncio.Future[Sequence[ReasonCode]] = self._loop.create_future()
        self._subscribed[mid] = answered
        try:
            codes = await self._unless_ended(answered)
        finally:
            self._subscribed.pop(mid, None)
        for topic, code in zip(topics, codes, strict=False):
            if code.is_failure:
                raise SubscriptionRefusedError(topic)

    async def _unless_ended(self, waiting: "asyncio.Future[Any]") -> Any:
        await asyncio.wait((waiting, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise NotConnectedError
        return waiting.result()

    def _read(self) -> None:
        self._reading = True
        try:
            self._client.loop_read()
            # What TLS has decrypted already makes the socket no more readable.
            while isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
                self._client.loop_read()
        except Exception as error:  # noqa: BLE001  a broken broker can make paho's parser raise anything
            self.abort(f"the broker sent what is no MQTT ({type(error).__name__})")
            return
        finally:
            self._reading = False
        if self._socket is not None:
            acknowledge_at_once(self._socket)
        self._flush()

    def _write(self) -> None:
        self._client.loop_write()
        self._flush()

    def _flush(self) -> None:
        """Write what waits; where the socket takes no more, go on when it does."""
        if self._reading:
            # Inside a callback paho's lock is held, and writing would wait for it for ever; `_read` writes afterwards.
            return
        if self._socket is not None and self._client.want_write() and not self._writing:
            self._client.loop_write()
        if self._socket is None or self._client.want_write() == self._writing:
            return
        self._writing = not self._writing
        if self._writing:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)

    def _socket_closes(self, _client: paho.Client, _userdata: object, connection: Any) -> None:
        self._forget(connection)
        self._socket = None
        self._end("the connection to the broker was lost")

    def _forget(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        if self._writing:
            self._loop.remove_writer(connection)
            self._writing = False

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _connack(
        self, _client: paho.Client, _userdata: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._end(refusal(reason.getName()))
        elif not self._accepted.done():
            self._accepted.set_result(None)

    def _disconnected(
        self, _client: paho.Client, _userdata: object, flags: Any, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(refusal(reason.getName()))

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
            _LOGGER.exception("a message could not be handled")

    def _acknowledged(
        self, _client: paho.Client, _userdata: object, mid: int, _reason: ReasonCode, _properties: object
    ) -> None:
        acknowledged = self._published.get(mid)
        if acknowledged is not None and not acknowledged.done():
            acknowledged.set_result(None)

    def _suback(
        self, _client: paho.Client, _userdata: object, mid: int, codes: Sequence[ReasonCode], _properties: object
    ) -> None:
        answered = self._subscribed.get(mid)
        if answered is not None and not answered.done():
            answered.set_result(codes)


class _ClosingSocket(ssl.SSLSocket):
    """A socket that does not stay open when its handshake fails; paho forgets it."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho's own gap
