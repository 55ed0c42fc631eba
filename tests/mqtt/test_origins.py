"""Where else to answer: a stranger's Response Topic, honoured only where no harm can come of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.commands import COMMANDS
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.origins import (
    MAXIMUM_CORRELATION_DATA_LENGTH,
    MAXIMUM_RESPONSE_TOPIC_LENGTH,
    ToldBefore,
    is_fit_to_answer,
    origin_of,
)
from bridge.mqtt.topics import Scope, Topics
from tests.support.core import SetClock

TOPICS = Topics("facebridge", "homeassistant")
LEVELS = st.sampled_from(["facebridge", "terminal", "T1", "open", "set", "", "+", "#", "$SYS", "x", "Facebridge"])


def message(response_topic: str | None, correlation_data: bytes | None = None, qos: int = 1) -> Message:
    return Message(
        topic="facebridge/terminal/T1/open/set",
        payload=b"PRESS",
        qos=qos,
        retain=False,
        response_topic=response_topic,
        correlation_data=correlation_data,
        received_at=1000.0,
    )


@pytest.mark.parametrize(
    "topic", ["answers", "a/b/c", "facebridge2", "facebridge2/terminal", "x/facebridge", "/a", "homeassistant2/a"]
)
def test_an_ordinary_topic_is_honoured(topic: str) -> None:
    assert is_fit_to_answer(topic, TOPICS)
    assert origin_of(message(topic, b"mark"), TOPICS).response_topic == topic
    assert origin_of(message(topic, b"mark"), TOPICS).correlation_data == b"mark"


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
def test_a_topic_that_could_do_harm_is_not(topic: str) -> None:
    assert not is_fit_to_answer(topic, TOPICS)
    origin = origin_of(message(topic, b"mark"), TOPICS)
    assert (origin.response_topic, origin.correlation_data) == (None, None)


@given(st.lists(LEVELS, max_size=6).map("/".join))
def test_no_reply_can_become_a_command(topic: str) -> None:
    if is_fit_to_answer(topic, TOPICS):
        assert TOPICS.parse(topic) is None
        assert topic not in {TOPICS.command(scope, "T1", definition) for definition in COMMANDS for scope in Scope}


def test_an_answer_without_its_mark_is_not_given() -> None:
    origin = origin_of(message("answers", b"x" * (MAXIMUM_CORRELATION_DATA_LENGTH + 1)), TOPICS)
    assert (origin.response_topic, origin.correlation_data) == (None, None)


def test_quality_of_service_0_assures_nothing() -> None:
    assert not origin_of(message(None, qos=0), TOPICS).assured
    assert origin_of(message(None, qos=1), TOPICS).assured
    assert origin_of(message(None), TOPICS).source == "facebridge/terminal/T1/open/set"


def test_trying_again_tells_only_what_is_new() -> None:
    at = SetClock().now()
    told = ToldBefore()
    full = Reply(command="setPerson", outcome=Outcome.UNAVAILABLE, at=at, sn="T1", person_id="1")
    taken = Reply(command="setPerson", outcome=Outcome.ACCEPTED, at=at, sn="T1", person_id="1")
    summary = GroupSummary.of([full], command="setPerson", group="lobby", at=at, request_id=None)
    assert told.is_news(full)
    assert told.is_news(full), "one attempt may say the same of two persons"
    assert told.is_news(summary)
    told.try_again()
    assert not told.is_news(full)
    assert not told.is_news(summary)
    told.try_again()
    assert not told.is_news(full)
    assert told.is_news(taken)
