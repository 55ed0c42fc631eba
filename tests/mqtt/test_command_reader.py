"""Origins of commands: which Response Topics the bridge replies to, and which replies of a retry are new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.commands import COMMANDS
from bridge.core.event_bus import EventBus
from bridge.core.replies import ReplyDispatcher
from bridge.model.events import CommandReplied
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import (
    MAXIMUM_CORRELATION_DATA_LENGTH,
    CommandReader,
    PublishedReplies,
)
from bridge.mqtt.live_commands import press_rules
from bridge.mqtt.topics import MAXIMUM_RESPONSE_TOPIC_LENGTH, Scope, Topics
from tests.support.core import ManualClock, collect

TOPICS = Topics("facebridge", "homeassistant")
READER = CommandReader(TOPICS, ReplyDispatcher(EventBus(), ManualClock()), press_rules("5"), urgent=True)
LEVELS = st.sampled_from(["facebridge", "terminal", "T1", "open", "set", "", "+", "#", "$SYS", "x", "Facebridge"])


def origin_of(response_topic: str | None, correlation_data: bytes | None = None, qos: int = 1) -> Origin:
    message = Message(
        topic="facebridge/terminal/T1/open/set",
        payload=b"PRESS",
        qos=qos,
        retain=False,
        response_topic=response_topic,
        correlation_data=correlation_data,
        received_at=1000.0,
    )
    context = READER.context(message)
    assert context is not None
    return context.origin


@pytest.mark.parametrize(
    "topic", ["answers", "a/b/c", "facebridge2", "facebridge2/terminal", "x/facebridge", "/a", "homeassistant2/a"]
)
def test_an_ordinary_response_topic_is_used(topic: str) -> None:
    assert TOPICS.allows_response_topic(topic)
    assert origin_of(topic, b"mark").response_topic == topic
    assert origin_of(topic, b"mark").correlation_data == b"mark"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "facebridge",
        "facebridge/",
        "facebridge/terminal/T1/open/set",
        "facebridge/bridge/heartbeat",
        "facebridge/anything",
        "homeassistant/device/facebridge_T1/config",
        "homeassistant/status",
        "a/+",
        "#",
        "a/#/b",
        "a\x00b",
        "a\nb",
        "$CONTROL/dynamic-security/v1",
        "$share/g/a",
        "x" * (MAXIMUM_RESPONSE_TOPIC_LENGTH + 1),
    ],
)
def test_a_harmful_response_topic_is_ignored(topic: str) -> None:
    assert not TOPICS.allows_response_topic(topic)
    origin = origin_of(topic, b"mark")
    assert (origin.response_topic, origin.correlation_data) == (None, None)


@given(st.lists(LEVELS, max_size=6).map("/".join))
def test_no_reply_can_become_a_command(topic: str) -> None:
    if TOPICS.allows_response_topic(topic):
        assert TOPICS.parse(topic) is None
        assert topic not in {TOPICS.command(scope, "T1", definition) for definition in COMMANDS for scope in Scope}


def test_a_response_topic_with_too_much_correlation_data_is_ignored() -> None:
    origin = origin_of("answers", b"x" * (MAXIMUM_CORRELATION_DATA_LENGTH + 1))
    assert (origin.response_topic, origin.correlation_data) == (None, None)


def test_an_origin_with_qos_0_is_not_assured() -> None:
    assert not origin_of(None, qos=0).assured
    assert origin_of(None, qos=1).assured
    assert origin_of(None).source == "facebridge/terminal/T1/open/set"


def test_a_reader_ignores_the_commands_of_the_other_connection() -> None:
    for topic in ("facebridge/terminal/T1/person/set", "facebridge/terminal/T1/open", "other/terminal/T1/open/set"):
        assert READER.context(Message(topic=topic, payload=b"", qos=1, retain=False, received_at=1000.0)) is None


def test_a_press_that_the_broker_sent_before_is_not_carried_out() -> None:
    events = EventBus()
    replied = collect(events, CommandReplied)
    reader = CommandReader(TOPICS, ReplyDispatcher(events, ManualClock()), press_rules("5"), urgent=True)
    message = Message(
        topic="facebridge/terminal/T1/open/set", payload=b"PRESS", qos=1, retain=False, dup=True, received_at=1000.0
    )
    context = reader.context(message)
    assert context is not None
    assert reader.read(message, context) is None
    (event,) = replied
    assert isinstance(event, CommandReplied)
    assert event.reply.outcome is Outcome.INVALID
    assert "sent it twice" in (event.reply.message or "")


def test_a_retry_publishes_only_new_replies() -> None:
    at = ManualClock().now()
    published = PublishedReplies()
    full = Reply(command="setPerson", outcome=Outcome.UNAVAILABLE, at=at, sn="T1", person_id="1")
    accepted = Reply(command="setPerson", outcome=Outcome.ACCEPTED, at=at, sn="T1", person_id="1")
    summary = GroupSummary.of([full], command="setPerson", group="lobby", at=at, request_id=None)
    assert published.is_new(full)
    assert published.is_new(full), "one attempt may give two persons the same reply"
    assert published.is_new(summary)
    published.start_attempt()
    assert not published.is_new(full)
    assert not published.is_new(summary)
    published.start_attempt()
    assert not published.is_new(full)
    assert published.is_new(accepted)


def test_a_retry_does_not_publish_the_same_outcome_with_another_reason() -> None:
    at = ManualClock().now()

    def unavailable(reason: str) -> Reply:
        return Reply(command="setPerson", outcome=Outcome.UNAVAILABLE, at=at, sn="T1", person_id="1", message=reason)

    published = PublishedReplies()
    assert published.is_new(unavailable("the store's disk cannot be read or written"))
    published.start_attempt()
    again = unavailable("the store's disk cannot be read or written; the change may be stored or not")
    assert not published.is_new(again)
    assert published.is_new(again), "this attempt gives the reply to two persons, the attempt before gave it to one"
