"""Opening doors with the blueprints, as their users do."""

from contextlib import AbstractAsyncContextManager

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.scene import Home, Scene, SceneMaker
from tests.support.phone import Phone, phone_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"D1": {"name": "Front door"}}


async def asking(scene: Scene, *phones: Phone, **details: object) -> AbstractAsyncContextManager[str]:
    """Use the blueprint that asks phones, at an event of the test's own."""
    return scene.blueprint(
        "automation",
        "open_from_notification",
        ask_when=[{"trigger": "event", "event_type": "somebody_is_there"}],
        terminal=await scene.device_id("D1"),
        phones=[phone.device_id for phone in phones],
        **details,
    )


async def asked(scene: Scene, phone: Phone) -> None:
    """Have somebody at the door, and tap Open and then Yes on a phone."""
    before = len(phone.told)
    await scene.api.fire("somebody_is_there")
    await phone.choose(await phone.wait_for_text("Front door\nSomebody is at the door.", after=before), "Open")
    await phone.choose(await phone.wait_for_text("Really open it now?", after=before), "Yes, open")


async def test_open_from_a_notification(bridge_with: SceneMaker, home: Home, phone: Phone) -> None:
    async with (
        bridge_with(KNOWN) as scene,
        scene.terminal("D1").running() as terminal,
        phone_of(home.home_assistant, "Bob's phone") as other,
        await asking(scene, phone, other),
    ):
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        await scene.api.fire("somebody_is_there")
        question = await phone.wait_for_text("Front door\nSomebody is at the door.")
        await phone.choose(question, "Open")
        confirmation = await phone.wait_for_text("Really open it now?")
        assert terminal.opened == 0
        await phone.choose(confirmation, "Yes, open")
        await phone.wait_for_text("Acknowledged by the terminal.")
        assert terminal.opened == 1
        # The other was asked too, then the question was taken back; a late answer opens nothing.
        its_question = await other.wait_for_text("Somebody is at the door.")
        await other.wait_for_text("clear_notification")
        await other.choose(its_question, "Open")
        await phone.choose(confirmation, "Yes, open")
        await asked(scene, other)
        await other.wait_for_text("Acknowledged by the terminal.")
        assert terminal.opened == 2
        assert {heard.qos for heard in scene.client.heard if heard.topic == "facebridge/terminal/D1/open/set"} == {0}


async def test_not_opening_from_a_notification(bridge_with: SceneMaker, phone: Phone) -> None:
    async with (
        bridge_with(KNOWN) as scene,
        scene.terminal("D1").running() as terminal,
        await asking(scene, phone),
    ):
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        await scene.api.fire("somebody_is_there")
        await phone.choose(await phone.wait_for_text("Somebody is at the door."), "Open")
        await phone.choose(await phone.wait_for_text("Really open it now?"), "No")
        await phone.wait_for_text("clear_notification")

        terminal.behaviour = Behaviour(refusal=Refusal(7, "door is blocked"))
        await asked(scene, phone)
        await phone.wait_for_text("The terminal refused: door is blocked")
        assert terminal.opened == 0


async def test_a_question_that_nobody_answers_in_time_is_taken_back(bridge_with: SceneMaker, phone: Phone) -> None:
    async with (
        bridge_with(KNOWN) as scene,
        scene.terminal("D1").running() as terminal,
        await asking(scene, phone, patience=1) as automation,
    ):
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        await scene.api.fire("somebody_is_there")
        question = await phone.wait_for_text("Somebody is at the door.")
        await phone.wait_for_text("clear_notification")
        await phone.choose(question, "Open")
        assert (await scene.api.states())[automation]["attributes"]["current"] == 0
        assert len(phone.told) == 2
        assert terminal.opened == 0


async def test_opening_from_a_notification_what_is_away(bridge_with: SceneMaker, phone: Phone) -> None:
    async with bridge_with(KNOWN) as scene, await asking(scene, phone):
        await scene.api.until_state("binary_sensor.front_door_connection", "off")
        await asked(scene, phone)
        await phone.wait_for_text("Front door\nNot opened: the terminal is not connected.")
        await scene.bridge.stop()
        await scene.api.until_state("binary_sensor.facebridge_connection", "off")
        await asked(scene, phone)
        await phone.wait_for_text("Front door\nNot opened: Facebridge is not there.")
        await scene.bridge.start()
        async with scene.terminal("D1").running() as terminal:
            await scene.api.until_state("binary_sensor.front_door_connection", "on")
            await asked(scene, phone)
            await phone.wait_for_text("Acknowledged by the terminal.")
            assert terminal.opened == 1


async def test_open_at_a_doorbell(bridge_with: SceneMaker) -> None:
    async with (
        bridge_with(KNOWN) as scene,
        scene.terminal("D1").running() as terminal,
        scene.helper("input_button", "Doorbell") as doorbell,
        scene.helper("input_boolean", "Open house") as open_house,
        scene.blueprint(
            "automation",
            "open_at_doorbell",
            doorbell=doorbell,
            terminal=await scene.device_id("D1"),
            only_if=[{"condition": "state", "entity_id": open_house, "state": "on"}],
            otherwise=[{"event": "not_opened", "event_data": {"text": "{{ door }}: {{ result }}"}}],
        ) as automation,
    ):
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        await scene.api.act("input_button.press", doorbell)
        await scene.api.act("input_boolean.turn_on", open_house)
        await scene.api.act("input_button.press", doorbell)
        await terminal.wait_until(lambda: terminal.opened == 1)
        await scene.until_told(automation, current=0)
        terminal.behaviour = Behaviour(refusal=Refusal(7, "door is blocked"))
        await scene.api.act("input_button.press", doorbell)
        told = await scene.api.until_event("not_opened")
        assert told == {"text": "Front door: The terminal refused: door is blocked"}
        assert terminal.opened == 1
        assert {heard.qos for heard in scene.client.heard if heard.topic == "facebridge/terminal/D1/open/set"} == {0}


@pytest.mark.parametrize("only_if", [[], [{"condition": "template", "value_template": "{{ false }}"}]])
async def test_a_doorbell_opens_nothing_without_a_condition_that_holds(
    bridge_with: SceneMaker, only_if: list[object]
) -> None:
    async with (
        bridge_with(KNOWN) as scene,
        scene.terminal("D1").running() as terminal,
        scene.helper("input_button", "Doorbell") as doorbell,
        scene.blueprint(
            "automation",
            "open_at_doorbell",
            doorbell=doorbell,
            terminal=await scene.device_id("D1"),
            only_if=only_if,
        ),
    ):
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        await scene.api.act("input_button.press", doorbell)
        # What comes after it is carried out after it.
        await scene.api.press("button.front_door_reboot")
        await terminal.wait_until(lambda: terminal.rebooted == 1)
        assert terminal.opened == 0


async def test_a_ring_that_is_only_heard_of_opens_nothing(bridge_with: SceneMaker) -> None:
    """A doorbell that comes back and says `on` rang some time ago."""
    async with bridge_with(KNOWN) as scene, scene.terminal("D1").running() as terminal:
        bell = {"name": "Bell", "unique_id": "bell", "state_topic": "bell", "availability_topic": "bell/there"}
        await scene.client.publish("homeassistant/binary_sensor/bell/config", bell, retain=True)
        await scene.client.publish("bell/there", "online", retain=True)
        await scene.client.publish("bell", "ON", retain=True)
        await scene.api.until_state("binary_sensor.bell", "on")
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        async with scene.blueprint(
            "automation",
            "open_at_doorbell",
            doorbell="binary_sensor.bell",
            terminal=await scene.device_id("D1"),
            only_if=[{"condition": "template", "value_template": "{{ true }}"}],
        ) as automation:
            before = (await scene.api.states())[automation]
            await scene.client.publish("bell/there", "offline", retain=True)
            await scene.api.until_state("binary_sensor.bell", "unavailable")
            await scene.client.publish("bell/there", "online", retain=True)
            await scene.client.publish("bell", "ON", retain=True)
            await scene.api.until_state("binary_sensor.bell", "on")
            await scene.client.publish("bell", "OFF", retain=True)
            await scene.api.until_state("binary_sensor.bell", "off")
            assert (await scene.api.states())[automation] == before, "it has not run"
            await scene.client.publish("bell", "ON", retain=True)
            await terminal.wait_until(lambda: terminal.opened == 1)
