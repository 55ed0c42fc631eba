"""A client of the doctor's own at the broker: it sees the CONNACK, every reason code and what lies retained."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
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
from bridge.mqtt.client.messages import NotConnectedError
from bridge.mqtt.client.paho_client import build_client, connect_in_thread, packet_properties
from bridge.mqtt.client.paho_socket import PahoSocket
from bridge.mqtt.client.reasons import ENDINGS, LOST, failure, refusal, unanswered
from bridge.mqtt.client.tls import TlsFilesError

_CONNECT_TIMEOUT = 10.0
"""Seconds, as the bridge's own connection has (`mqtt.paho_session`)."""

_ANSWER_TIMEOUT = 10.0
"""Seconds for an answer that takes milliseconds; a large packet over a slow line takes some."""

_MISCELLANY = 1.0
"""Seconds between looks at paho's keep-alive."""

_GOODBYE = 1.0
"""Seconds for a DISCONNECT to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnackInfo:
    """What the broker says in CONNACK; None where it says nothing, as always over MQTT 3.1.1.

    Attributes:
        session_present: it had kept the session.
        session_expiry: seconds it keeps one, where that differs from what was asked.
        receive_maximum: publishes it takes ahead of its acknowledgements.
        maximum_qos: the highest it takes; None means 2.
        retain_available: whether it keeps retained messages; None means it does.
        maximum_packet: bytes of the largest packet it takes.
        assigned_id: the client id it gave in place of ours.
        topic_aliases: how many it takes.
        wildcards: whether subscriptions may hold them; None means they may.
        keep_alive: seconds it wants in place of ours.
        server_reference: another broker it wants us to use.
    """

    session_present: bool
    session_expiry: int | None = None
    receive_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    maximum_packet: int | None = None
    assigned_id: str | None = None
    topic_aliases: int | None = None
    wildcards: bool | None = None
    keep_alive: int | None = None
    server_reference: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message as the probe got it; `received_at` is `Clock.boottime`."""

    topic: str
    payload: bytes
    retain: bool
    received_at: float


class Probe:
    """One connection; used once. `probing` opens and closes it."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        clock: Clock,
        *,
        persistent: bool = False,
        acknowledges_at_once: bool = True,
        on_message: Callable[[ReceivedMessage], None] | None = None,
    ) -> None:
        """Build the client.

        Args:
            settings: of the broker.
            client_id: of the doctor's own, never the bridge's.
            clock: messages are dated with; uvloop's own has whole milliseconds, and those of its last turn.
            persistent: the broker keeps the session, and what is not acknowledged.
            acknowledges_at_once: have the kernel acknowledge every segment at once, as the bridge does; else as it
                does by default.
            on_message: called with what comes in; without it `next` returns it.
        """
        self._settings = settings
        self._clock = clock
        self._persistent = persistent
        self._loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[ReceivedMessage] = asyncio.Queue()
        self._on_message = on_message or self._messages.put_nowait
        self._timer: asyncio.TimerHandle | None = None
        self._greeted: asyncio.Future[ConnackInfo] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[Sequence[ReasonCode]]] = {}
        self._client = build_client(settings, client_id, persistent=persistent, will=None)
        self._socket = PahoSocket(
            self._client, on_close=self._end, on_garbage=self._end, acknowledges_at_once=acknowledges_at_once
        )
        self._client.on_connect = self._connack
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received
        self._client.on_publish = self._puback
        self._client.on_subscribe = self._suback

    @property
    def protocol5(self) -> bool:
        """Whether it speaks MQTT 5, which alone gives reasons."""
        return self._settings.protocol == "5"

    @property
    def greeting(self) -> ConnackInfo:
        """What the broker said when it was connected."""
        return self._greeted.result()

    async def connect(self) -> ConnackInfo:
        """Connect. Raises NotConnectedError with what is in the way, in the words the bridge uses."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                await connect_in_thread(self._client, self._settings, persistent=self._persistent)
                self._socket.adopt()
                self._timer = self._loop.call_later(_MISCELLANY, self._look_after_it)
                await asyncio.wait((self._greeted, self._ended), return_when=asyncio.FIRST_COMPLETED)
        except TlsFilesError as error:
            self._end(str(error))
        except Exception as error:  # noqa: BLE001  whatever paho and its codecs raise, there is no connection
            self._end(failure(error, self._settings))
        if self._ended.done():
            raise NotConnectedError(self._ended.result())
        return self._greeted.result()

    async def subscribe(self, topics: Sequence[str], *, qos: int = 1) -> Sequence[str | None]:
        """Subscribe, retained messages included; return why each was refused, None for those that were not.

        Raises:
            NotConnectedError: the connection ended.
        """
        if self.protocol5:
            options = SubscribeOptions(qos, retainAsPublished=True)
            _, mid = self._client.subscribe([(topic, options) for topic in topics])
        else:
            _, mid = self._client.subscribe([(topic, qos) for topic in topics])
        codes = await self._answer(mid)
        return [code.getName() if code.is_failure else None for code in codes]

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str | None:
        """Publish with QoS 1; return why the broker refused it, None where it has taken it.

        Raises:
            NotConnectedError: the connection ended.
        """
        published = self._client.publish(topic, payload, 1, retain)
        self._socket.flush()
        mid = published.mid if published.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None
        refused = [code.getName() for code in await self._answer(mid) if code.is_failure]
        return refused[0] if refused else None

    async def next(self, within: float) -> ReceivedMessage | None:
        """Return the next message; None where none comes within so many seconds.

        Raises:
            NotConnectedError: the connection ended.
        """
        waiting = self._loop.create_task(self._messages.get())
        try:
            await asyncio.wait((waiting, self._ended), timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        finally:
            waiting.cancel()
        if self._ended.done():
            raise NotConnectedError(self._ended.result())
        return None

    async def close(self, *, keep_for: int | None = None) -> None:
        """Say goodbye.

        Args:
            keep_for: seconds that the broker keeps a persistent session from now on (MQTT 5), whatever CONNECT asked.
        """
        if self._greeted.done() and not self._ended.done():
            properties = None
            if keep_for is not None and self.protocol5:
                properties = packet_properties(PacketTypes.DISCONNECT)
                properties.SessionExpiryInterval = keep_for
            self._client.disconnect(None, properties)
            self._socket.flush()
            await asyncio.wait((self._ended,), timeout=_GOODBYE)
        self._end("closed")

    async def _answer(self, mid: int | None) -> Sequence[ReasonCode]:
        if mid is None or self._ended.done():
            raise NotConnectedError(self._ended.result() if self._ended.done() else LOST)
        answered = self._answers.setdefault(mid, self._loop.create_future())
        await asyncio.wait((answered, self._ended), timeout=_ANSWER_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            del self._answers[mid]
            return answered.result()
        raise NotConnectedError(self._ended.result() if self._ended.done() else "the broker does not answer")

    def _look_after_it(self) -> None:
        self._client.loop_misc()
        self._socket.flush()
        if not self._ended.done():
            self._timer = self._loop.call_later(_MISCELLANY, self._look_after_it)

    def _end(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(reason)
        self._socket.close()

    def _ends_with(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _connack(
        self, _client: paho.Client, _userdata: object, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._ends_with(refusal(reason.getName()))
        elif not self._greeted.done():
            self._greeted.set_result(_greeting(bool(flags.session_present), properties))

    def _disconnected(
        self, _client: paho.Client, _userdata: object, flags: Any, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._ends_with(refusal(reason.getName()))
        else:
            broke = LOST if self._greeted.done() else unanswered(self._settings)
            self._ends_with(ENDINGS.get(reason.getName(), broke))

    def _received(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        self._on_message(ReceivedMessage(topic, bytes(message.payload), bool(message.retain), self._clock.boottime()))

    def _puback(
        self, _client: paho.Client, _userdata: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self._settle(mid, [reason])

    def _suback(
        self, _client: paho.Client, _userdata: object, mid: int, codes: Sequence[ReasonCode], _properties: object
    ) -> None:
        self._settle(mid, codes)

    def _settle(self, mid: int, codes: Sequence[ReasonCode]) -> None:
        # The answer may come before anybody waits for it.
        answered = self._answers.setdefault(mid, self._loop.create_future())
        if not answered.done():
            answered.set_result(codes)


@asynccontextmanager
async def probing(
    settings: MqttSettings,
    client_id: str,
    clock: Clock,
    *,
    on_message: Callable[[ReceivedMessage], None] | None = None,
    quick: bool = True,
) -> AsyncIterator[Probe]:
    """Give a connected probe that leaves no session behind. Raises NotConnectedError."""
    probe = Probe(settings, client_id, clock, acknowledges_at_once=quick, on_message=on_message)
    try:
        await probe.connect()
        yield probe
    finally:
        await probe.close()


def _greeting(session_present: bool, properties: Properties | None) -> ConnackInfo:
    def told(name: str) -> Any:
        return getattr(properties, name, None)

    def as_bool(name: str) -> bool | None:
        return None if told(name) is None else bool(told(name))

    return ConnackInfo(
        session_present=session_present,
        session_expiry=told("SessionExpiryInterval"),
        receive_maximum=told("ReceiveMaximum"),
        maximum_qos=told("MaximumQoS"),
        retain_available=as_bool("RetainAvailable"),
        maximum_packet=told("MaximumPacketSize"),
        assigned_id=told("AssignedClientIdentifier"),
        topic_aliases=told("TopicAliasMaximum"),
        wildcards=as_bool("WildcardSubscriptionAvailable"),
        keep_alive=told("ServerKeepAlive"),
        server_reference=told("ServerReference"),
    )
