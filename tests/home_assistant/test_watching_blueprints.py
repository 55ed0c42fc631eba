"""Approving terminals, and hearing of trouble with them, with the blueprints, as their users do."""

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.scene import Home, SceneMaker
from tests.support.person_scene import PHOTO
from tests.support.phone import Phone, phone_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CONNECTIONS = ["binary_sensor.facebridge_connection", "binary_sensor.front_door_connection"]


async def test_a_terminal_is_approved_from_a_notification(bridge_with: SceneMaker, home: Home, phone: Phone) -> None:
    async with (
        bridge_with({}) as scene,
        phone_of(home.home_assistant, "Bob's phone") as other,
        scene.blueprint("automation", "approve_terminal", phones=[phone.device_id, other.device_id], groups=["lobby"]),
        scene.terminal("N1").running(),
    ):
        question = await phone.wait_for_text("A terminal wants to connect\nN1, from 127.0.0.1")
        await other.wait_for_text("N1, from 127.0.0.1")
        async with scene.terminal("N2").running():
            its_question = await other.wait_for_text("N2, from 127.0.0.1")
            assert [told["message"] for told in other.told] == ["N1, from 127.0.0.1", "N2, from 127.0.0.1"]
            await phone.choose(question, "Approve")
            for each in (phone, other):
                await each.wait_for_text("Terminal N1\nApproved.")
            await scene.api.until_state("binary_sensor.terminal_n1_connection", "on")
            await other.choose(its_question, "Approve as…", reply_text=' "Ada\'s" 大门 {{ 1 }} ')
            await other.wait_for_text('Terminal N2\nApproved as "Ada\'s" 大门 {{ 1 }}.')
            await scene.until_known("Facebridge", "Terminal N1", '"Ada\'s" 大门 {{ 1 }}')
            await phone.choose(its_question, "Approve")
            await phone.wait_for_text("Terminal N2\nIt does not wait any more.")
        await scene.client.publish("facebridge/group/lobby/open/set", "PRESS")
        opened = await scene.client.wait_for("facebridge/group/lobby/reply")
        assert opened.json["total"] == 2
        assert {heard.qos for heard in scene.client.heard if heard.topic == "facebridge/bridge/admit/set"} == {1}


async def test_an_approval_that_is_refused_is_told(bridge_with: SceneMaker, phone: Phone) -> None:
    async with (
        bridge_with({}) as scene,
        scene.blueprint("automation", "approve_terminal", phones=[phone.device_id], groups=["no such group!"]),
        scene.terminal("N1").running(),
    ):
        await phone.choose(await phone.wait_for_text("N1, from 127.0.0.1"), "Approve")
        await phone.wait_for_text("Terminal N1\nNot approved")
        assert (await scene.api.states())["sensor.facebridge_pending_terminals"]["state"] == "1"


async def test_it_is_told_that_a_terminal_is_away(bridge_with: SceneMaker, phone: Phone) -> None:
    async with (
        bridge_with({"F1": {"name": "Front door"}}) as scene,
        scene.blueprint(
            "automation",
            "terminal_trouble",
            connections=CONNECTIONS,
            phones=[phone.device_id],
            away_for=1 / 60,
            also=[{"event": "told", "event_data": {"text": "{{ title }}: {{ message }} {{ tag }}"}}],
        ),
    ):
        async with scene.terminal("F1").running():
            await scene.api.until_state("binary_sensor.front_door_connection", "on")
        first = await phone.wait_for_text("Front door\nNot connected.")
        told = await scene.api.until_event("told")
        assert told == {"text": f"Front door: Not connected. {first['data']['tag']}"}
        async with scene.terminal("F1").running():
            back = await phone.wait_for_text("Front door\nConnected again, after ")
            assert back["data"]["tag"] == first["data"]["tag"], "it takes the place of the other"
            await scene.bridge.kill()
            await phone.wait_for_text("Facebridge\nNot connected.")
            await scene.bridge.start()
            await phone.wait_for_text("Facebridge\nConnected again, after ")


async def test_it_is_told_that_a_terminal_refuses_a_person(bridge_with: SceneMaker, phone: Phone) -> None:
    async with (
        bridge_with({"F1": {"name": "Front door"}}) as scene,
        scene.terminal("F1").running() as terminal,
        scene.blueprint(
            "automation",
            "terminal_trouble",
            connections=CONNECTIONS,
            replies=["event.front_door_reply"],
            phones=[phone.device_id],
        ),
    ):
        await scene.api.until_state("event.front_door_reply", "unknown")
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        terminal.behaviour = Behaviour(refusal=Refusal(3, "no face in the picture"), only_for=frozenset({"1001"}))
        persons = [{"id": str(number), "name": "Ada", "photo": PHOTO} for number in (1000, 1001)]
        await scene.client.publish("facebridge/terminal/F1/person/set", persons)
        await phone.wait_for_text("Front door\nRefused person 1001: no face in the picture (status 3).")
        terminal.behaviour = Behaviour(refusal=Refusal(4, "locked"))
        # A press that is refused is the business of who pressed.
        await scene.api.press("button.front_door_open")
        await scene.client.publish("facebridge/terminal/F1/person/remove", {"id": "1000"})
        await phone.wait_for_text("Front door\nRefused to remove person 1000: locked (status 4).")
        confirmed = {"all": True, "confirm": "F1"}
        await scene.client.publish("facebridge/terminal/F1/person/remove", confirmed)
        await phone.wait_for_text("Front door\nRefused to remove everyone: locked (status 4).")
        assert len(phone.told) == 3
