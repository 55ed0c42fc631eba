"""Tells the broker how commands ended and what happened, while it is there."""

import logging

import orjson

from bridge.core.clock import Clock
from bridge.core.commands import ADMIT, FORGET
from bridge.core.event_bus import EventBus
from bridge.model.events import (
    PUBLIC_EVENTS,
    CommandInvalid,
    CommandReplied,
    GroupReplied,
    PublicEvent,
)
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import Reply
from bridge.mqtt.client.connection import MqttConnection, NotConnectedError
from bridge.mqtt.origins import RepeatableOrigin
from bridge.mqtt.topics import Topics

_LOGGER = logging.getLogger(__name__)

MAXIMUM_EVENTS_A_SECOND = 50
"""Events of `bridge/event`: far more than anyone reads, and a bound to what strangers at the door can cause."""


def reply_topic(reply: Reply, topics: Topics) -> str:
    """Return the public topic of a reply."""
    if reply.command in (ADMIT.name, FORGET.name):
        return topics.bridge_reply
    if reply.group is not None:
        return topics.group_reply(reply.group)
    return topics.bridge_reply if reply.sn is None else topics.terminal_reply(reply.sn)


class Publisher:
    """Publishes replies, summaries and events as they happen.

    What happens while the broker is away is not published later: an old `ok` would be taken for a new one. The last
    word on a person change waits in the outbox instead.
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
        for event_type in PUBLIC_EVENTS:
            events.subscribe(event_type, self._event, name=name)

    def _replied(self, event: CommandReplied) -> None:
        reply, origin = event.reply, event.origin
        if isinstance(origin, RepeatableOrigin) and not origin.told.is_news(reply):
            return
        self._answer(reply_topic(reply, self._topics), orjson.dumps(reply.as_json()), origin)
        if reply.outcome is Outcome.INVALID:
            self._event(CommandInvalid.of(event))

    def _group_replied(self, event: GroupReplied) -> None:
        if isinstance(event.origin, RepeatableOrigin) and not event.origin.told.is_news(event.summary):
            return
        topic = self._topics.group_reply(event.summary.group)
        self._answer(topic, orjson.dumps(event.summary.as_json()), event.origin)

    def _answer(self, topic: str, payload: bytes, origin: Origin) -> None:
        try:
            self._connection.publish_nowait(topic, payload, qos=1)
            if origin.response_topic is not None:
                self._connection.publish_nowait(
                    origin.response_topic, payload, qos=1, correlation_data=origin.correlation_data
                )
        except NotConnectedError:
            _LOGGER.debug("the broker is away: a reply for %s is not published", topic)

    def _event(self, event: PublicEvent) -> None:
        second = int(self._clock.boottime())
        if second != self._second:
            self._second, self._events_this_second = second, 0
        self._events_this_second += 1
        if self._events_this_second > MAXIMUM_EVENTS_A_SECOND:
            return
        try:
            self._connection.publish_nowait(self._topics.bridge_event, orjson.dumps(event.as_json()))
        except NotConnectedError:
            _LOGGER.debug("the broker is away: a %s event is not published", event.type)
