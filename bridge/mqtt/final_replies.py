"""Publish the final replies to person changes, each at least once (promise 2)."""

import asyncio
import logging
from collections.abc import Sequence

import orjson

from bridge.model.faults import UnavailableError
from bridge.model.person_entry import FinalReply
from bridge.mqtt.client.connection import MqttConnection, NotConnectedError
from bridge.mqtt.topics import Topics
from bridge.persons.outbox import Outbox

_LOGGER = logging.getLogger(__name__)

_MAX_IN_FLIGHT = 50
"""Final replies published together: they share the broker's round trip, and few are published twice after a break."""

_RETRY_SECONDS = 2.0
"""Between two attempts while the store is unavailable."""


class OutboxPublisher:
    """Publishes the outbox, and deletes each final reply after the broker has acknowledged it."""

    def __init__(self, topics: Topics, connection: MqttConnection, outbox: Outbox) -> None:
        self._topics = topics
        self._connection = connection
        self._outbox = outbox
        self._connected = asyncio.Event()
        self._in_flight = 0
        self._published: set[int] = set()

    @property
    def in_flight(self) -> int:
        """The number of final replies that wait for the broker's acknowledgement."""
        return self._in_flight

    def connected(self) -> None:
        """Start with the oldest final reply that the broker has not acknowledged."""
        self._outbox.rewind()
        self._connected.set()

    def disconnected(self) -> None:
        """Pause until the broker is connected."""
        self._connected.clear()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._connected.wait()
            try:
                await self._delete_published()
                await self._publish(await self._outbox.next_entries(_MAX_IN_FLIGHT))
            except UnavailableError as error:
                _LOGGER.warning("the outbox cannot be read or emptied now: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _publish(self, entries: Sequence[FinalReply]) -> None:
        entries = [entry for entry in entries if entry.id not in self._published]
        self._in_flight = len(entries)
        try:
            # Tasks run their first step in the order they are created, so the replies go out in order.
            acknowledged = await asyncio.gather(*(self._publish_one(entry) for entry in entries))
        finally:
            self._in_flight = 0
        self._published |= {entry.id for entry, done in zip(entries, acknowledged, strict=True) if done}
        if not all(acknowledged) and self._connected.is_set():
            # The connection was back before this noticed the break: no later `connected` returns these again.
            self._outbox.rewind()
        await self._delete_published()

    async def _delete_published(self) -> None:
        """Delete published replies. While a full store prevents that, their ids stay here: they go out only once."""
        if self._published:
            await self._outbox.published(sorted(self._published))
            self._published.clear()

    async def _publish_one(self, entry: FinalReply) -> bool:
        """Publish a final reply; return whether the broker has acknowledged it."""
        payload = orjson.dumps(entry.reply.as_json())
        try:
            await self._connection.publish(self._topics.reply(entry.reply), payload, qos=1)
            response_topic = entry.origin.response_topic
            # Checked again: `base_topic` may have changed since the request.
            if response_topic is not None and self._topics.allows_response_topic(response_topic):
                await self._connection.publish(
                    response_topic, payload, qos=1, correlation_data=entry.origin.correlation_data
                )
        except NotConnectedError:
            return False
        return True
