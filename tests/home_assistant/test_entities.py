"""The devices and entities in Home Assistant, and their states (docs/mqtt.md)."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.home_assistant_system import SystemFactory
from tests.support.bridge_system import PHOTO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

OUTCOMES = [
    "ok", "refused", "accepted", "superseded", "offline", "timeout", "lost", "expired", "invalid", "unavailable",
]  # fmt: skip
FRONT_DOOR = {
    "button.front_door_open": ("Front door Open", None, None, "mdi:door-open"),
    "button.front_door_reboot": ("Front door Reboot", "config", "restart", None),
    "button.front_door_sync_persons": ("Front door Sync persons", "config", None, "mdi:account-sync"),
    "binary_sensor.front_door_connection": ("Front door Connection", "diagnostic", "connectivity", None),
    "sensor.front_door_persons": ("Front door Persons", "diagnostic", None, "mdi:account-group"),
    "sensor.front_door_pending_changes": ("Front door Pending changes", "diagnostic", None, "mdi:account-clock"),
    "sensor.front_door_refused_changes": ("Front door Refused changes", "diagnostic", None, "mdi:account-cancel"),
    "sensor.front_door_last_seen": ("Front door Last seen", "diagnostic", "timestamp", None),
    "event.front_door_reply": ("Front door Reply", None, None, "mdi:message-reply-text"),
}
BRIDGE = {
    "binary_sensor.facebridge_connection": ("Facebridge Connection", "diagnostic", "connectivity", None),
    "sensor.facebridge_terminals_online": ("Facebridge Terminals online", "diagnostic", None, "mdi:door-closed"),
    "sensor.facebridge_pending_terminals": ("Facebridge Pending terminals", "diagnostic", None, "mdi:account-clock"),
}


async def test_devices_and_entities(make_system: SystemFactory, record_property: Callable[[str, object], None]) -> None:
    known = {"FEDCBA9876543210": {"name": "Front door", "area": "Lobby"}, "E2": {}}
    web = {"url": "https://doors.example:8099"}
    async with make_system(known, web=web) as system, system.terminal("FEDCBA9876543210").running():
        await system.wait_devices("Facebridge", "Front door", "Terminal E2")
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await system.api.wait_state("sensor.facebridge_terminals_online", "1")
        await system.api.wait_state("button.front_door_open", "unknown")
        devices = await system.api.devices()
        areas = await system.api.areas()
        bridge, front_door = devices["facebridge"], devices["facebridge_FEDCBA9876543210"]
        assert (bridge["name"], bridge["manufacturer"], bridge["model"]) == ("Facebridge", "Facebridge", "Bridge")
        assert bridge["sw_version"]
        assert bridge["via_device_id"] is None
        assert front_door["serial_number"] == "FEDCBA9876543210"
        assert front_door["model"] == "Face recognition terminal"
        assert areas[front_door["area_id"]] == "Lobby"
        assert devices["facebridge_E2"]["area_id"] is None
        for device in devices.values():
            assert device["configuration_url"] == "https://doors.example:8099"
        for terminal in (front_door, devices["facebridge_E2"]):
            assert terminal["via_device_id"] == bridge["id"]

        entities, states = await system.api.entities(), await system.api.states()
        shown = {
            entity_id: (
                states[entity_id]["attributes"]["friendly_name"],
                entity["entity_category"],
                states[entity_id]["attributes"].get("device_class"),
                states[entity_id]["attributes"].get("icon"),
            )
            for entity_id, entity in entities.items()
        }
        second = {
            entity_id.replace("front_door", "terminal_e2"): (name.replace("Front door", "Terminal E2"), *others)
            for entity_id, (name, *others) in FRONT_DOOR.items()
        }
        assert shown == {**FRONT_DOOR, **BRIDGE, **second}
        assert all(entity["disabled_by"] is None and entity["hidden_by"] is None for entity in entities.values())
        assert states["event.front_door_reply"]["attributes"]["event_types"] == OUTCOMES
        numbers = [entity_id for entity_id in shown if entity_id.startswith("sensor.") and "last_seen" not in entity_id]
        assert {states[entity_id]["attributes"]["state_class"] for entity_id in numbers} == {"measurement"}
        assert {entity_id: states[entity_id]["state"] for entity_id in second if "button" in entity_id} == {
            entity_id: "unavailable" for entity_id in second if "button" in entity_id
        }
        assert states["binary_sensor.terminal_e2_connection"]["state"] == "off"
        record_property("counts", table_of(shown, states))


def table_of(shown: dict[str, Any], states: Any) -> str:
    """Return a text with a line for each entity."""
    lines = [
        f"  {entity_id} = {states[entity_id]['state']}, {name}, {category or '-'}, {device_class or '-'}, {icon or '-'}"
        for entity_id, (name, category, device_class, icon) in sorted(shown.items())
    ]
    return "as Home Assistant lists them (state, name, category, device class, icon):\n" + "\n".join(lines)


async def test_press_opens_once_and_the_reply_is_shown(make_system: SystemFactory) -> None:
    async with make_system({"P1": {"name": "Gate"}}) as system, system.terminal("P1").running() as terminal:
        await system.api.wait_state("button.gate_open", "unknown")
        await system.api.press("button.gate_open")
        await system.wait_reply("event.gate_reply", command="open", event_type="ok")
        assert terminal.opened == 1
        pressed = (await system.api.states())["button.gate_open"]["state"]
        assert pressed.startswith("20"), "the time of the press"

        terminal.behaviour = Behaviour(refusal=Refusal(7, "the lock is stuck"))
        await system.api.press("button.gate_open")
        attributes = await system.wait_reply("event.gate_reply", command="open", event_type="refused")
        assert (attributes["status"], attributes["message"], attributes["delivered"]) == (7, "the lock is stuck", True)
        assert terminal.opened == 1

        terminal.behaviour = Behaviour()
        await system.api.press("button.gate_reboot")
        await system.wait_reply("event.gate_reply", command="reboot", event_type="ok")
        assert (terminal.opened, terminal.rebooted) == (1, 1)


async def test_terminal_that_disconnects(make_system: SystemFactory) -> None:
    # Home Assistant logs this warning when a button of an offline terminal is pressed.
    expected = ("Referenced entities button.cellar_open are missing or not currently available",)
    async with make_system({"A1": {"name": "Cellar"}}, expected=expected) as system:
        terminal = system.terminal("A1")
        async with terminal.running():
            await system.api.wait_state("button.cellar_open", "unknown")
            await system.api.wait_state("binary_sensor.cellar_connection", "on")
        for button in ("open", "reboot", "sync_persons"):
            await system.api.wait_state(f"button.cellar_{button}", "unavailable")
        await system.api.wait_state("binary_sensor.cellar_connection", "off")
        states = await system.api.states()
        assert states["event.cellar_reply"]["state"] == "unknown"
        assert states["sensor.cellar_persons"]["state"] == "0"
        last_seen = states["sensor.cellar_last_seen"]["state"]
        assert last_seen.startswith("20")

        await system.api.press("button.cellar_open")
        # A press that does not come from Home Assistant is answered `offline`.
        await system.client.publish("facebridge/terminal/A1/open/set", "PRESS", qos=0)
        await system.wait_reply("event.cellar_reply", command="open", event_type="offline")
        async with terminal.running():
            await system.api.wait_state("button.cellar_open", "unknown")
            await system.api.press("button.cellar_reboot")
            await system.wait_reply("event.cellar_reply", command="reboot", event_type="ok")
            assert terminal.opened == 0
            assert (await system.api.states())["sensor.cellar_last_seen"]["state"] >= last_seen


async def test_persons_are_counted(make_system: SystemFactory) -> None:
    async with make_system({"C1": {"name": "Office"}}) as system:
        persons = [{"id": str(number), "name": f"Person {number}", "photo": PHOTO} for number in range(1, 4)]
        await system.api.wait_state("sensor.office_persons", "0")
        assert (await system.api.states())["sensor.office_last_seen"]["state"] == "unknown"
        await system.client.publish("facebridge/terminal/C1/person/set", persons)
        await system.api.wait_state("sensor.office_pending_changes", "3")
        await system.wait_reply("event.office_reply", command="setPerson", event_type="accepted")
        terminal = system.terminal("C1")
        terminal.behaviour = Behaviour(refusal=Refusal(3, "no face"), only_for=frozenset({"2"}))
        async with terminal.running():
            await system.api.wait_state("sensor.office_persons", "2")
            await system.api.wait_state("sensor.office_pending_changes", "0")
            await system.api.wait_state("sensor.office_refused_changes", "1")
            terminal.behaviour = Behaviour()
            await system.api.press("button.office_sync_persons")
            await system.api.wait_state("sensor.office_persons", "3")
            await system.api.wait_state("sensor.office_refused_changes", "0")
            await system.wait_reply("event.office_reply", command="syncPersons", event_type="ok")
            assert set(terminal.persons) == {"1", "2", "3"}
