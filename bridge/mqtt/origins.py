"""Who asked, as far as MQTT tells: the topic, and with MQTT 5 where else to answer."""

from dataclasses import dataclass, field
from typing import TypeVar

from bridge.model.faults import shorten
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.topics import Topics

_O = TypeVar("_O", bound=Origin)

MAXIMUM_RESPONSE_TOPIC_LENGTH = 512
"""Characters of a Response Topic: several times what any client makes up; it is stored with every person change."""

MAXIMUM_CORRELATION_DATA_LENGTH = 1024
"""Bytes of Correlation Data, likewise; it is the asker's own mark, usually a few bytes."""


def is_fit_to_answer(topic: str, topics: Topics) -> bool:
    """Tell whether the bridge may publish a reply to a Response Topic that a stranger chose.

    Nothing inside the base: a reply there could be a command, or pass for the bridge's own word. Nothing inside Home
    Assistant's prefix, where it would take the place of a device's discovery. Nothing that starts with `$`: there
    brokers keep their controls (`$CONTROL/dynamic-security`). Topics differ by case and by a leading slash (MQTT 5,
    section 4.7.3), so these are compared as they are.
    """
    return (
        0 < len(topic) <= MAXIMUM_RESPONSE_TOPIC_LENGTH
        and not topic.startswith("$")
        and topic.isprintable()
        and not any(character in topic for character in "+#")
        and not topics.is_reserved(topic)
    )


def origin_of(message: Message, topics: Topics) -> Origin:
    """Return who asked.

    A Response Topic that is not fit is left out, and so is one whose Correlation Data is too long to keep: the public
    topics answer anyway.
    """
    return _origin(Origin, message, topics)


class ToldBefore:
    """What was told at earlier attempts to take a message, so that trying again tells only what is new."""

    def __init__(self) -> None:
        self._before: set[object] = set()
        self._now: set[object] = set()

    def try_again(self) -> None:
        """Begin the next attempt."""
        self._before |= self._now
        self._now.clear()

    def is_news(self, said: Reply | GroupSummary) -> bool:
        """Note what is being told; return False where an earlier attempt has told it."""
        key: object
        if isinstance(said, Reply):
            key = (said.sn, said.person_id, said.outcome, said.message)
        else:
            key = (said.group, tuple(sorted(said.outcomes.items())))
        self._now.add(key)
        return key not in self._before


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatableOrigin(Origin):
    """The origin of a message that is tried again until it is taken.

    Attributes:
        told: what whoever asked has been told so far.
    """

    told: ToldBefore = field(default_factory=ToldBefore, compare=False, repr=False)


def repeatable_origin_of(message: Message, topics: Topics) -> RepeatableOrigin:
    """Return who asked, for a message that may be tried again; otherwise as `origin_of`."""
    return _origin(RepeatableOrigin, message, topics)


def _origin(kind: type[_O], message: Message, topics: Topics) -> _O:
    response_topic = message.response_topic
    correlation_data = message.correlation_data
    if (
        response_topic is None
        or not is_fit_to_answer(response_topic, topics)
        # Without its mark the answer would be taken for another's.
        or (correlation_data is not None and len(correlation_data) > MAXIMUM_CORRELATION_DATA_LENGTH)
    ):
        response_topic = correlation_data = None
    return kind(
        source=shorten(message.topic, 200),
        response_topic=response_topic,
        correlation_data=correlation_data,
        assured=message.qos > 0,
    )
