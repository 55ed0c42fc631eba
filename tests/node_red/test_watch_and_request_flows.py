"""The flow that watches terminals, and the flow that sends requests with MQTT 5 response topics."""

import asyncio
import random
from base64 import b64encode

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.node_red.node_red_system import NodeRedSystem, SystemFactory
from tests.support.person_stream import PHOTOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ANSWERS = "facebridge-replies/node-red/request-response/answer"


async def enrol(system: NodeRedSystem, person_id: str, outcome: str) -> None:
    """Publish a person, and wait for the final reply."""
    topic = "facebridge/terminal/T1/person"
    person = {"id": person_id, "name": f"Name of {person_id}", "photo": b64encode(PHOTOS[0]).decode()}
    await system.client.publish(f"{topic}/set", {"persons": [person], "request_id": person_id})
    await system.client.wait_for(
        "facebridge/terminal/T1/reply",
        lambda one: (one.json["request_id"], one.json["outcome"]) == (person_id, outcome),
    )


async def test_offline_terminal_and_its_return_are_reported_once(run_flow: SystemFactory) -> None:
    async with run_flow("watch", MINUTES=0.02) as system:
        first = await system.wait_text("A terminal is offline")
        second = await system.wait_text("A terminal is offline", number=2)
        assert {sn for sn in ("T1", "T2") for text in (first, second) if sn in text} == {"T1", "T2"}
        async with system.terminal_connected():
            assert "T1" in await system.wait_text("A terminal is back")
        # The terminal was back only briefly. The flow checks the time every 5 seconds, so it reports again after that.
        await system.wait_text("A terminal is offline", number=3)
        await asyncio.sleep(6)
        assert len(system.shown_texts("A terminal is offline")) == 3, "T2 is reported once"
        assert len(system.shown_texts("A terminal is back")) == 1


async def test_terminal_that_is_back_in_time_is_not_reported(run_flow: SystemFactory) -> None:
    async with run_flow("watch", MINUTES=10) as system:
        async with system.terminal_connected():
            pass
        await asyncio.sleep(6)
        assert not system.node_red.shown


async def test_stopped_bridge_is_reported_without_its_terminals(run_flow: SystemFactory) -> None:
    async with (
        run_flow("watch", MINUTES=0.1) as system,
        system.terminal_connected("T1"),
        system.terminal_connected("T2"),
    ):
        await system.bridge.kill()
        await system.wait_text("The bridge is offline")
        await system.bridge.start()
        await system.wait_text("The bridge is back")
        await asyncio.sleep(6)
        assert not system.shown_texts("A terminal is offline")


async def test_refused_persons_are_reported_with_the_reason(run_flow: SystemFactory) -> None:
    async with run_flow("watch", MINUTES=10) as system, system.terminal_connected() as terminal:
        terminal.behaviour = Behaviour(refusal=Refusal(4, "no face"))
        await enrol(system, "6001", "refused")
        text = await system.wait_text("A person was refused")
        assert "6001" in text
        assert "no face" in text
        assert "T1" in await system.wait_text("Some are refused")
        # After a restart of Node-RED the retained state still contains the refused persons.
        await system.node_red.deploy([])
        system.node_red.shown.clear()
        await system.node_red.deploy(system.flow.nodes)
        await system.wait_text("Some are refused")
        terminal.behaviour = Behaviour()
        await enrol(system, "6001", "ok")
        await system.wait_text("None refused")
        assert not system.shown_texts("A person was refused")


async def test_each_request_gets_its_own_answer(run_flow: SystemFactory) -> None:
    async with run_flow("request-response", SN="T1", WAIT_SECONDS=2) as system, system.terminal_connected():
        await enrol(system, "1001", "ok")
        await system.press("Who is 1001?")
        assert "Name of 1001" in await system.wait_text("found")
        await system.press("Who is 1002?")
        assert "1002" in await system.wait_text("nobody")
        await enrol(system, "1002", "ok")
        after = len(system.node_red.shown)
        await system.press("Both at a time")
        await system.wait_text("found", number=2, after=after)
        both = [shown.text for shown in system.node_red.shown[after:]]
        assert sorted(number for number in ("1001", "1002") for text in both if f"{number}" in text) == ["1001", "1002"]
        assert all(f"Name of {text[:4]}" in text for text in both), both
        correlation_data = [one.correlation_data for one in await system.client.wait_for_all(ANSWERS, 4)]
        assert len(set(correlation_data)) == len(correlation_data) == 4


async def test_answers_in_reverse_order_and_late_answers(run_flow: SystemFactory) -> None:
    """The bridge is stopped, and the test answers in its place, in reverse order."""
    async with run_flow("request-response", SN="T1", WAIT_SECONDS=2) as system:
        await system.bridge.stop()
        await system.press("Both at a time")
        requests = await system.client.wait_for_all("facebridge/terminal/T1/person/get", 2)
        assert {request.qos for request in requests} == {0}
        for request in reversed(requests):
            person_id = request.json["id"]
            persons = [{"id": person_id, "name": f"Name of {person_id}", "delivery": "pending"}]
            reply = {"outcome": "ok", "persons": persons}
            await system.client.publish(ANSWERS, reply, correlation_data=request.correlation_data)
        await system.wait_text("found", number=2)
        texts = system.shown_texts("found")
        assert all(f"Name of {text[:4]}" in text for text in texts), texts
        await system.press("Who is 1001?")
        await system.wait_text("no answer in time")
        (late,) = (await system.client.wait_for_all("facebridge/terminal/T1/person/get", 3))[2:]
        await system.client.publish(ANSWERS, {"outcome": "ok"}, correlation_data=late.correlation_data)
        await system.wait_text("no matching request")
        await system.client.publish(ANSWERS, {"outcome": "ok"}, correlation_data=random.Random(1).randbytes(16))
        await system.client.publish(ANSWERS, b"\xff no JSON")
        await system.wait_text("no matching request", number=3)
        await system.bridge.start()


async def test_request_for_an_unknown_terminal(run_flow: SystemFactory) -> None:
    async with run_flow("request-response", SN="mistyped", WAIT_SECONDS=5) as system:
        await system.press("Who is 1001?")
        assert "1001" in await system.wait_text("invalid")
