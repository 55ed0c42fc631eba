"""An MQTT client for tests, in the place of Home Assistant or a script; it keeps everything that it receives."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import orjson
from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.support.contract import ContractWatch

_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as the client received it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    correlation_data: bytes | None = None

    @property
    def json(self) -> Any:
        return orjson.loads(self.payload)


class MqttClient:
    """A client; `heard` collects its messages, and `watch` checks them against the published schemas."""

    def __init__(
        self,
        port: int,
        protocol: Literal["5", "3.1.1"] = "5",
        login: tuple[str, str] | None = None,
        base_topic: str = "facebridge",
    ) -> None:
        self.heard: list[Heard] = []
        self.watch = ContractWatch(base_topic)
        self.protocol5 = protocol == "5"
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._connected = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._port = port
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"test-{next(_NUMBERS)}",
            protocol=MQTTv5 if self.protocol5 else MQTTv311,
        )
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe

    async def connect(self) -> None:
        self._client.connect_async("127.0.0.1", self._port)
        self._client.loop_start()
        async with asyncio.timeout(5):
            await self._connected.wait()

    async def disconnect(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def subscribe(self, *topics: str) -> None:
        self._subscribed.clear()
        if self.protocol5:
            options = SubscribeOptions(qos=1, retainAsPublished=True)
            self._client.subscribe([(topic, options) for topic in topics])
        else:
            self._client.subscribe([(topic, 1) for topic in topics])
        async with asyncio.timeout(5):
            await self._subscribed.wait()

    async def publish(
        self,
        topic: str,
        payload: bytes | str | dict[str, Any] | list[Any] = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
    ) -> None:
        """Publish; with QoS 1, return after the broker's acknowledgement."""
        if isinstance(payload, dict | list):
            payload = orjson.dumps(payload)
        self.watch.published(topic, payload.encode() if isinstance(payload, str) else payload)
        properties = None
        if response_topic is not None or correlation_data is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho carries no types here
            if response_topic is not None:
                properties.ResponseTopic = response_topic
            if correlation_data is not None:
                properties.CorrelationData = correlation_data
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        await asyncio.to_thread(info.wait_for_publish, 10)

    def topics(self) -> list[str]:
        return [one.topic for one in self.heard]

    async def wait_for(
        self, topic: str, matches: Callable[[Heard], bool] = lambda _: True, *, within: float = 10
    ) -> Heard:
        """Return the first message of a topic that matches; wait for it if necessary."""
        return (await self.wait_for_all(topic, 1, matches, within=within))[0]

    async def wait_for_all(
        self,
        topic: str,
        number: int,
        matches: Callable[[Heard], bool] = lambda _: True,
        *,
        within: float = 10,
    ) -> Sequence[Heard]:
        """Return the first `number` messages of a topic that match; wait for them if necessary."""
        try:
            async with asyncio.timeout(within):
                while True:
                    self._changed.clear()
                    found = [one for one in self.heard if one.topic == topic and matches(one)]
                    if len(found) >= number:
                        return found[:number]
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited for {number} on {topic}, received {self.heard!r}"[:4000]) from None

    def _on_connect(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._connected.set)

    def _on_subscribe(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._subscribed.set)

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        properties = getattr(message, "properties", None)
        received = Heard(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            getattr(properties, "CorrelationData", None),
        )
        self._loop.call_soon_threadsafe(self._add, received)

    def _add(self, message: Heard) -> None:
        self.heard.append(message)
        retain = message.retain if self.protocol5 else None
        self.watch.heard(message.topic, message.payload, qos=message.qos, retain=retain)
        self._changed.set()


@asynccontextmanager
async def mqtt_client(
    port: int,
    *topics: str,
    protocol: Literal["5", "3.1.1"] = "5",
    login: tuple[str, str] | None = None,
    base_topic: str = "facebridge",
) -> AsyncIterator[MqttClient]:
    """Connect a client that subscribes to these topics. Check its messages against the schemas at the end."""
    client = MqttClient(port, protocol, login, base_topic)
    await client.connect()
    try:
        if topics:
            await client.subscribe(*topics)
        yield client
    finally:
        await client.disconnect()
    client.watch.check()
