"""`ContractWatch` notices invalid messages."""

from typing import Any

import orjson
import pytest

from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA
from tests.support.contract import ContractWatch

REPLY: dict[str, Any] = REPLY_SCHEMA["examples"][0]
SUMMARY: dict[str, Any] = GROUP_SUMMARY_SCHEMA["examples"][0]
REPLY_TOPIC = "facebridge/terminal/T1/reply"


def faults_of(topic: str, payload: object, *, qos: int = 1, retain: bool | None = None) -> list[str]:
    watch = ContractWatch()
    watch.heard(topic, payload if isinstance(payload, bytes) else orjson.dumps(payload), qos=qos, retain=retain)
    return watch.faults


@pytest.mark.parametrize(
    ("topic", "payload", "retain"),
    [
        (REPLY_TOPIC, REPLY, False),
        ("facebridge/group/lobby/reply", SUMMARY, False),
        ("facebridge/group/lobby/reply", REPLY, False),
        ("facebridge/terminal/T1/availability", b"online", True),
        ("facebridge/terminal/T1/state", b"", True),
        ("facebridge/terminal/T1/open/set", b"anything: a command", False),
        ("elsewhere/terminal/T1/reply", b"anything: not ours", False),
    ],
)
def test_valid_messages_have_no_faults(topic: str, payload: object, retain: bool) -> None:
    assert faults_of(topic, payload, retain=retain) == []


@pytest.mark.parametrize(
    ("topic", "payload", "qos", "retain"),
    [
        (REPLY_TOPIC, {**REPLY, "more": 1}, 1, False),
        (REPLY_TOPIC, {**REPLY, "outcome": "fine"}, 1, False),
        (REPLY_TOPIC, {**REPLY, "at": "2026-11-24T08:00:00"}, 1, False),
        (REPLY_TOPIC, {**REPLY, "sn": "T1\n"}, 1, False),
        (REPLY_TOPIC, {key: value for key, value in REPLY.items() if key != "msgid"}, 1, False),
        (REPLY_TOPIC, REPLY, 0, False),
        (REPLY_TOPIC, REPLY, 1, True),
        (REPLY_TOPIC, b"", 1, False),
        (REPLY_TOPIC, b"{", 1, False),
        ("facebridge/terminal/T1/availability", b"gone", 1, True),
        ("facebridge/bridge/event", {"type": "door_open", "at": REPLY["at"]}, 0, False),
        ("facebridge/group/lobby/reply", {**SUMMARY, "failed": {"T1": "fine"}}, 1, False),
        ("facebridge/terminal/T1/news", REPLY, 1, False),
    ],
)
def test_an_invalid_message_is_a_fault(topic: str, payload: object, qos: int, retain: bool) -> None:
    assert len(faults_of(topic, payload, qos=qos, retain=retain)) == 1


@pytest.mark.parametrize(
    ("topic", "command", "outcome", "person_id", "is_noticed"),
    [
        ("open/set", {"request_id": "r1", "delay": 3}, "ok", None, True),
        ("open/set", {"request_id": "r1", "delay": 3}, "invalid", None, False),
        ("open/set", {"request_id": "r1"}, "offline", None, False),
        ("person/set", {"request_id": "r1", "id": "1", "visitor": "yes"}, "accepted", "1", True),
        ("person/set", {"request_id": "r1", "persons": [{"id": "1"}, {"id": "2", "card": 7}]}, "accepted", "1", False),
        ("person/set", {"request_id": "r1", "persons": [{"id": "1"}, {"id": "2", "card": 7}]}, "accepted", "2", True),
    ],
)
def test_carrying_out_an_invalid_command_is_a_fault(
    topic: str, command: dict[str, Any], outcome: str, person_id: str | None, is_noticed: bool
) -> None:
    watch = ContractWatch()
    watch.published(f"facebridge/terminal/T1/{topic}", orjson.dumps(command))
    name = "setPerson" if topic == "person/set" else "open"
    reply = {**REPLY, "command": name, "outcome": outcome, "person_id": person_id}
    watch.heard(REPLY_TOPIC, orjson.dumps(reply), qos=1)
    assert bool(watch.faults) is is_noticed
