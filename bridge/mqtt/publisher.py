"""Publishes replies, events, and the final replies to person changes."""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson

from bridge.core.clock import Clock
from bridge.core.commands import COMMANDS
from bridge.core.event_bus import EventBus
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import (
    PUBLIC_EVENTS,
    CommandInvalid,
    CommandReplied,
    GroupReplied,
    PublicEvent,
    ReplyRepeated,
)
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.person_entry import FinalReply
from bridge.model.reply import Outcome, Reply
from bridge.mqtt.client.connection import MqttConnection, NotConnectedError, Publication
from bridge.mqtt.command_reader import RetriedOrigin
from bridge.mqtt.topics import Topics
from bridge.persons.outbox import Outbox

_LOGGER = logging.getLogger(__name__)


MAXIMUM_EVENTS_A_SECOND = 50
"""On `bridge/event`: far more than people read. It bounds what unknown clients can cause."""


KEEP_SECONDS = 60.0
_MAX_KEPT = 1_000
_MAX_KEPT_BYTES = 1 << 20
"""Replies to presses are kept during an outage for this time, and at most this many and this many bytes. A thousand
presses can be in progress, and a reply has some 300 bytes."""

_PRESSES = frozenset(one.name for one in COMMANDS if one.urgent)


@dataclass(slots=True)
class _PressReply:
    topic: str
    payload: bytes
    correlation_data: bytes | None
    created_at: float


class Publisher:
    """Publishes replies, summaries and events.

    Replies to presses that the broker has not acknowledged are published when it is back, for up to a minute; `at`
    dates them. Final replies to person changes wait in the outbox. Other replies and events are not published later.
    """

    def __init__(self, topics: Topics, connection: MqttConnection, events: EventBus, clock: Clock) -> None:
        self._topics = topics
        self._connection = connection
        self._clock = clock
        self._second = 0
        self._events_this_second = 0
        self._kept: deque[_PressReply] = deque()
        self._kept_bytes = 0
        name = "MQTT publisher"
        events.subscribe(CommandReplied, self._replied, name=name, urgent=True)
        events.subscribe(GroupReplied, self._group_replied, name=name, urgent=True)
        events.subscribe(ReplyRepeated, self._reply_repeated, name=name, urgent=True)
        for event_type in PUBLIC_EVENTS:
            events.subscribe(event_type, self._publish_event, name=name)

    def connected(self) -> None:
        """Publish the replies that were kept while the broker was away."""
        kept = list(self._kept)
        self._kept.clear()
        self._kept_bytes = 0
        for reply in kept:
            self._publish_press_reply(reply)

    def _replied(self, event: CommandReplied) -> None:
        reply, origin = event.reply, event.origin
        if isinstance(origin, RetriedOrigin) and not origin.published.is_new(reply):
            return
        payload = public = orjson.dumps(reply.as_json())
        if reply.persons is not None and origin.response_topic is not None:
            # Names and card numbers: only for the requester, if there is a topic for the requester.
            public = orjson.dumps(replace(reply, persons=None).as_json())
        if reply.command in _PRESSES:
            self._publish_press_replies(self._topics.reply(reply), payload, origin)
        else:
            self._publish_reply(self._topics.reply(reply), public, origin, payload)
        if reply.outcome is Outcome.INVALID:
            self._publish_event(CommandInvalid.of(event))

    def _group_replied(self, event: GroupReplied) -> None:
        if isinstance(event.origin, RetriedOrigin) and not event.origin.published.is_new(event.summary):
            return
        topic = self._topics.group_reply(event.summary.group)
        payload = orjson.dumps(event.summary.as_json())
        if event.summary.command in _PRESSES:
            self._publish_press_replies(topic, payload, event.origin)
        else:
            self._publish_reply(topic, payload, event.origin, payload)

    def _reply_repeated(self, event: ReplyRepeated) -> None:
        reply = event.reply
        topic = self._topics.reply(reply) if isinstance(reply, Reply) else self._topics.group_reply(reply.group)
        payload = orjson.dumps(reply.as_json())
        self._publish_reply(topic, payload, event.origin, payload)

    def _publish_reply(self, topic: str, public: bytes, origin: Origin, payload: bytes) -> None:
        """Publish `public` on the public topic, and `payload` on the Response Topic if there is one."""
        try:
            self._connection.publish_nowait(Publication(topic, public, qos=1))
            if origin.response_topic is not None:
                self._connection.publish_nowait(
                    Publication(origin.response_topic, payload, qos=1, correlation_data=origin.correlation_data)
                )
        except NotConnectedError:
            _LOGGER.debug("the broker is not connected: a reply for %s is not published", topic)

    def _publish_press_replies(self, topic: str, payload: bytes, origin: Origin) -> None:
        now = self._clock.boottime()
        self._publish_press_reply(_PressReply(topic, payload, None, now))
        if origin.response_topic is not None:
            self._publish_press_reply(_PressReply(origin.response_topic, payload, origin.correlation_data, now))

    def _publish_press_reply(self, reply: _PressReply) -> None:
        if self._clock.boottime() - reply.created_at > KEEP_SECONDS:
            return
        try:
            self._connection.publish_nowait(
                Publication(reply.topic, reply.payload, qos=1, correlation_data=reply.correlation_data),
                on_lost=partial(self._keep, reply),
            )
        except NotConnectedError:
            self._keep(reply)

    def _keep(self, reply: _PressReply) -> None:
        self._kept.append(reply)
        self._kept_bytes += len(reply.payload)
        while len(self._kept) > _MAX_KEPT or self._kept_bytes > _MAX_KEPT_BYTES:
            dropped = self._kept.popleft()
            self._kept_bytes -= len(dropped.payload)
            _LOGGER.warning("the broker is away: the reply to a press is dropped for %s", dropped.topic)

    def _publish_event(self, event: PublicEvent) -> None:
        second = int(self._clock.boottime())
        if second != self._second:
            self._second, self._events_this_second = second, 0
        self._events_this_second += 1
        if self._events_this_second > MAXIMUM_EVENTS_A_SECOND:
            return
        try:
            self._connection.publish_nowait(
                Publication(self._topics.bridge_event, orjson.dumps(event.as_json()), qos=0)
            )
        except NotConnectedError:
            _LOGGER.debug("the broker is not connected: a %s event is not published", event.type)


_UNAVAILABLE = "the outbox cannot be read or emptied now: %s"

_MAX_IN_FLIGHT = 50
"""Final replies published together: they share the broker's round trip, and few are published twice after a break."""

_RETRY_SECONDS = 2.0
"""Between two attempts while the store is unavailable."""

_MAX_PUBLISHED = 1000
"""Published final replies that may wait for their deletion; nothing more is published meanwhile."""


class OutboxPublisher:
    """Publishes the outbox, and deletes each final reply after the broker has acknowledged it."""

    def __init__(self, topics: Topics, connection: MqttConnection, outbox: Outbox) -> None:
        self._topics = topics
        self._connection = connection
        self._outbox = outbox
        self._connected = asyncio.Event()
        self._in_flight = 0
        # Those that are not deleted yet. A full store can prevent it; they go out only once nevertheless.
        self._published: set[int] = set()
        # The replies that could not be deleted.
        self._undeleted: set[int] = set()
        self._is_deleted = asyncio.Event()
        self._retries = BackgroundTasks()

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
        try:
            while True:
                await self._connected.wait()
                while len(self._published) >= _MAX_PUBLISHED:
                    self._is_deleted.clear()
                    await self._is_deleted.wait()
                # A deletion may end while the store is read, which still shows the entry then.
                published = frozenset(self._published)
                try:
                    entries = await self._outbox.next_entries(_MAX_IN_FLIGHT)
                except UnavailableError as error:
                    _LOGGER.warning(_UNAVAILABLE, error)
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    await self._publish([entry for entry in entries if entry.id not in published])
        finally:
            await self._retries.stop()

    async def _publish(self, entries: Sequence[FinalReply]) -> None:
        self._in_flight = len(entries)
        try:
            if len(entries) == 1:
                acknowledged = [await self._publish_one(entries[0])]
            else:
                # Tasks run their first step in the order they are created, so the replies go out in order.
                acknowledged = await asyncio.gather(*(self._publish_one(entry) for entry in entries))
        finally:
            self._in_flight = 0
        published = {entry.id for entry, done in zip(entries, acknowledged, strict=True) if done}
        if not all(acknowledged) and self._connected.is_set():
            # The connection was back before this noticed the break: no later `connected` returns these again.
            self._outbox.rewind()
        if published:
            self._published |= published
            self._delete(published)

    def _delete(self, ids: Collection[int]) -> None:
        self._outbox.published(sorted(ids)).add_done_callback(partial(self._deletion_ended, ids))

    def _deletion_ended(self, ids: Collection[int], ended: "asyncio.Future[None]") -> None:
        error = ended.exception()
        if error is None:
            self._published.difference_update(ids)
            self._is_deleted.set()
        elif isinstance(error, UnavailableError):
            _LOGGER.warning(_UNAVAILABLE, error)
            self._undeleted.update(ids)
            if not self._retries:
                self._retries.start(self._delete_later(), name="deletion of published final replies")
        else:
            raise error

    async def _delete_later(self) -> None:
        await asyncio.sleep(_RETRY_SECONDS)
        ids, self._undeleted = self._undeleted, set()
        self._delete(ids)

    async def _publish_one(self, entry: FinalReply) -> bool:
        """Publish a final reply; return whether the broker has acknowledged it."""
        payload = orjson.dumps(entry.reply.as_json())
        try:
            await self._connection.publish(Publication(self._topics.reply(entry.reply), payload, qos=1))
            response_topic = entry.origin.response_topic
            # Checked again: `base_topic` may have changed since the request.
            if response_topic is not None and self._topics.allows_response_topic(response_topic):
                await self._connection.publish(
                    Publication(response_topic, payload, qos=1, correlation_data=entry.origin.correlation_data)
                )
        except NotConnectedError:
            return False
        return True
