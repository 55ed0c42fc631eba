"""MQTT clients that outlive a broker's restart: one publishes until it is acknowledged, one misses nothing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.contract import ContractWatch

_PAUSE = 0.05
"""Seconds between attempts to connect: a broker's restart takes a tenth of a second."""

_FOR_EVER = 0xFFFFFFFF
"""The session expiry interval that never ends (MQTT 5, 3.1.2.11.2)."""


@dataclass(eq=False, slots=True)
class _Publication:
    topic: str
    payload: bytes
    acknowledged: asyncio.Future[None]


class SteadyPublisher:
    """Publishes with QoS 1 in order, and again in the same order whatever a broker has not acknowledged.

    Each connection has a paho client of its own: one that connects again by itself may send what is new before what it
    has to repeat, and the order would be lost.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._unacknowledged: deque[_Publication] = deque()
        self._on_its_way: dict[int, _Publication] = {}
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def unacknowledged(self) -> int:
        """Messages that no broker has acknowledged."""
        return len(self._unacknowledged)

    def publish(self, topic: str, payload: object) -> asyncio.Future[None]:
        """Publish JSON; gives what ends once a broker has acknowledged it."""
        publication = _Publication(topic, orjson.dumps(payload), self._loop.create_future())
        self._unacknowledged.append(publication)
        if self._client is not None:
            self._send(self._client, publication)
        return publication.acknowledged

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SteadyPublisher"]:
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self._run(), name="steady publisher")
            try:
                yield self
            finally:
                life.cancel()

    async def _run(self) -> None:
        while True:
            client = Client(
                CallbackAPIVersion.VERSION2, client_id="publisher", protocol=MQTTv5, reconnect_on_failure=False
            )
            client.on_connect = _in_loop(self._loop, lambda *_: self._connected.set())
            client.on_disconnect = _in_loop(self._loop, lambda *_: self._ended.set())
            client.on_publish = _in_loop(self._loop, self._acknowledge)
            self._connected.clear()
            self._ended.clear()
            try:
                await asyncio.to_thread(client.connect, "127.0.0.1", self._port)
                client.loop_start()
                async with asyncio.timeout(5):
                    await self._connected.wait()
                self._on_its_way.clear()
                self._client = client
                for publication in self._unacknowledged:
                    self._send(client, publication)
                await self._ended.wait()
            except (OSError, TimeoutError):
                await asyncio.sleep(_PAUSE)
            finally:
                self._client = None
                client.disconnect()
                client.loop_stop()

    def _send(self, client: Client, publication: _Publication) -> None:
        mid = client.publish(publication.topic, publication.payload, qos=1).mid
        self._on_its_way[mid] = publication

    def _acknowledge(self, client: Client, _userdata: object, mid: int, reason: Any, _properties: object) -> None:
        if client is not self._client:
            # Too late: it was published again. Nothing is wrong with a message that comes twice.
            return
        publication = self._on_its_way.pop(mid)
        self._unacknowledged.remove(publication)
        # "No matching subscribers" would be an acknowledgement too, of a message that nobody gets.
        if reason.value == 0:
            publication.acknowledged.set_result(None)
        else:
            publication.acknowledged.set_exception(AssertionError(f"the broker does not keep it: {reason}"))


class SteadyListener:
    """Hears everything of its topics with QoS 1, over restarts of the broker: its session lasts for ever."""

    def __init__(self, port: int, *topics: str, heard: Callable[[str, bytes], None]) -> None:
        """Take the broker's port, the topics, and what is called with topic and payload of each message."""
        self._port = port
        self._topics = topics
        self._heard = heard
        self._watch = ContractWatch()
        self._loop = asyncio.get_running_loop()
        self._subscribed = asyncio.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="listener", protocol=MQTTv5)
        self._client.reconnect_delay_set(_PAUSE, _PAUSE)  # type: ignore[arg-type]  # it waits fractions too
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = _in_loop(self._loop, lambda *_: self._subscribed.set())
        self._client.on_message = _in_loop(self._loop, self._on_message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SteadyListener"]:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho carries no types here
        properties.SessionExpiryInterval = _FOR_EVER
        self._client.connect_async("127.0.0.1", self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        try:
            async with asyncio.timeout(5):
                await self._subscribed.wait()
            yield self
        finally:
            self._client.disconnect()
            with suppress(TimeoutError):
                await asyncio.to_thread(self._client.loop_stop)
        self._watch.check()

    def _on_connect(self, *_: Any) -> None:
        self._client.subscribe([(topic, 1) for topic in self._topics])

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._watch.heard(message.topic, bytes(message.payload), qos=message.qos)
        self._heard(message.topic, bytes(message.payload))


def _in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., None]) -> Callable[..., None]:
    """Have one of paho's callbacks run in the event loop, not in paho's thread."""

    def call(*arguments: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback, *arguments)

    return call
