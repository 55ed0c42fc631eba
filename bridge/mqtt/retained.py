"""The retained topics: keep the broker's copy of them up to date."""

import asyncio
import logging
from collections.abc import Iterable

from bridge.mqtt.client.connection import MqttConnection, NotConnectedError, Publication

_LOGGER = logging.getLogger(__name__)

_MAX_IN_FLIGHT = 50
"""Topics published together: they share the broker's round trip, and the event loop serves others in between when
thousands are published after a reconnect."""


class RetainedTopics:
    """The wanted payload of every retained topic. It publishes changes, and all of them after a reconnect.

    It publishes a topic only once at a time, with the payload that is wanted at that moment, so an old payload cannot
    overtake a newer one: the `offline` of an ended connection never follows the `online` of its successor.
    """

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._wanted: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}
        self._is_connected = False
        self._has_work = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def unsent(self) -> int:
        """The number of topics whose payload the broker has not acknowledged and that are not in flight."""
        return len(self._unsent)

    def wanted(self, topic: str) -> bytes | None:
        """Return the wanted payload of a topic; empty if it is to be cleared, None if there is none."""
        return self._wanted.get(topic)

    def want(self, topic: str, payload: bytes) -> None:
        """Set the wanted payload of a topic; an empty one clears the topic."""
        if self._wanted.get(topic) == payload:
            return
        self._wanted[topic] = payload
        self._mark_unsent((topic,))

    def clear(self, topic: str) -> None:
        """Remove the topic's retained message from the broker."""
        self.want(topic, b"")

    def send_again(self, topics: Iterable[str]) -> None:
        """Publish the wanted ones of these topics again, in this order."""
        self._mark_unsent(topic for topic in topics if topic in self._wanted)

    def connected(self) -> None:
        """Publish everything: the broker may have lost it, or never had it."""
        self._is_connected = True
        # In the order in which the topics were wanted first; the discovery of the bridge's own device depends on it.
        self._unsent.clear()
        self._mark_unsent(self._wanted)

    def disconnected(self) -> None:
        """Collect changes until the broker is connected."""
        self._is_connected = False
        self._has_work.clear()

    async def wait_settled(self) -> None:
        """Wait until the broker has acknowledged everything."""
        await self._settled.wait()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._has_work.wait()
            batch = [topic for topic, _ in zip(self._unsent, range(_MAX_IN_FLIGHT), strict=False)]
            for topic in batch:
                # Removed before it is published, so that a change in the meantime marks it again.
                del self._unsent[topic]
            sent = await asyncio.gather(*(self._send(topic) for topic in batch))
            self._unsent.update((topic, None) for topic, is_sent in zip(batch, sent, strict=True) if not is_sent)
            if not self._unsent:
                self._has_work.clear()
                self._settled.set()

    def _mark_unsent(self, topics: Iterable[str]) -> None:
        self._unsent.update((topic, None) for topic in topics)
        if self._unsent:
            self._settled.clear()
            if self._is_connected:
                self._has_work.set()

    async def _send(self, topic: str) -> bool:
        payload = self._wanted[topic]
        try:
            await self._connection.publish(Publication(topic, payload, qos=1, retain=True))
        except NotConnectedError:
            return False
        if not payload and not self._wanted[topic]:
            del self._wanted[topic]
        return True
