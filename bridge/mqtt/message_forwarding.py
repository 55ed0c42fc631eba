"""Publishes messages of terminals that the protocol does not know (`terminals.forward_messages`)."""

import logging
from collections import OrderedDict

import orjson

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.model.events import TerminalForgotten, TerminalMessage
from bridge.model.reply import format_time
from bridge.mqtt.client.connection import MqttConnection, NotConnectedError, Publication
from bridge.mqtt.topics import Topics

_LOGGER = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 1024
"""Of one message; a pass with a small picture has some 20 KB."""

MAX_MESSAGES_A_SECOND = 10
"""Of one terminal: more than persons can pass a door, and a bound for what a faulty terminal can cause."""

_MAX_TERMINALS = 20_000
"""Terminals whose messages are counted, as many as can be known."""


class MessageForwarder:
    """Publishes each message on `B/terminal/<SN>/message`, QoS 0. It does not keep messages for later."""

    def __init__(self, topics: Topics, connection: MqttConnection, events: EventBus, clock: Clock) -> None:
        self._topics = topics
        self._connection = connection
        self._clock = clock
        # By terminal: the second (`Clock.boottime`), and the messages that were published in it.
        self._published: OrderedDict[str, tuple[int, int]] = OrderedDict()
        events.subscribe(TerminalMessage, self._forward, name="message forwarder")
        events.subscribe(TerminalForgotten, self._forgotten, name="message forwarder")

    def _forgotten(self, event: TerminalForgotten) -> None:
        self._published.pop(event.sn, None)

    def _forward(self, event: TerminalMessage) -> None:
        if len(event.frame) > MAX_MESSAGE_BYTES or not self._may_publish(event.sn):
            return
        payload = orjson.dumps(
            {"sn": event.sn, "at": format_time(event.at), "message": _json_or_text(event.frame)},
        )
        try:
            self._connection.publish_nowait(Publication(self._topics.terminal_message(event.sn), payload, qos=0))
        except NotConnectedError:
            _LOGGER.debug("the broker is not connected: a message of terminal %s is not published", event.sn)

    def _may_publish(self, sn: str) -> bool:
        second = int(self._clock.boottime())
        counted, number = self._published.get(sn, (second, 0))
        number = number + 1 if counted == second else 1
        self._published[sn] = (second, number)
        if len(self._published) > _MAX_TERMINALS:
            self._published.popitem(last=False)
        return number <= MAX_MESSAGES_A_SECOND


def _json_or_text(frame: bytes) -> object:
    """Return a frame as part of a JSON payload: as it is if it is JSON, otherwise as text."""
    try:
        orjson.loads(frame)
    except orjson.JSONDecodeError:
        return frame.decode(errors="replace")
    return orjson.Fragment(frame)
