"""MQTT clients that survive a broker's restart: a publisher that repeats, and a listener that misses nothing."""

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

_RETRY_SECONDS = 0.05
"""Time between attempts to connect: a broker's restart takes a tenth of a second."""

_NEVER_EXPIRES = 0xFFFFFFFF
"""The session expiry interval of a session that does not end (MQTT 5, section 3.1.2.11.2)."""


@dataclass(eq=False, slots=True)
class _Publication:
    topic: str
    payload: bytes
    acknowledged: asyncio.Future[None]


class SteadyPublisher:
    """A publisher with QoS 1. After a reconnect it repeats unacknowledged messages in their order.

    Each connection has a paho client of its own: a client that reconnects by itself may send a new message before the
    repeated ones, and the order would be lost.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._unacknowledged: deque[_Publication] = deque()
        self._sent: dict[int, _Publication] = {}
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def unacknowledged(self) -> int:
        """Number of messages that the broker has not acknowledged."""
        return len(self._unacknowledged)

    def publish(self, topic: str, payload: object) -> asyncio.Future[None]:
        """Publish JSON; return a future that ends when the broker has acknowledged it."""
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
                self._sent.clear()
                self._client = client
                for publication in self._unacknowledged:
                    self._send(client, publication)
                await self._ended.wait()
            except (OSError, TimeoutError):
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                self._client = None
                client.disconnect()
                client.loop_stop()

    def _send(self, client: Client, publication: _Publication) -> None:
        mid = client.publish(publication.topic, publication.payload, qos=1).mid
        self._sent[mid] = publication

    def _acknowledge(self, client: Client, _userdata: object, mid: int, reason: Any, _properties: object) -> None:
        if client is not self._client:
            # An earlier connection: the message was published again, and a duplicate is harmless.
            return
        publication = self._sent.pop(mid)
        self._unacknowledged.remove(publication)
        # "No matching subscribers" also acknowledges, but the broker would drop the message.
        if reason.value == 0:
            publication.acknowledged.set_result(None)
        else:
            publication.acknowledged.set_exception(AssertionError(f"the broker does not keep the message: {reason}"))


class SteadyListener:
    """A subscriber with QoS 1 and a session that never expires, so that it misses nothing during a restart."""

    def __init__(self, port: int, *topics: str, heard: Callable[[str, bytes], None]) -> None:
        """Prepare the client.

        Args:
            port: the broker's port.
            topics: topic filters.
            heard: called with topic and payload of each message.
        """
        self._port = port
        self._topics = topics
        self._heard = heard
        self._watch = ContractWatch()
        self._loop = asyncio.get_running_loop()
        self._subscribed = asyncio.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="listener", protocol=MQTTv5)
        self._client.reconnect_delay_set(_RETRY_SECONDS, _RETRY_SECONDS)  # type: ignore[arg-type]  # it accepts fractions too
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = _in_loop(self._loop, lambda *_: self._subscribed.set())
        self._client.on_message = _in_loop(self._loop, self._on_message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SteadyListener"]:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
        properties.SessionExpiryInterval = _NEVER_EXPIRES
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
    """Return a callback for paho that runs in the event loop instead of paho's thread."""

    def call(*arguments: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback, *arguments)

    return call
