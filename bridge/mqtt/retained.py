"""The retained topics: keep the broker's copy of them up to date."""

import asyncio
import logging
import zlib
from collections.abc import Callable, Iterable, Sequence

from bridge.mqtt.client.connection import MqttConnection, NotConnectedError, Publication

_LOGGER = logging.getLogger(__name__)

_MAX_IN_FLIGHT = 50
"""Topics published together: they share the broker's round trip, and the event loop serves others in between when
thousands are published after a reconnect."""


_COMPRESSED_BYTES = 1024
"""Payloads from this size on are kept compressed: a summary of the bridge with many pending terminals, for example."""

Payload = bytes | Callable[[], bytes]
"""A payload, or an object that returns it when it is published, and that equals the objects with the same payload."""


class _Compressed(bytes):
    """A payload that is kept compressed."""

    __slots__ = ()


class RetainedTopics:
    """The wanted payload of every retained topic. It publishes changes, and all of them after a reconnect.

    It publishes a topic only once at a time, with the payload that is wanted at that moment, so an old payload cannot
    overtake a newer one: the `offline` of an ended connection never follows the `online` of its successor.
    """

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._wanted: dict[str, Payload] = {}
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
        kept = self._wanted.get(topic)
        return None if kept is None else _payload_of(kept)

    def want(self, topic: str, payload: Payload) -> None:
        """Set the wanted payload of a topic; an empty one clears the topic."""
        kept = _kept(payload)
        if self._wanted.get(topic) == kept:
            return
        self._wanted[topic] = kept
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
            await self._publish([topic for topic, _ in zip(self._unsent, range(_MAX_IN_FLIGHT), strict=False)])
            if not self._unsent:
                self._has_work.clear()
                self._settled.set()

    def _mark_unsent(self, topics: Iterable[str]) -> None:
        self._unsent.update((topic, None) for topic in topics)
        if self._unsent:
            self._settled.clear()
            if self._is_connected:
                self._has_work.set()

    async def _publish(self, topics: Sequence[str]) -> None:
        """Publish topics, and wait until the broker has acknowledged them; those that fail are unsent again."""
        waiting: list[tuple[str, asyncio.Future[str | None]]] = []
        failed: list[str] = []
        cleared = [topic for topic in topics if not self._wanted[topic]]
        for topic in topics:
            # Removed before it is published, so that a change in the meantime marks it again.
            del self._unsent[topic]
            payload = _payload_of(self._wanted[topic])
            try:
                acknowledged = self._connection.publish_nowait(Publication(topic, payload, qos=1, retain=True))
            except NotConnectedError:
                failed.append(topic)
                # The connection ended a moment ago. Without a pause until the next one, this task would try again and
                # again, and the event loop would never get to report the end.
                self.disconnected()
            else:
                if acknowledged is not None:
                    waiting.append((topic, acknowledged))
        # No task for each topic: ten thousand terminals publish their states every minute.
        if waiting:
            await asyncio.wait([acknowledged for _, acknowledged in waiting])
        failed += [topic for topic, acknowledged in waiting if isinstance(acknowledged.exception(), NotConnectedError)]
        self._unsent.update((topic, None) for topic in failed)
        for topic in set(cleared).difference(failed):
            if not self._wanted[topic]:
                del self._wanted[topic]


def _kept(payload: Payload) -> Payload:
    """Return what to keep of a payload: compressed if it is large, and in any case no longer than needed.

    orjson returns 300 bytes in an object of 4 KB, and 4.4 KB in one of 8 KB.
    """
    if not isinstance(payload, bytes):
        return payload
    if len(payload) >= _COMPRESSED_BYTES:
        return _Compressed(zlib.compress(payload, 1))
    return bytes(memoryview(payload))


def _payload_of(kept: Payload) -> bytes:
    if not isinstance(kept, bytes):
        return kept()
    return zlib.decompress(kept) if isinstance(kept, _Compressed) else kept
