"""Terminals watched, and questions asked with MQTT 5, in a real Node-RED."""

import asyncio
import random
from base64 import b64encode

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.node_red.scene import Scene, SceneMaker
from tests.support.person_stream import PHOTOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ANSWERS = "facebridge-replies/node-red/request-response/answer"


async def enrol(scene: Scene, person_id: str, outcome: str) -> None:
    """Ask for a person, and wait for the last word."""
    topic = "facebridge/terminal/T1/person"
    person = {"id": person_id, "name": f"Name of {person_id}", "photo": b64encode(PHOTOS[0]).decode()}
    await scene.client.publish(f"{topic}/set", {"persons": [person], "request_id": person_id})
    await scene.client.wait_for(
        "facebridge/terminal/T1/reply",
        lambda one: (one.json["request_id"], one.json["outcome"]) == (person_id, outcome),
    )


async def test_a_terminal_that_is_away_is_told_once_and_its_return_too(flow: SceneMaker) -> None:
    async with flow("watch", MINUTES=0.02) as scene:
        first = await scene.told("A terminal is away")
        second = await scene.told("A terminal is away", number=2)
        assert {sn for sn in ("T1", "T2") for told in (first, second) if sn in told} == {"T1", "T2"}
        async with scene.terminal_there():
            assert "T1" in await scene.told("It is back")
        # Back for less than it takes to be told away again; the next look at the time is one tick, 5 seconds, later.
        await scene.told("A terminal is away", number=3)
        await asyncio.sleep(6)
        assert len(scene.all_told("A terminal is away")) == 3, "T2 is told once"
        assert len(scene.all_told("It is back")) == 1


async def test_a_terminal_that_is_back_in_time_is_not_told(flow: SceneMaker) -> None:
    async with flow("watch", MINUTES=10) as scene:
        async with scene.terminal_there():
            pass
        await asyncio.sleep(6)
        assert not scene.node_red.shown


async def test_a_bridge_that_is_away_is_told_and_its_terminals_are_not(flow: SceneMaker) -> None:
    async with flow("watch", MINUTES=0.1) as scene, scene.terminal_there("T1"), scene.terminal_there("T2"):
        await scene.bridge.kill()
        await scene.told("The bridge is away")
        await scene.bridge.start()
        await scene.told("The bridge is back")
        await asyncio.sleep(6)
        assert not scene.all_told("A terminal is away")


async def test_refused_persons_are_told_with_the_reason(flow: SceneMaker) -> None:
    async with flow("watch", MINUTES=10) as scene, scene.terminal_there() as terminal:
        terminal.behaviour = Behaviour(refusal=Refusal(4, "no face"))
        await enrol(scene, "6001", "refused")
        told = await scene.told("A person was refused")
        assert "6001" in told
        assert "no face" in told
        assert "T1" in await scene.told("Some are refused")
        # Node-RED starts anew: what was refused meanwhile is in the retained state.
        await scene.node_red.deploy([])
        scene.node_red.shown.clear()
        await scene.node_red.deploy(scene.flow.nodes)
        await scene.told("Some are refused")
        terminal.behaviour = Behaviour()
        await enrol(scene, "6001", "ok")
        await scene.told("None any more")
        assert not scene.all_told("A person was refused")


async def test_each_question_finds_its_answer(flow: SceneMaker) -> None:
    async with flow("request-response", SN="T1", WAIT_SECONDS=2) as scene, scene.terminal_there():
        await enrol(scene, "1001", "ok")
        await scene.press("Who is 1001?")
        assert "Name of 1001" in await scene.told("found")
        await scene.press("Who is 1002?")
        assert "1002" in await scene.told("nobody")
        await enrol(scene, "1002", "ok")
        after = len(scene.node_red.shown)
        await scene.press("Both at a time")
        await scene.told("found", number=2, after=after)
        both = [shown.text for shown in scene.node_red.shown[after:]]
        assert sorted(number for number in ("1001", "1002") for text in both if f"{number}" in text) == ["1001", "1002"]
        assert all(f"Name of {text[:4]}" in text for text in both), both
        marks = [one.correlation_data for one in scene.client.heard if one.topic == ANSWERS]
        assert len(set(marks)) == len(marks) == 4


async def test_answers_in_another_order_and_late_ones(flow: SceneMaker) -> None:
    """The bridge is away; somebody answers in its place, in the order that is least expected."""
    async with flow("request-response", SN="T1", WAIT_SECONDS=2) as scene:
        await scene.bridge.stop()
        await scene.press("Both at a time")
        questions = await scene.client.wait_for_all("facebridge/terminal/T1/person/get", 2)
        assert {question.qos for question in questions} == {0}
        for question in reversed(questions):
            person_id = question.json["id"]
            persons = [{"id": person_id, "name": f"Name of {person_id}", "delivery": "pending"}]
            reply = {"outcome": "ok", "persons": persons}
            await scene.client.publish(ANSWERS, reply, correlation_data=question.correlation_data)
        await scene.told("found", number=2)
        texts = scene.all_told("found")
        assert all(f"Name of {text[:4]}" in text for text in texts), texts
        await scene.press("Who is 1001?")
        await scene.told("no answer in time")
        (late,) = (await scene.client.wait_for_all("facebridge/terminal/T1/person/get", 3))[2:]
        await scene.client.publish(ANSWERS, {"outcome": "ok"}, correlation_data=late.correlation_data)
        await scene.told("not (or no longer) asked")
        await scene.client.publish(ANSWERS, {"outcome": "ok"}, correlation_data=random.Random(1).randbytes(16))
        await scene.client.publish(ANSWERS, b"\xff no JSON")
        await scene.told("not (or no longer) asked", number=3)
        await scene.bridge.start()


async def test_a_question_to_a_terminal_that_is_not_known(flow: SceneMaker) -> None:
    async with flow("request-response", SN="mistyped", WAIT_SECONDS=5) as scene:
        await scene.press("Who is 1001?")
        assert "1001" in await scene.told("invalid")
