"""Publishes the last words on person changes, at least once each (promise 2)."""

import asyncio
import logging
from collections.abc import Sequence

import orjson

from bridge.model.faults import UnavailableError
from bridge.model.person_entry import FinalReply
from bridge.mqtt.client.connection import MqttConnection, NotConnectedError
from bridge.mqtt.origins import is_fit_to_answer
from bridge.mqtt.publisher import reply_topic
from bridge.mqtt.topics import Topics
from bridge.persons.outbox import Outbox

_LOGGER = logging.getLogger(__name__)

_AT_ONCE = 50
"""Entries under way together: the broker's round trip is shared, and little is told twice after a break."""

_PAUSE = 2.0
"""Seconds before asking the store again when it could not answer."""


class OutboxPublisher:
    """Takes entries out of the outbox and drops each once the broker has acknowledged it."""

    def __init__(self, topics: Topics, connection: MqttConnection, outbox: Outbox) -> None:
        self._topics = topics
        self._connection = connection
        self._outbox = outbox
        self._connected = asyncio.Event()
        self._under_way = 0
        self._published: set[int] = set()

    @property
    def under_way(self) -> int:
        """Entries that the broker has yet to acknowledge."""
        return self._under_way

    def connected(self) -> None:
        """Begin with the oldest entry that the broker has not acknowledged."""
        self._outbox.rewind()
        self._connected.set()

    def disconnected(self) -> None:
        """Wait for the broker."""
        self._connected.clear()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._connected.wait()
            try:
                await self._drop_published()
                await self._publish(await self._outbox.next_entries(_AT_ONCE))
            except UnavailableError as error:
                _LOGGER.warning("the outbox cannot be read or emptied now: %s", error)
                await asyncio.sleep(_PAUSE)

    async def _publish(self, entries: Sequence[FinalReply]) -> None:
        entries = [entry for entry in entries if entry.id not in self._published]
        self._under_way = len(entries)
        try:
            # Tasks take their first step in the order they are made, so entries go out in their order.
            told = await asyncio.gather(*(self._tell(entry) for entry in entries))
        finally:
            self._under_way = 0
        self._published |= {entry.id for entry, is_told in zip(entries, told, strict=True) if is_told}
        if not all(told) and self._connected.is_set():
            # The break was over before it was noticed here: nothing else would hand these out again.
            self._outbox.rewind()
        await self._drop_published()

    async def _drop_published(self) -> None:
        """Drop what was told. A full store cannot do even that: then it is kept in mind, lest it be told for ever."""
        if self._published:
            await self._outbox.published(sorted(self._published))
            self._published.clear()

    async def _tell(self, entry: FinalReply) -> bool:
        payload = orjson.dumps(entry.reply.as_json())
        try:
            await self._connection.publish(reply_topic(entry.reply, self._topics), payload, qos=1)
            response_topic = entry.origin.response_topic
            # Looked at again: `base_topic` may have changed since the change was asked for.
            if response_topic is not None and is_fit_to_answer(response_topic, self._topics):
                await self._connection.publish(
                    response_topic, payload, qos=1, correlation_data=entry.origin.correlation_data
                )
        except NotConnectedError:
            return False
        return True
