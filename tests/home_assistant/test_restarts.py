"""Whatever is started again, all comes back in Home Assistant, nothing is doubled, and no door opens."""

import pytest

from bridge.simulator.terminal import SimulatedTerminal
from tests.home_assistant.scene import Scene, SceneMaker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"R1": {"name": "Front door", "area": "Lobby"}, "R2": {"name": "Back door"}}
BROKER_IS_AWAY = (
    "[paho.mqtt.client] failed to receive on socket",
    "Error returned from MQTT server: The connection was lost",
    # Its birth message, which it sends some seconds after it has connected.
    "Error doing job: Task exception was never retrieved",
)
NAMES = ("Facebridge", "Front door", "Back door")


async def registered(scene: Scene) -> tuple[object, ...]:
    """Return what Home Assistant has registered, but for the times."""
    devices = {
        identifier: {key: device[key] for key in ("id", "name", "area_id", "via_device_id", "serial_number")}
        for identifier, device in (await scene.api.devices()).items()
    }
    entities = {
        entity_id: {key: entity[key] for key in ("id", "unique_id", "device_id", "original_name", "disabled_by")}
        for entity_id, entity in (await scene.api.entities()).items()
    }
    return devices, entities


async def all_is_back(scene: Scene) -> None:
    await scene.api.until_state("binary_sensor.facebridge_connection", "on")
    await scene.api.until_state("binary_sensor.front_door_connection", "on")
    await scene.api.until_state("binary_sensor.back_door_connection", "off")
    await scene.api.until_state("button.back_door_open", "unavailable")
    states = await scene.api.states()
    assert states["event.front_door_reply"]["state"] != "unavailable"

    async def available() -> bool:
        states = await scene.api.states()
        return all(
            state["state"] != "unavailable"
            for entity_id, state in states.items()
            if "front_door" in entity_id or "facebridge" in entity_id
        )

    await scene.api.until(available, "everything of the terminal that is connected is available")


async def pressed(scene: Scene, terminal: SimulatedTerminal) -> None:
    """Open the door, and make sure that it opened once."""
    before = terminal.opened
    await scene.api.press("button.front_door_open")
    await terminal.wait_until(lambda: terminal.opened > before)
    await scene.until_told("event.front_door_reply", command="open", event_type="ok")
    assert terminal.opened == before + 1


async def test_home_assistant_is_restarted(bridge_with: SceneMaker) -> None:
    async with bridge_with(KNOWN) as scene, scene.terminal("R1").running() as terminal:
        await scene.until_known(*NAMES)
        await all_is_back(scene)
        await pressed(scene, terminal)
        before = await registered(scene)
        last_press = (await scene.api.states())["button.front_door_open"]["state"]
        for _ in range(2):
            await scene.restart_home_assistant()
            await scene.until_known(*NAMES)
            await all_is_back(scene)
            assert await registered(scene) == before
        assert (await scene.api.states())["button.front_door_open"]["state"] == last_press
        assert terminal.opened == 1
        await pressed(scene, terminal)


async def test_the_broker_is_restarted(bridge_with: SceneMaker) -> None:
    """It forgets everything, retained topics too, as a stock Mosquitto does."""
    async with bridge_with(KNOWN, expected=BROKER_IS_AWAY) as scene, scene.terminal("R1").running() as terminal:
        await scene.until_known(*NAMES)
        await all_is_back(scene)
        await pressed(scene, terminal)
        before = await registered(scene)
        await scene.broker.stop()
        await scene.api.until_state("button.front_door_open", "unavailable")
        await scene.api.until_state("binary_sensor.facebridge_connection", "unavailable")
        await scene.broker.start()
        await all_is_back(scene)
        assert await registered(scene) == before
        assert terminal.opened == 1
        await pressed(scene, terminal)


async def test_the_bridge_is_killed_and_started(bridge_with: SceneMaker) -> None:
    async with bridge_with(KNOWN) as scene, scene.terminal("R1").running() as terminal:
        await scene.until_known(*NAMES)
        await all_is_back(scene)
        await pressed(scene, terminal)
        before = await registered(scene)
        await scene.bridge.kill()
        await scene.api.until_state("binary_sensor.facebridge_connection", "off")
        for entity_id in ("button.front_door_open", "binary_sensor.front_door_connection", "sensor.front_door_persons"):
            await scene.api.until_state(entity_id, "unavailable")
        await scene.bridge.start()
        await all_is_back(scene)
        assert await registered(scene) == before

        await scene.bridge.stop()
        await scene.api.until_state("binary_sensor.facebridge_connection", "off")
        await scene.bridge.start()
        await all_is_back(scene)
        assert await registered(scene) == before
        assert terminal.opened == 1
        await pressed(scene, terminal)


async def test_home_assistant_comes_to_a_bridge_that_was_there_before(bridge_with: SceneMaker) -> None:
    """It takes what is retained in any order: a terminal may come before the bridge that it is connected by."""
    async with bridge_with(KNOWN) as scene, scene.terminal("R1").running():
        await scene.until_known(*NAMES)
        await scene.disconnect()
        await scene.home_assistant.stop()
        scene.home_assistant.forget_devices()
        await scene.home_assistant.start()
        await scene.connect()
        await scene.until_known(*NAMES)
        await all_is_back(scene)
        devices = await scene.api.devices()
        assert {device["via_device_id"] for device in devices.values()} == {None, devices["facebridge"]["id"]}


async def test_a_device_that_its_user_deletes_comes_back_with_the_next_start(bridge_with: SceneMaker) -> None:
    # It clears the discovery once for each entity, hears itself, and warns of all but the first.
    expected = ("No device components to cleanup for facebridge_R1",)
    async with bridge_with(KNOWN, expected=expected) as scene, scene.terminal("R1").running():
        await scene.until_known(*NAMES)
        await scene.api.remove((await scene.api.devices())["facebridge_R1"])
        await scene.until_known("Facebridge", "Back door")
        await scene.restart_home_assistant()
        await scene.until_known(*NAMES)
        await all_is_back(scene)


@pytest.mark.parametrize("home", ["3.1.1"], indirect=True)
async def test_with_mqtt_3_1_1(bridge_with: SceneMaker) -> None:
    async with bridge_with(KNOWN, expected=BROKER_IS_AWAY) as scene, scene.terminal("R1").running() as terminal:
        await scene.until_known(*NAMES)
        await all_is_back(scene)
        await pressed(scene, terminal)
        before = await registered(scene)
        await scene.restart_home_assistant()
        await all_is_back(scene)
        await scene.broker.restart()
        await all_is_back(scene)
        assert await registered(scene) == before
        assert terminal.opened == 1
        await pressed(scene, terminal)
