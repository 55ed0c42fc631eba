"""Commands with `asked_at` over a real broker: the same payload again on the same topic is not carried out again."""

import asyncio
from datetime import datetime, timedelta

from bridge.core.clock import Clock
from bridge.core.repeated_presses import RepeatedPresses
from bridge.model.events import CommandReplied, GroupReplied
from bridge.model.reply import GroupSummary, Outcome, Reply
from tests.support.core import ManualClock, collect, known_terminal
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_bridge import Bridge, running
from tests.support.mqtt_client import MqttClient, mqtt_client

OPEN = "facebridge/terminal/T1/open/set"
REPLY = "facebridge/terminal/T1/reply"


async def online(client: MqttClient) -> None:
    await client.wait_for("facebridge/bridge/availability", lambda message: message.payload == b"online")


def now() -> float:
    return Clock().now().timestamp()


async def test_a_press_that_arrives_twice_is_carried_out_once(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", "answers/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        recorded = collect(bridge.events, CommandReplied)
        press = {"request_id": "r1", "asked_at": now()}
        await client.publish(OPEN, press)
        await client.publish(OPEN, press, response_topic="answers/1", correlation_data=b"7")
        answers = await client.wait_for_all(REPLY, 2)
        assert answers[0].payload == answers[1].payload
        again = await client.wait_for("answers/1")
        assert (again.payload, again.correlation_data) == (answers[0].payload, b"7")
        assert connection.commands == ["OpenRequest"]
        assert len(recorded) == 1, "the audit and the metrics count it once"
        await client.publish(OPEN, press | {"asked_at": now()})
        await client.publish("facebridge/terminal/T1/reboot/set", press)
        await client.wait_for_all(REPLY, 4)
        assert connection.commands == ["OpenRequest", "OpenRequest", "RebootRequest"]


async def test_a_press_without_asked_at_is_carried_out_each_time(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        for _ in range(2):
            await client.publish(OPEN, {"request_id": "r1"})
        await client.wait_for_all(REPLY, 2)
        assert connection.commands == ["OpenRequest", "OpenRequest"]


async def test_a_repeated_press_waits_for_the_reply_to_the_first(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5", deadline=3.0), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1", lambda _: None)
        press = {"request_id": "r1", "asked_at": now()}
        for _ in range(3):
            await client.publish(OPEN, press)
        answers = await client.wait_for_all(REPLY, 3)
        assert {answer.json["outcome"] for answer in answers} == {"timeout"}
        assert connection.commands == ["OpenRequest"]


async def test_a_press_that_arrives_again_after_the_deadline_gets_its_reply_again(mosquitto: Mosquitto) -> None:
    """`expired` would say that the press was not carried out."""
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5", deadline=1.0), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        press = {"request_id": "r1", "asked_at": now()}
        await client.publish(OPEN, press)
        await client.wait_for(REPLY)
        await asyncio.sleep(1.1)
        await client.publish(OPEN, press)
        answers = await client.wait_for_all(REPLY, 2)
        assert answers[0].json["outcome"] == "ok"
        assert answers[0].payload == answers[1].payload
        assert connection.commands == ["OpenRequest"]


async def test_a_repeated_press_on_a_group_gets_the_summary_again(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1", groups=("lobby",))) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        recorded = collect(bridge.events, CommandReplied, GroupReplied)
        press = {"request_id": "g1", "asked_at": now()}
        for _ in range(2):
            await client.publish("facebridge/group/lobby/open/set", press)
        summaries = await client.wait_for_all("facebridge/group/lobby/reply", 2)
        assert summaries[0].payload == summaries[1].payload
        assert connection.commands == ["OpenRequest"]
        assert len(recorded) == 2


async def test_a_person_change_that_arrives_twice_is_applied_once(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1", groups=("lobby",))) as bridge,
    ):
        await online(client)
        recorded = collect(bridge.events, CommandReplied, GroupReplied)
        change = {"persons": [{"id": "1", "name": "Ada"}], "request_id": "a", "asked_at": now()}
        for topic in ("facebridge/terminal/T1/person/set", "facebridge/group/lobby/person/set"):
            for _ in range(2):
                await client.publish(topic, change)
        replies = await client.wait_for_all(REPLY, 4)
        assert [one.json["outcome"] for one in replies] == ["accepted", "ok", "accepted", "ok"]
        summaries = await client.wait_for_all("facebridge/group/lobby/reply", 2)
        assert [one.json["outcomes"] for one in summaries] == [{"accepted": 1}, {"ok": 1}]
        assert len(bridge.persons.accepted) == 2
        assert len(recorded) == 3, "the audit and the metrics count each change once"


def reply(at: datetime) -> Reply:
    return Reply(command="open", outcome=Outcome.OK, at=at)


async def test_the_presses_that_are_remembered_are_bounded() -> None:
    clock = ManualClock()
    presses = RepeatedPresses(clock)

    async def ended() -> Reply | GroupSummary:
        return reply(clock.now())

    task = asyncio.get_running_loop().create_task(ended())
    for number in range(10_010):
        presses.add(str(number), task, clock.now())
    assert len(presses) == 10_000
    assert presses.find("10009") is task
    clock.seconds += 601
    presses.add("new", task, clock.now() + timedelta(hours=1))
    assert len(presses) == 1
    clock.seconds += 3600
    presses.add("newer", task, clock.now())
    assert presses.find("new") is task, "its asked_at does not make it too old yet"
    clock.seconds += 600
    assert presses.find("new") is None
    assert len(presses) == 0
    await task
