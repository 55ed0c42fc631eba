"""What should be retained on the broker, kept there: the wanted set and its one writer."""

import asyncio
import logging
from collections.abc import Iterable

from bridge.mqtt.client.connection import MqttConnection, NotConnectedError

_LOGGER = logging.getLogger(__name__)

_AT_ONCE = 50
"""Topics under way together. It shares the broker's round trip, and lets the event loop breathe between two lots when
thousands are sent after a reconnect."""


class RetainedTopics:
    """The wanted payload of every retained topic; what differs from the broker's is sent, all of it after a reconnect.

    A topic is never under way twice and always carries what is wanted at that moment, so an old payload cannot overtake
    a newer one: an `offline` of an ended connection never follows the `online` of its successor.
    """

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._wanted: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}
        self._is_connected = False
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def unsent(self) -> int:
        """Topics whose payload the broker has yet to acknowledge."""
        return len(self._unsent)

    def want(self, topic: str, payload: bytes) -> None:
        """Have `payload` retained; an empty one clears the topic."""
        if self._wanted.get(topic) == payload:
            return
        self._wanted[topic] = payload
        self._mark((topic,))

    def clear(self, topic: str) -> None:
        """Have nothing retained."""
        self.want(topic, b"")

    def send_again(self, topics: Iterable[str]) -> None:
        """Publish those of these topics that are wanted once more, in this order."""
        self._mark(topic for topic in topics if topic in self._wanted)

    def connected(self) -> None:
        """Send everything: the broker may have lost it, or never had it."""
        self._is_connected = True
        # What was wanted first goes first again; the discovery of the bridge's own device depends on it.
        self._unsent.clear()
        self._mark(self._wanted)

    def disconnected(self) -> None:
        """Keep what changes until the broker is back."""
        self._is_connected = False
        self._work.clear()

    async def wait_settled(self) -> None:
        """Wait until the broker has acknowledged everything."""
        await self._settled.wait()

    async def run(self) -> None:
        """Send what is unsent until cancelled."""
        while True:
            await self._work.wait()
            lot = [topic for topic, _ in zip(self._unsent, range(_AT_ONCE), strict=False)]
            for topic in lot:
                # Out of the list before it is sent: what changes meanwhile is unsent again.
                del self._unsent[topic]
            sent = await asyncio.gather(*(self._send(topic) for topic in lot))
            self._unsent.update((topic, None) for topic, is_sent in zip(lot, sent, strict=True) if not is_sent)
            if not self._unsent:
                self._work.clear()
                self._settled.set()

    def _mark(self, topics: Iterable[str]) -> None:
        self._unsent.update((topic, None) for topic in topics)
        if self._unsent:
            self._settled.clear()
            if self._is_connected:
                self._work.set()

    async def _send(self, topic: str) -> bool:
        payload = self._wanted[topic]
        try:
            await self._connection.publish(topic, payload, qos=1, retain=True)
        except NotConnectedError:
            return False
        if not payload and not self._wanted[topic]:
            del self._wanted[topic]
        return True
