"""The blueprints that open doors, used as their users do."""

from contextlib import AbstractAsyncContextManager

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.home_assistant_system import HomeAssistantSystem, Installation, SystemFactory
from tests.support.phone import Phone, phone_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"D1": {"name": "Front door"}}


async def notification_blueprint(
    system: HomeAssistantSystem, *phones: Phone, **details: object
) -> AbstractAsyncContextManager[str]:
    """Use the blueprint that asks phones, triggered by an event of the test."""
    return system.blueprint(
        "automation",
        "open_from_notification",
        ask_when=[{"trigger": "event", "event_type": "doorbell_pressed"}],
        terminal=await system.device_id("D1"),
        phones=[phone.device_id for phone in phones],
        **details,
    )


async def ring_and_confirm(system: HomeAssistantSystem, phone: Phone) -> None:
    """Trigger the question, and tap Open and then Yes on a phone."""
    before = len(phone.notifications)
    await system.api.fire("doorbell_pressed")
    await phone.choose(await phone.wait_for_text("Front door\nThere is someone at the door.", after=before), "Open")
    await phone.choose(await phone.wait_for_text("Really open it now?", after=before), "Yes, open")


async def test_open_from_a_notification(make_system: SystemFactory, installation: Installation, phone: Phone) -> None:
    async with (
        make_system(KNOWN) as system,
        system.terminal("D1").running() as terminal,
        phone_of(installation.home_assistant, "Bob's phone") as other,
        await notification_blueprint(system, phone, other),
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await system.api.fire("doorbell_pressed")
        question = await phone.wait_for_text("Front door\nThere is someone at the door.")
        await phone.choose(question, "Open")
        confirmation = await phone.wait_for_text("Really open it now?")
        assert terminal.opened == 0
        await phone.choose(confirmation, "Yes, open")
        await phone.wait_for_text("Acknowledged by the terminal.")
        assert terminal.opened == 1
        # The other phone was asked too, until the question was withdrawn; a late answer does not open the door.
        its_question = await other.wait_for_text("There is someone at the door.")
        await other.wait_for_text("clear_notification")
        await other.choose(its_question, "Open")
        await phone.choose(confirmation, "Yes, open")
        await ring_and_confirm(system, other)
        await other.wait_for_text("Acknowledged by the terminal.")
        assert terminal.opened == 2
        assert {heard.qos for heard in system.client.heard if heard.topic == "facebridge/terminal/D1/open/set"} == {0}


async def test_door_stays_closed_after_no_or_a_refusal(make_system: SystemFactory, phone: Phone) -> None:
    async with (
        make_system(KNOWN) as system,
        system.terminal("D1").running() as terminal,
        await notification_blueprint(system, phone),
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await system.api.fire("doorbell_pressed")
        await phone.choose(await phone.wait_for_text("There is someone at the door."), "Open")
        await phone.choose(await phone.wait_for_text("Really open it now?"), "No")
        await phone.wait_for_text("clear_notification")

        terminal.behaviour = Behaviour(refusal=Refusal(7, "door is blocked"))
        await ring_and_confirm(system, phone)
        await phone.wait_for_text("The terminal refused: door is blocked")
        assert terminal.opened == 0


async def test_question_without_an_answer_is_withdrawn(make_system: SystemFactory, phone: Phone) -> None:
    async with (
        make_system(KNOWN) as system,
        system.terminal("D1").running() as terminal,
        await notification_blueprint(system, phone, patience=1) as automation,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await system.api.fire("doorbell_pressed")
        question = await phone.wait_for_text("There is someone at the door.")
        await phone.wait_for_text("clear_notification")
        await phone.choose(question, "Open")
        assert (await system.api.states())[automation]["attributes"]["current"] == 0
        assert len(phone.notifications) == 2
        assert terminal.opened == 0


async def test_open_from_a_notification_while_terminal_or_bridge_is_offline(
    make_system: SystemFactory, phone: Phone
) -> None:
    async with make_system(KNOWN) as system, await notification_blueprint(system, phone):
        await system.api.wait_state("binary_sensor.front_door_connection", "off")
        await ring_and_confirm(system, phone)
        await phone.wait_for_text("Front door\nNot opened: the terminal is not connected.")
        await system.bridge.stop()
        await system.api.wait_state("binary_sensor.facebridge_connection", "off")
        await ring_and_confirm(system, phone)
        await phone.wait_for_text("Front door\nNot opened: Facebridge is offline.")
        await system.bridge.start()
        async with system.terminal("D1").running() as terminal:
            await system.api.wait_state("binary_sensor.front_door_connection", "on")
            await ring_and_confirm(system, phone)
            await phone.wait_for_text("Acknowledged by the terminal.")
            assert terminal.opened == 1


async def test_open_at_a_doorbell(make_system: SystemFactory) -> None:
    async with (
        make_system(KNOWN) as system,
        system.terminal("D1").running() as terminal,
        system.helper("input_button", "Doorbell") as doorbell,
        system.helper("input_boolean", "Open house") as open_house,
        system.blueprint(
            "automation",
            "open_at_doorbell",
            doorbell=doorbell,
            terminal=await system.device_id("D1"),
            only_if=[{"condition": "state", "entity_id": open_house, "state": "on"}],
            otherwise=[{"event": "not_opened", "event_data": {"text": "{{ door }}: {{ result }}"}}],
        ) as automation,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await system.api.perform_action("input_button.press", doorbell)
        await system.api.perform_action("input_boolean.turn_on", open_house)
        await system.api.perform_action("input_button.press", doorbell)
        await terminal.wait_until(lambda: terminal.opened == 1)
        await system.wait_reply(automation, current=0)
        terminal.behaviour = Behaviour(refusal=Refusal(7, "door is blocked"))
        await system.api.perform_action("input_button.press", doorbell)
        event_data = await system.api.wait_event("not_opened")
        assert event_data == {"text": "Front door: The terminal refused: door is blocked"}
        assert terminal.opened == 1
        assert {heard.qos for heard in system.client.heard if heard.topic == "facebridge/terminal/D1/open/set"} == {0}


@pytest.mark.parametrize("only_if", [[], [{"condition": "template", "value_template": "{{ false }}"}]])
async def test_doorbell_does_not_open_unless_a_condition_holds(
    make_system: SystemFactory, only_if: list[object]
) -> None:
    async with (
        make_system(KNOWN) as system,
        system.terminal("D1").running() as terminal,
        system.helper("input_button", "Doorbell") as doorbell,
        system.blueprint(
            "automation",
            "open_at_doorbell",
            doorbell=doorbell,
            terminal=await system.device_id("D1"),
            only_if=only_if,
        ),
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await system.api.perform_action("input_button.press", doorbell)
        # Home Assistant handles the reboot after the doorbell.
        await system.api.press("button.front_door_reboot")
        await terminal.wait_until(lambda: terminal.rebooted == 1)
        assert terminal.opened == 0


async def test_doorbell_that_becomes_available_does_not_open(make_system: SystemFactory) -> None:
    """A doorbell that becomes available with the state `on` rang some time before."""
    async with make_system(KNOWN) as system, system.terminal("D1").running() as terminal:
        bell = {"name": "Bell", "unique_id": "bell", "state_topic": "bell", "availability_topic": "bell/there"}
        await system.client.publish("homeassistant/binary_sensor/bell/config", bell, retain=True)
        await system.client.publish("bell/there", "online", retain=True)
        await system.client.publish("bell", "ON", retain=True)
        await system.api.wait_state("binary_sensor.bell", "on")
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        async with system.blueprint(
            "automation",
            "open_at_doorbell",
            doorbell="binary_sensor.bell",
            terminal=await system.device_id("D1"),
            only_if=[{"condition": "template", "value_template": "{{ true }}"}],
        ) as automation:
            before = (await system.api.states())[automation]
            await system.client.publish("bell/there", "offline", retain=True)
            await system.api.wait_state("binary_sensor.bell", "unavailable")
            await system.client.publish("bell/there", "online", retain=True)
            await system.client.publish("bell", "ON", retain=True)
            await system.api.wait_state("binary_sensor.bell", "on")
            await system.client.publish("bell", "OFF", retain=True)
            await system.api.wait_state("binary_sensor.bell", "off")
            assert (await system.api.states())[automation] == before, "the automation has not run"
            await system.client.publish("bell", "ON", retain=True)
            await terminal.wait_until(lambda: terminal.opened == 1)
