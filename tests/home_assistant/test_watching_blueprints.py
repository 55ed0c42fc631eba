"""The blueprints that approve terminals and report trouble with them, used as their users do."""

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.home_assistant_system import Installation, SystemFactory
from tests.support.bridge_system import PHOTO
from tests.support.phone import Phone, phone_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CONNECTIONS = ["binary_sensor.facebridge_connection", "binary_sensor.front_door_connection"]


async def test_terminal_is_approved_from_a_notification(
    make_system: SystemFactory, installation: Installation, phone: Phone
) -> None:
    async with (
        make_system({}) as system,
        phone_of(installation.home_assistant, "Bob's phone") as other,
        system.blueprint("automation", "approve_terminal", phones=[phone.device_id, other.device_id], groups=["lobby"]),
        system.terminal("N1").running(),
    ):
        question = await phone.wait_for_text("A terminal wants to connect\nN1, from 127.0.0.1")
        await other.wait_for_text("N1, from 127.0.0.1")
        async with system.terminal("N2").running():
            its_question = await other.wait_for_text("N2, from 127.0.0.1")
            assert [one["message"] for one in other.notifications] == ["N1, from 127.0.0.1", "N2, from 127.0.0.1"]
            await phone.choose(question, "Approve")
            for each in (phone, other):
                await each.wait_for_text("Terminal N1\nApproved.")
            await system.api.wait_state("binary_sensor.terminal_n1_connection", "on")
            await other.choose(its_question, "Approve as…", reply_text=' "Ada\'s" 大门 {{ 1 }} ')
            await other.wait_for_text('Terminal N2\nApproved as "Ada\'s" 大门 {{ 1 }}.')
            await system.wait_devices("Facebridge", "Terminal N1", '"Ada\'s" 大门 {{ 1 }}')
            await phone.choose(its_question, "Approve")
            await phone.wait_for_text("Terminal N2\nThe terminal is no longer waiting.")
        await system.client.publish("facebridge/group/lobby/open/set", "PRESS")
        opened = await system.client.wait_for("facebridge/group/lobby/reply")
        assert opened.json["total"] == 2
        assert {heard.qos for heard in system.client.heard if heard.topic == "facebridge/bridge/admit/set"} == {1}


async def test_notification_about_a_refused_approval(make_system: SystemFactory, phone: Phone) -> None:
    async with (
        make_system({}) as system,
        system.blueprint("automation", "approve_terminal", phones=[phone.device_id], groups=["no such group!"]),
        system.terminal("N1").running(),
    ):
        await phone.choose(await phone.wait_for_text("N1, from 127.0.0.1"), "Approve")
        await phone.wait_for_text("Terminal N1\nNot approved")
        assert (await system.api.states())["sensor.facebridge_pending_terminals"]["state"] == "1"


async def test_notification_about_an_offline_terminal(make_system: SystemFactory, phone: Phone) -> None:
    async with (
        make_system({"F1": {"name": "Front door"}}) as system,
        system.blueprint(
            "automation",
            "terminal_trouble",
            connections=CONNECTIONS,
            phones=[phone.device_id],
            away_for=1 / 60,
            also=[{"event": "trouble", "event_data": {"text": "{{ title }}: {{ message }} {{ tag }}"}}],
        ),
    ):
        async with system.terminal("F1").running():
            await system.api.wait_state("binary_sensor.front_door_connection", "on")
        first = await phone.wait_for_text("Front door\nNot connected.")
        event_data = await system.api.wait_event("trouble")
        assert event_data == {"text": f"Front door: Not connected. {first['data']['tag']}"}
        async with system.terminal("F1").running():
            back = await phone.wait_for_text("Front door\nConnected again, after ")
            assert back["data"]["tag"] == first["data"]["tag"], "it replaces the other"
            await system.bridge.kill()
            await phone.wait_for_text("Facebridge\nNot connected.")
            await system.bridge.start()
            await phone.wait_for_text("Facebridge\nConnected again, after ")


async def test_notification_about_a_refused_person(make_system: SystemFactory, phone: Phone) -> None:
    async with (
        make_system({"F1": {"name": "Front door"}}) as system,
        system.terminal("F1").running() as terminal,
        system.blueprint(
            "automation",
            "terminal_trouble",
            connections=CONNECTIONS,
            replies=["event.front_door_reply"],
            phones=[phone.device_id],
        ),
    ):
        await system.api.wait_state("event.front_door_reply", "unknown")
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        terminal.behaviour = Behaviour(refusal=Refusal(3, "no face in the picture"), only_for=frozenset({"1001"}))
        persons = [{"id": str(number), "name": "Ada", "photo": PHOTO} for number in (1000, 1001)]
        await system.client.publish("facebridge/terminal/F1/person/set", persons)
        await phone.wait_for_text("Front door\nRefused person 1001: no face in the picture (status 3).")
        terminal.behaviour = Behaviour(refusal=Refusal(4, "locked"))
        # The blueprint does not report a refused press: only its sender needs to know.
        await system.api.press("button.front_door_open")
        await system.client.publish("facebridge/terminal/F1/person/remove", {"id": "1000"})
        await phone.wait_for_text("Front door\nRefused to remove person 1000: locked (status 4).")
        confirmed = {"all": True, "confirm": "F1"}
        await system.client.publish("facebridge/terminal/F1/person/remove", confirmed)
        await phone.wait_for_text("Front door\nRefused to remove everyone: locked (status 4).")
        assert len(phone.notifications) == 3
