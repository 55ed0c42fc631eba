"""After a restart of any part Home Assistant shows the same entities, none twice, and no door opens."""

import pytest

from bridge.simulator.terminal import SimulatedTerminal
from tests.home_assistant.home_assistant_system import HomeAssistantSystem, SystemFactory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"R1": {"name": "Front door", "area": "Lobby"}, "R2": {"name": "Back door"}}
BROKER_OUTAGE_WARNINGS = (
    "[paho.mqtt.client] failed to receive on socket",
    "Error returned from MQTT server: The connection was lost",
    # Home Assistant publishes its birth message some seconds after it has connected.
    "Error doing job: Task exception was never retrieved",
)
NAMES = ("Facebridge", "Front door", "Back door")


async def registries(system: HomeAssistantSystem) -> tuple[object, ...]:
    """Return Home Assistant's registered devices and entities, without times."""
    devices = {
        identifier: {key: device[key] for key in ("id", "name", "area_id", "via_device_id", "serial_number")}
        for identifier, device in (await system.api.devices()).items()
    }
    entities = {
        entity_id: {key: entity[key] for key in ("id", "unique_id", "device_id", "original_name", "disabled_by")}
        for entity_id, entity in (await system.api.entities()).items()
    }
    return devices, entities


async def wait_available(system: HomeAssistantSystem) -> None:
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

    await system.api.wait_until(available, "all entities of the bridge and the connected terminal are available")


async def press(system: HomeAssistantSystem, terminal: SimulatedTerminal) -> None:
    """Press the button, and check that the door opens once."""
    before = terminal.opened
    await system.api.press("button.front_door_open")
    await terminal.wait_until(lambda: terminal.opened > before)
    await system.wait_reply("event.front_door_reply", command="open", event_type="ok")
    assert terminal.opened == before + 1


async def test_restart_of_home_assistant(make_system: SystemFactory) -> None:
    async with make_system(KNOWN) as system, system.terminal("R1").running() as terminal:
        await system.wait_devices(*NAMES)
        await wait_available(system)
        await press(system, terminal)
        before = await registries(system)
        last_press = (await system.api.states())["button.front_door_open"]["state"]
        for _ in range(2):
            await system.restart_home_assistant()
            await system.wait_devices(*NAMES)
            await wait_available(system)
            assert await registries(system) == before
        assert (await system.api.states())["button.front_door_open"]["state"] == last_press
        assert terminal.opened == 1
        await press(system, terminal)


async def test_restart_of_the_broker(make_system: SystemFactory) -> None:
    """The broker forgets all retained messages, as a Mosquitto without `persistence` does."""
    async with (
        make_system(KNOWN, expected=BROKER_OUTAGE_WARNINGS) as system,
        system.terminal("R1").running() as terminal,
    ):
        await system.wait_devices(*NAMES)
        await wait_available(system)
        await press(system, terminal)
        before = await registries(system)
        await system.broker.stop()
        await system.api.wait_state("button.front_door_open", "unavailable")
        await system.api.wait_state("binary_sensor.facebridge_connection", "unavailable")
        await system.broker.start()
        await wait_available(system)
        assert await registries(system) == before
        assert terminal.opened == 1
        await press(system, terminal)


async def test_kill_and_stop_of_the_bridge(make_system: SystemFactory) -> None:
    async with make_system(KNOWN) as system, system.terminal("R1").running() as terminal:
        await system.wait_devices(*NAMES)
        await wait_available(system)
        await press(system, terminal)
        before = await registries(system)
        await system.bridge.kill()
        await system.api.wait_state("binary_sensor.facebridge_connection", "off")
        for entity_id in ("button.front_door_open", "binary_sensor.front_door_connection", "sensor.front_door_persons"):
            await system.api.wait_state(entity_id, "unavailable")
        await system.bridge.start()
        await wait_available(system)
        assert await registries(system) == before

        await system.bridge.stop()
        await system.api.wait_state("binary_sensor.facebridge_connection", "off")
        await system.bridge.start()
        await wait_available(system)
        assert await registries(system) == before
        assert terminal.opened == 1
        await press(system, terminal)


async def test_home_assistant_connects_after_the_bridge(make_system: SystemFactory) -> None:
    """Retained messages arrive in any order: a terminal may be discovered before the bridge in its `via_device`."""
    async with make_system(KNOWN) as system, system.terminal("R1").running():
        await system.wait_devices(*NAMES)
        await system.disconnect()
        await system.home_assistant.stop()
        system.home_assistant.forget_devices()
        await system.home_assistant.start()
        await system.connect()
        await system.wait_devices(*NAMES)
        await wait_available(system)
        devices = await system.api.devices()
        assert {device["via_device_id"] for device in devices.values()} == {None, devices["facebridge"]["id"]}


async def test_deleted_device_comes_back_at_the_next_start(make_system: SystemFactory) -> None:
    # Home Assistant deletes the discovery message once per entity, receives that itself, and warns after the first.
    expected = ("No device components to cleanup for facebridge_R1",)
    async with make_system(KNOWN, expected=expected) as system, system.terminal("R1").running():
        await system.wait_devices(*NAMES)
        await system.api.remove((await system.api.devices())["facebridge_R1"])
        await system.wait_devices("Facebridge", "Back door")
        await system.restart_home_assistant()
        await system.wait_devices(*NAMES)
        await wait_available(system)


@pytest.mark.parametrize("installation", ["3.1.1"], indirect=True)
async def test_with_mqtt_3_1_1(make_system: SystemFactory) -> None:
    async with (
        make_system(KNOWN, expected=BROKER_OUTAGE_WARNINGS) as system,
        system.terminal("R1").running() as terminal,
    ):
        await system.wait_devices(*NAMES)
        await wait_available(system)
        await press(system, terminal)
        before = await registries(system)
        await system.restart_home_assistant()
        await wait_available(system)
        await system.broker.restart()
        await wait_available(system)
        assert await registries(system) == before
        assert terminal.opened == 1
        await press(system, terminal)
