"""Whatever is started again, all comes back in Home Assistant, nothing is doubled, and no door opens."""

import pytest

from bridge.simulator.terminal import SimulatedTerminal
from tests.home_assistant.home_assistant_system import HomeAssistantSystem, SystemFactory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"R1": {"name": "Front door", "area": "Lobby"}, "R2": {"name": "Back door"}}
BROKER_IS_AWAY = (
    "[paho.mqtt.client] failed to receive on socket",
    "Error returned from MQTT server: The connection was lost",
    # Its birth message, which it sends some seconds after it has connected.
    "Error doing job: Task exception was never retrieved",
)
NAMES = ("Facebridge", "Front door", "Back door")


async def registered(system: HomeAssistantSystem) -> tuple[object, ...]:
    """Return what Home Assistant has registered, but for the times."""
    devices = {
        identifier: {key: device[key] for key in ("id", "name", "area_id", "via_device_id", "serial_number")}
        for identifier, device in (await system.api.devices()).items()
    }
    entities = {
        entity_id: {key: entity[key] for key in ("id", "unique_id", "device_id", "original_name", "disabled_by")}
        for entity_id, entity in (await system.api.entities()).items()
    }
    return devices, entities


async def all_is_back(system: HomeAssistantSystem) -> None:
    await system.api.wait_state("binary_sensor.facebridge_connection", "on")
    await system.api.wait_state("binary_sensor.front_door_connection", "on")
    await system.api.wait_state("binary_sensor.back_door_connection", "off")
    await system.api.wait_state("button.back_door_open", "unavailable")
    states = await system.api.states()
    assert states["event.front_door_reply"]["state"] != "unavailable"

    async def available() -> bool:
        states = await system.api.states()
        return all(
            state["state"] != "unavailable"
            for entity_id, state in states.items()
            if "front_door" in entity_id or "facebridge" in entity_id
        )

    await system.api.wait_until(available, "everything of the terminal that is connected is available")


async def pressed(system: HomeAssistantSystem, terminal: SimulatedTerminal) -> None:
    """Open the door, and make sure that it opened once."""
    before = terminal.opened
    await system.api.press("button.front_door_open")
    await terminal.wait_until(lambda: terminal.opened > before)
    await system.wait_reply("event.front_door_reply", command="open", event_type="ok")
    assert terminal.opened == before + 1


async def test_home_assistant_is_restarted(make_system: SystemFactory) -> None:
    async with make_system(KNOWN) as system, system.terminal("R1").running() as terminal:
        await system.wait_devices(*NAMES)
        await all_is_back(system)
        await pressed(system, terminal)
        before = await registered(system)
        last_press = (await system.api.states())["button.front_door_open"]["state"]
        for _ in range(2):
            await system.restart_home_assistant()
            await system.wait_devices(*NAMES)
            await all_is_back(system)
            assert await registered(system) == before
        assert (await system.api.states())["button.front_door_open"]["state"] == last_press
        assert terminal.opened == 1
        await pressed(system, terminal)


async def test_the_broker_is_restarted(make_system: SystemFactory) -> None:
    """It forgets everything, retained topics too, as a stock Mosquitto does."""
    async with make_system(KNOWN, expected=BROKER_IS_AWAY) as system, system.terminal("R1").running() as terminal:
        await system.wait_devices(*NAMES)
        await all_is_back(system)
        await pressed(system, terminal)
        before = await registered(system)
        await system.broker.stop()
        await system.api.wait_state("button.front_door_open", "unavailable")
        await system.api.wait_state("binary_sensor.facebridge_connection", "unavailable")
        await system.broker.start()
        await all_is_back(system)
        assert await registered(system) == before
        assert terminal.opened == 1
        await pressed(system, terminal)


async def test_the_bridge_is_killed_and_started(make_system: SystemFactory) -> None:
    async with make_system(KNOWN) as system, system.terminal("R1").running() as terminal:
        await system.wait_devices(*NAMES)
        await all_is_back(system)
        await pressed(system, terminal)
        before = await registered(system)
        await system.bridge.kill()
        await system.api.wait_state("binary_sensor.facebridge_connection", "off")
        for entity_id in ("button.front_door_open", "binary_sensor.front_door_connection", "sensor.front_door_persons"):
            await system.api.wait_state(entity_id, "unavailable")
        await system.bridge.start()
        await all_is_back(system)
        assert await registered(system) == before

        await system.bridge.stop()
        await system.api.wait_state("binary_sensor.facebridge_connection", "off")
        await system.bridge.start()
        await all_is_back(system)
        assert await registered(system) == before
        assert terminal.opened == 1
        await pressed(system, terminal)


async def test_home_assistant_comes_to_a_bridge_that_was_there_before(make_system: SystemFactory) -> None:
    """It takes what is retained in any order: a terminal may come before the bridge that it is connected by."""
    async with make_system(KNOWN) as system, system.terminal("R1").running():
        await system.wait_devices(*NAMES)
        await system.disconnect()
        await system.home_assistant.stop()
        system.home_assistant.forget_devices()
        await system.home_assistant.start()
        await system.connect()
        await system.wait_devices(*NAMES)
        await all_is_back(system)
        devices = await system.api.devices()
        assert {device["via_device_id"] for device in devices.values()} == {None, devices["facebridge"]["id"]}


async def test_a_device_that_its_user_deletes_comes_back_with_the_next_start(make_system: SystemFactory) -> None:
    # It clears the discovery once for each entity, hears itself, and warns of all but the first.
    expected = ("No device components to cleanup for facebridge_R1",)
    async with make_system(KNOWN, expected=expected) as system, system.terminal("R1").running():
        await system.wait_devices(*NAMES)
        await system.api.remove((await system.api.devices())["facebridge_R1"])
        await system.wait_devices("Facebridge", "Back door")
        await system.restart_home_assistant()
        await system.wait_devices(*NAMES)
        await all_is_back(system)


@pytest.mark.parametrize("installation", ["3.1.1"], indirect=True)
async def test_with_mqtt_3_1_1(make_system: SystemFactory) -> None:
    async with make_system(KNOWN, expected=BROKER_IS_AWAY) as system, system.terminal("R1").running() as terminal:
        await system.wait_devices(*NAMES)
        await all_is_back(system)
        await pressed(system, terminal)
        before = await registered(system)
        await system.restart_home_assistant()
        await all_is_back(system)
        await system.broker.restart()
        await all_is_back(system)
        assert await registered(system) == before
        assert terminal.opened == 1
        await pressed(system, terminal)
