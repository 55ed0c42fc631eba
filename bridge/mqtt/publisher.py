"""Publish replies and events as they happen."""

import logging
from dataclasses import replace

import orjson

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.model.events import (
    PUBLIC_EVENTS,
    CommandInvalid,
    CommandReplied,
    GroupReplied,
    PublicEvent,
    ReplyRepeated,
)
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import Reply
from bridge.mqtt.client.connection import MqttConnection, NotConnectedError
from bridge.mqtt.command_reader import RetriedOrigin
from bridge.mqtt.topics import Topics

_LOGGER = logging.getLogger(__name__)

MAXIMUM_EVENTS_A_SECOND = 50
"""On `bridge/event`: far more than people read. It bounds what unknown clients can cause."""


class Publisher:
    """Publishes replies, summaries and events while the broker is connected.

    It does not publish later what happens during an outage: an old `ok` would look like a new one. Final replies to
    person changes wait in the outbox instead.
    """

    def __init__(self, topics: Topics, connection: MqttConnection, events: EventBus, clock: Clock) -> None:
        self._topics = topics
        self._connection = connection
        self._clock = clock
        self._second = 0
        self._events_this_second = 0
        name = "MQTT publisher"
        events.subscribe(CommandReplied, self._replied, name=name)
        events.subscribe(GroupReplied, self._group_replied, name=name)
        events.subscribe(ReplyRepeated, self._reply_repeated, name=name)
        for event_type in PUBLIC_EVENTS:
            events.subscribe(event_type, self._publish_event, name=name)

    def _replied(self, event: CommandReplied) -> None:
        reply, origin = event.reply, event.origin
        if isinstance(origin, RetriedOrigin) and not origin.published.is_new(reply):
            return
        payload = public = orjson.dumps(reply.as_json())
        if reply.persons is not None and origin.response_topic is not None:
            # Names and card numbers: only for the requester, if there is a topic for the requester.
            public = orjson.dumps(replace(reply, persons=None).as_json())
        self._publish_reply(self._topics.reply(reply), public, origin, payload)
        if reply.outcome is Outcome.INVALID:
            self._publish_event(CommandInvalid.of(event))

    def _group_replied(self, event: GroupReplied) -> None:
        if isinstance(event.origin, RetriedOrigin) and not event.origin.published.is_new(event.summary):
            return
        topic = self._topics.group_reply(event.summary.group)
        payload = orjson.dumps(event.summary.as_json())
        self._publish_reply(topic, payload, event.origin, payload)

    def _reply_repeated(self, event: ReplyRepeated) -> None:
        reply = event.reply
        topic = self._topics.reply(reply) if isinstance(reply, Reply) else self._topics.group_reply(reply.group)
        payload = orjson.dumps(reply.as_json())
        self._publish_reply(topic, payload, event.origin, payload)

    def _publish_reply(self, topic: str, public: bytes, origin: Origin, payload: bytes) -> None:
        """Publish `public` on the public topic, and `payload` on the Response Topic if there is one."""
        try:
            self._connection.publish_nowait(topic, public, qos=1)
            if origin.response_topic is not None:
                self._connection.publish_nowait(
                    origin.response_topic, payload, qos=1, correlation_data=origin.correlation_data
                )
        except NotConnectedError:
            _LOGGER.debug("the broker is not connected: a reply for %s is not published", topic)

    def _publish_event(self, event: PublicEvent) -> None:
        second = int(self._clock.boottime())
        if second != self._second:
            self._second, self._events_this_second = second, 0
        self._events_this_second += 1
        if self._events_this_second > MAXIMUM_EVENTS_A_SECOND:
            return
        try:
            self._connection.publish_nowait(self._topics.bridge_event, orjson.dumps(event.as_json()))
        except NotConnectedError:
            _LOGGER.debug("the broker is not connected: a %s event is not published", event.type)
