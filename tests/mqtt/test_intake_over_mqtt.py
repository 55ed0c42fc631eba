"""Person commands over a real broker: carried out in order, acknowledged after they are stored, retried until then."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from bridge.model.commands import RemovePersons, SetPersons, SyncPersons
from tests.support.core import known_terminal
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_bridge import Bridge, running
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.waiting import until

Protocol = Literal["5", "3.1.1"]

AVAILABILITY = "facebridge/bridge/availability"
REPLY = "facebridge/terminal/T1/reply"
SET = "facebridge/terminal/T1/person/set"


async def online(client: MqttClient) -> None:
    await client.wait_for(AVAILABILITY, lambda message: message.payload == b"online")


def outcomes(client: MqttClient, topic: str = REPLY) -> list[tuple[Any, Any]]:
    return [(one.json["request_id"], one.json["outcome"]) for one in client.heard if one.topic == topic]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_person_changes_are_accepted_and_get_replies(mosquitto: Mosquitto, protocol: Protocol) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client,
        running(Bridge(mosquitto.port, protocol), known_terminal("T1")) as bridge,
    ):
        await online(client)
        await client.publish(SET, {"id": "1", "name": "Ada", "request_id": "a"})
        await client.publish(SET, [{"id": "2"}, 7, {"id": "3"}])
        await client.publish(SET, {"persons": [{"id": "4"}], "request_id": "b"})
        await client.publish("facebridge/terminal/T1/person/remove", {"ids": ["1", "2"], "request_id": "c"})
        await client.publish("facebridge/terminal/T1/person/remove", {"all": True, "confirm": "T1", "request_id": "d"})
        await client.publish("facebridge/terminal/T1/person/sync", "PRESS")
        await client.publish("facebridge/terminal/T1/person/sync", {"clear": True, "confirm": "T1", "request_id": "e"})
        answers = await client.wait_for_all(REPLY, 10)
        replies = [
            (one.json["command"], one.json["person_id"], one.json["outcome"], one.json["request_id"]) for one in answers
        ]
        assert replies == [
            ("setPerson", "1", "accepted", "a"),
            ("setPerson", "2", "accepted", None),
            ("setPerson", None, "invalid", None),
            ("setPerson", "3", "accepted", None),
            ("setPerson", "4", "accepted", "b"),
            ("removePerson", "1", "accepted", "c"),
            ("removePerson", "2", "accepted", "c"),
            ("removePerson", None, "accepted", "d"),
            ("syncPersons", None, "accepted", None),
            ("syncPersons", None, "accepted", "e"),
        ]
        assert {(one.qos, one.retain) for one in answers} == {(1, False)}
        changes = [request.change for request in bridge.persons.accepted]
        assert RemovePersons(ids=None, request_id="d") in changes
        assert SyncPersons(clear=True, request_id="e") in changes


async def test_persons_are_published_only_on_the_response_topic(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", "answers/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")),
    ):
        await online(client)
        await client.publish("facebridge/terminal/T1/person/get", b"", response_topic="answers/1")
        assert [person["name"] for person in (await client.wait_for("answers/1")).json["persons"]] == ["Ada"]
        public = await client.wait_for(REPLY)
        assert (public.json["command"], public.json["outcome"]) == ("getPersons", "ok")
        assert b"Ada" not in public.payload
        assert "persons" not in public.json


@pytest.mark.parametrize("payload", [b"", b"{}", {"id": "7"}])
async def test_persons_are_listed(mosquitto: Mosquitto, payload: Any) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")),
    ):
        await online(client)
        await client.publish("facebridge/terminal/T1/person/get", payload)
        answer = (await client.wait_for(REPLY)).json
        assert (answer["command"], answer["outcome"]) == ("getPersons", "ok")
        (person,) = answer["persons"]
        assert (person["id"], person["delivery"]) == ("7" if isinstance(payload, dict) else "1", "confirmed")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_person_commands_to_a_group_get_a_summary(mosquitto: Mosquitto, protocol: Protocol) -> None:
    terminals = [known_terminal("T1", groups=("lobby",)), known_terminal("T2", groups=("lobby",))]
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client,
        running(Bridge(mosquitto.port, protocol), *terminals) as bridge,
    ):
        await online(client)
        await client.publish("facebridge/group/lobby/person/set", {"persons": [{"id": "1"}, {"id": "2"}]})
        summary = (await client.wait_for("facebridge/group/lobby/reply")).json
        assert (summary["command"], summary["total"], summary["outcomes"]) == ("setPerson", 4, {"accepted": 4})
        await client.publish("facebridge/group/all/person/remove", {"all": True, "confirm": "all"})
        summary = (await client.wait_for("facebridge/group/all/reply")).json
        assert (summary["command"], summary["total"]) == ("removePerson", 2)
        await client.publish("facebridge/group/lobby/person/sync", b"")
        summary = (await client.wait_for_all("facebridge/group/lobby/reply", 2))[1].json
        assert (summary["command"], summary["outcomes"]) == ("syncPersons", {"accepted": 2})
        assert sum(isinstance(request.change, SetPersons) for request in bridge.persons.accepted) == 4
        for sn in ("T1", "T2"):
            await client.wait_for_all(f"facebridge/terminal/{sn}/reply", 4)


INVALID: list[tuple[str, Any, str]] = [
    ("terminal/T1/person/set", b"", "must be a person"),
    ("terminal/T1/person/set", b"[]", "1 to 10000"),
    ("terminal/T1/person/set", b"{" * 3000, "JSON"),
    ("terminal/T1/person/set", b"[" * 3000 + b"]" * 3000, "JSON"),
    ("terminal/T1/person/set", b'{"id": "\xff"}', "JSON"),
    ("terminal/T1/person/set", b"7", "not a number"),
    ("terminal/T1/person/remove", b"", "must be an object"),
    ("terminal/T1/person/remove", {"ids": []}, "1 to 10000"),
    ("terminal/T1/person/remove", {"all": True, "confirm": "T2"}, 'needs "confirm": "T1"'),
    ("terminal/T1/person/get", b"[]", "must be an object"),
    ("terminal/T1/person/sync", {"clear": True}, "confirm"),
    ("terminal/T1/person/set", b" " * 20_000_000, "send a list in parts"),
    ("bridge/admit/set", b"{}", "sn"),
    ("bridge/forget/set", {"sn": "a/b"}, "sn"),
    ("bridge/forget/set", {"sn": "T9"}, "not known"),
    ("bridge/forget/set", {"sn": "T1"}, "listed in the configuration"),
    ("bridge/admit/set", {"sn": "T1", "name": "x"}, "listed in the configuration"),
    ("group/lobby/person/remove", {"all": True, "confirm": "T1"}, 'needs "confirm": "lobby"'),
    ("group/nobody/person/set", {"id": "1"}, "no terminal is in group 'nobody'"),
    ("terminal/T9/person/set", {"id": "1"}, "check the SN"),
    ("terminal/T9/person/get", b"", "check the SN"),
]


async def test_an_invalid_command_gets_a_reply_and_holds_up_no_other(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/+/+/reply", "facebridge/bridge/reply", AVAILABILITY) as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1", groups=("lobby",))) as bridge,
    ):
        await online(client)
        for number, (topic, payload, hint) in enumerate(INVALID, start=1):
            client.heard.clear()
            await client.publish(f"facebridge/{topic}", payload)
            parts = topic.split("/")
            where = "bridge/reply" if parts[0] == "bridge" else f"{parts[0]}/{parts[1]}/reply"
            answer = (await client.wait_for(f"facebridge/{where}", within=15)).json
            assert answer["outcome"] == "invalid", (number, answer)
            assert hint in answer["message"], (number, answer)
            assert answer["errors"]
        assert bridge.persons.accepted == []
        await client.publish(SET, {"id": "1", "request_id": "after"})
        await client.wait_for(REPLY, lambda message: message.json["request_id"] == "after")


async def test_retained_person_commands_are_rejected(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        await client.publish(SET, {"id": "1"}, retain=True)
        answer = await client.wait_for(REPLY)
        assert (answer.json["outcome"], "retain" in answer.json["message"]) == ("invalid", True)
        assert bridge.persons.accepted == []


async def test_changes_that_cannot_be_stored_are_retried_in_order(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.persons.full = True
        await client.publish(SET, {"id": "1", "request_id": "a"})
        await client.wait_for(REPLY)
        for request_id in ("b", "c"):
            await client.publish(SET, {"id": "1", "request_id": request_id})
        while bridge.persons.attempts < 3:
            bridge.persons.attempted.clear()
            await bridge.persons.attempted.wait()
        await client.wait_for(REPLY, lambda message: message.json["request_id"] == "c")
        everyone = [("a", "unavailable"), ("b", "unavailable"), ("c", "unavailable")]
        assert outcomes(client) == everyone, "each gets this reply once, however often it is tried"
        bridge.persons.full = False
        await client.wait_for(
            REPLY, lambda message: (message.json["request_id"], message.json["outcome"]) == ("c", "accepted")
        )
        assert outcomes(client) == [*everyone, ("a", "accepted"), ("b", "accepted"), ("c", "accepted")]
        assert [request.change.request_id for request in bridge.persons.accepted] == ["a", "b", "c"]


async def test_a_group_gets_the_unavailable_summary_once(mosquitto: Mosquitto) -> None:
    terminals = [known_terminal("T1", groups=("lobby",)), known_terminal("T2", groups=("lobby",))]
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), *terminals) as bridge,
    ):
        await online(client)
        bridge.persons.full = True
        await client.publish("facebridge/group/lobby/person/set", {"id": "1", "request_id": "g"})
        while bridge.persons.attempts < 2:
            bridge.persons.attempted.clear()
            await bridge.persons.attempted.wait()
        bridge.persons.full = False
        summaries = await client.wait_for_all("facebridge/group/lobby/reply", 2)
        assert [one.json["outcomes"] for one in summaries] == [{"unavailable": 2}, {"accepted": 2}]
        await client.wait_for_all("facebridge/terminal/T2/reply", 2)
        for sn in ("T1", "T2"):
            assert outcomes(client, f"facebridge/terminal/{sn}/reply") == [("g", "unavailable"), ("g", "accepted")]


async def test_a_change_with_qos_0_gets_a_reply_and_is_not_retried(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.persons.full = True
        await client.publish(SET, {"id": "1", "request_id": "a"}, qos=0)
        await client.wait_for(REPLY, lambda message: message.json["outcome"] == "unavailable")
        bridge.persons.full = False
        await client.publish(SET, {"id": "1", "request_id": "b"}, qos=0)
        await client.wait_for(REPLY, lambda message: message.json["request_id"] == "b")
        assert [(one.change.request_id, one.origin.assured) for one in bridge.persons.accepted] == [("b", False)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_the_next_bridge_gets_changes_that_were_not_stored(mosquitto: Mosquitto, protocol: Protocol) -> None:
    async with mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client:
        async with running(Bridge(mosquitto.port, protocol), known_terminal("T1")) as bridge:
            await online(client)
            bridge.persons.full = True
            for request_id in ("a", "b"):
                await client.publish(SET, {"id": "1", "request_id": request_id})
            await client.wait_for(REPLY)
        await client.publish(SET, {"id": "1", "request_id": "while away"})
        async with running(Bridge(mosquitto.port, protocol), known_terminal("T1")) as bridge:
            await client.wait_for(REPLY, lambda message: message.json["request_id"] == "while away")
            assert [one.change.request_id for one in bridge.persons.accepted] == ["a", "b", "while away"]


async def test_a_restarted_broker_redelivers_each_change_once(tmp_path: Path) -> None:
    async with (
        Mosquitto(tmp_path, persistent=True) as mosquitto,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        async with mqtt_client(mosquitto.port, "facebridge/#") as client:
            await online(client)
            bridge.persons.full = True
            for request_id in ("a", "b"):
                await client.publish(SET, {"id": "1", "request_id": request_id})
            await client.wait_for(REPLY)
        await mosquitto.restart()
        async with mqtt_client(mosquitto.port, "facebridge/#") as client:
            await online(client)
            bridge.persons.attempted.clear()
            await bridge.persons.attempted.wait()
            bridge.persons.full = False
            await client.wait_for(REPLY, lambda message: message.json["request_id"] == "b", within=20)
            await client.publish(SET, {"id": "1", "request_id": "c"})
            await client.wait_for(REPLY, lambda message: message.json["request_id"] == "c", within=20)
        assert [one.change.request_id for one in bridge.persons.accepted] == ["a", "b", "c"]


async def test_changes_that_are_redelivered_during_a_long_commit_are_stored(tmp_path: Path) -> None:
    """So are those behind a command that is no change, whose unfinished batch is dropped with the connection."""
    async with (
        Mosquitto(tmp_path, persistent=True) as mosquitto,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        async with mqtt_client(mosquitto.port, "facebridge/#") as client:
            await online(client)
            bridge.persons.may_go_on.clear()
            await client.publish(SET, {"id": "1", "request_id": "a"})
            await until(lambda: bridge.persons.attempts == 1)
            await client.publish(SET, {"id": "1", "request_id": "b"})
            await client.publish("facebridge/terminal/T1/person/get")
            await client.publish(SET, {"id": "1", "request_id": "c"})
            await until(lambda: bridge.adapter.statistics().intake_waiting == 3)
            bridge.persons.may_go_on.set()
            bridge.persons.may_go_on.clear()
            await until(lambda: bridge.persons.attempts == 2)
        await mosquitto.restart()
        await until(lambda: bridge.adapter.statistics().intake_waiting == 3)
        bridge.persons.may_go_on.set()
        await until(lambda: len(bridge.persons.accepted) >= 4)
        assert [one.change.request_id for one in bridge.persons.accepted] == ["a", "b", "b", "c"]


async def test_changes_that_arrive_together_are_stored_together(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.persons.full = True
        await client.publish(SET, {"id": "1"})
        await client.wait_for(REPLY)
        await asyncio.gather(*(client.publish(SET, {"id": "1"}) for _ in range(10)))
        await client.publish("facebridge/terminal/T9/person/set", {"id": "1"}, qos=0)
        bridge.persons.full = False
        await client.wait_for_all(REPLY, 11, lambda message: message.json["outcome"] == "accepted")
        assert max(bridge.persons.batches) > 1


async def test_admissions_and_person_changes_keep_their_order(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.persons.full = bridge.terminals.full = True
        await client.publish(SET, {"id": "1", "request_id": "a"})
        await client.wait_for(REPLY)
        await client.publish("facebridge/bridge/admit/set", {"sn": "T5", "groups": ["new"], "request_id": "b"})
        await client.publish("facebridge/group/new/person/set", {"id": "1", "request_id": "c"})
        await client.publish("facebridge/bridge/forget/set", {"sn": "T5", "request_id": "d"})
        await client.publish("facebridge/terminal/T5/person/set", {"id": "1", "request_id": "e"})
        bridge.persons.full = False
        await client.wait_for("facebridge/bridge/reply", lambda message: message.json["outcome"] == "unavailable")
        bridge.terminals.full = False
        late = await client.wait_for("facebridge/terminal/T5/reply", lambda message: message.json["request_id"] == "e")
        assert late.json["outcome"] == "invalid"
        assert outcomes(client, "facebridge/bridge/reply") == [("b", "unavailable"), ("b", "ok"), ("d", "ok")]
        assert [(one.sns, one.change.request_id) for one in bridge.persons.accepted] == [(("T1",), "a"), (("T5",), "c")]


async def test_a_command_that_raises_an_exception_is_rejected_after_some_attempts(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.persons.full = True
        bridge.persons.defect = ValueError("a defect")
        await client.publish(SET, {"id": "1", "request_id": "first"})
        await client.wait_for(REPLY)
        # These two wait behind it and are handled together.
        await client.publish(SET, {"id": "defect", "request_id": "bad"})
        await client.publish(SET, {"id": "1", "request_id": "good"})
        bridge.persons.full = False
        good = await client.wait_for(REPLY, lambda message: message.json["request_id"] == "good")
        bad = await client.wait_for(REPLY, lambda message: message.json["request_id"] == "bad")
        assert (good.json["outcome"], bad.json["outcome"]) == ("accepted", "invalid")
        assert "gave it up" in bad.json["message"]
        assert "a defect" in caplog.text


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_terminal_is_admitted_changed_and_forgotten(mosquitto: Mosquitto, protocol: Protocol) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client,
        running(Bridge(mosquitto.port, protocol)) as bridge,
    ):
        await online(client)
        await bridge.admission.may_connect("T5", "192.0.2.5")
        pending = await client.wait_for("facebridge/bridge/event")
        assert (pending.qos, pending.retain) == (0, False)
        assert pending.json | {"type": "terminal_pending", "sn": "T5", "address": "192.0.2.5"} == pending.json
        assert pending.json.keys() == {"type", "at", "sn", "address", "reason"}
        await client.publish("facebridge/bridge/admit/set", {"sn": "T5", "name": "Gate", "request_id": "r"})
        answer = await client.wait_for("facebridge/bridge/reply")
        assert (answer.qos, answer.retain) == (1, False)
        assert answer.json | {"command": "admit", "sn": "T5", "outcome": "ok", "request_id": "r"} == answer.json
        state = await client.wait_for("facebridge/terminal/T5/state")
        assert (state.json["name"], state.json["online"]) == ("Gate", False)
        await client.publish("facebridge/bridge/forget/set", {"sn": "T5"})
        forgotten = (await client.wait_for_all("facebridge/bridge/reply", 2))[1]
        assert (forgotten.json["command"], forgotten.json["outcome"]) == ("forget", "ok")
        await client.wait_for("facebridge/bridge/event", lambda message: message.json["type"] == "terminal_forgotten")
        await client.wait_for("facebridge/terminal/T5/state", lambda message: message.payload == b"")
        await client.wait_for("facebridge/terminal/T5/availability", lambda message: message.payload == b"")
        bridge.admission.record_refusal("T6", "192.0.2.6", "wrong password")
        refused = await client.wait_for(
            "facebridge/bridge/event", lambda message: message.json["type"] == "terminal_refused"
        )
        assert refused.json["reason"] == "wrong password"


async def test_replies_to_person_changes_go_to_the_response_topic_too(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", "answers/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        await client.publish(SET, {"id": "1"}, response_topic="answers/1", correlation_data=b"mark")
        answer = await client.wait_for("answers/1")
        assert (answer.json["outcome"], answer.correlation_data) == ("accepted", b"mark")
        assert bridge.persons.accepted[0].origin.response_topic == "answers/1"
        assert bridge.persons.accepted[0].origin.correlation_data == b"mark"
