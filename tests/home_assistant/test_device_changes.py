"""Devices in Home Assistant when terminals are approved, renamed and forgotten; unusual names; other languages."""

import pytest

from tests.home_assistant.home_assistant_system import SystemFactory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

COMPONENTS = {
    "open", "reboot", "sync_persons", "connection", "persons", "pending_changes", "refused_changes", "last_seen",
    "reply",
}  # fmt: skip


async def test_terminal_is_approved_renamed_and_forgotten(make_system: SystemFactory) -> None:
    async with make_system({}) as system, system.terminal("N1").running() as terminal:
        await system.wait_devices("Facebridge")
        pending = await system.api.wait_state("sensor.facebridge_pending_terminals", "1")
        assert pending["attributes"]["terminals"] == [{"sn": "N1", "address": "127.0.0.1"}]
        await system.admit("N1", name="Gate", area="Yard")
        await system.wait_devices("Facebridge", "Gate")
        await system.api.wait_state("button.gate_open", "unknown")
        await system.api.wait_state("sensor.facebridge_pending_terminals", "0")
        device = (await system.api.devices())["facebridge_N1"]
        assert (await system.api.areas())[device["area_id"]] == "Yard"
        before = await system.entity_ids("N1")
        assert set(before) == COMPONENTS

        await system.admit("N1", name="Main gate")
        await system.wait_devices("Facebridge", "Main gate")
        assert await system.entity_ids("N1") == before, "automations keep working"
        states = await system.api.states()
        assert states["button.gate_open"]["attributes"]["friendly_name"] == "Main gate Open"
        assert states["event.gate_reply"]["attributes"]["friendly_name"] == "Main gate Reply"
        assert (await system.api.devices())["facebridge_N1"]["id"] == device["id"]
        await system.api.press("button.gate_open")
        await system.wait_reply("event.gate_reply", command="open", event_type="ok")

        await system.client.publish("facebridge/bridge/forget/set", {"sn": "N1"})
        await system.wait_devices("Facebridge")
        assert await system.entity_ids("N1") == {}
        await system.api.wait_state("sensor.facebridge_terminals_online", "0")
        await system.restart_home_assistant()
        await system.wait_devices("Facebridge")
        await system.api.wait_state("binary_sensor.facebridge_connection", "on")
        assert await system.entity_ids("N1") == {}

        await system.admit("N1", name="Side gate")
        await system.wait_devices("Facebridge", "Side gate")
        await system.api.wait_state("binary_sensor.side_gate_connection", "on")
        assert terminal.opened == 1


async def test_names_given_by_the_user_stay(make_system: SystemFactory) -> None:
    async with make_system({}) as system, system.terminal("U1").running() as terminal:
        await system.admit("U1", name="Gate", area="Yard")
        await system.wait_devices("Facebridge", "Gate")
        await system.api.wait_state("button.gate_open", "unknown")
        device_id = (await system.api.devices())["facebridge_U1"]["id"]
        await system.api.call("config/device_registry/update", device_id=device_id, name_by_user="Mine", area_id=None)
        await system.api.call(
            "config/entity_registry/update", entity_id="button.gate_open", new_entity_id="button.mine", name="Sesame"
        )
        await system.api.wait_state("button.mine", "unknown")
        await system.admit("U1", name="Other gate", area="Hall")
        await system.wait_devices("Facebridge", "Other gate")
        await system.restart_home_assistant()
        state = await system.api.wait_state("button.mine", "unknown")
        assert "Sesame" in state["attributes"]["friendly_name"]
        device = (await system.api.devices())["facebridge_U1"]
        assert (device["name_by_user"], device["area_id"]) == ("Mine", None)
        assert set(await system.entity_ids("U1")) == COMPONENTS
        await system.api.press("button.mine")
        await terminal.wait_until(lambda: terminal.opened == 1)


async def test_two_terminals_with_the_same_name(make_system: SystemFactory) -> None:
    known = {"S1": {"name": "Lift"}, "S2": {"name": "Lift"}}
    async with (
        make_system(known) as system,
        system.terminal("S1").running() as first,
        system.terminal("S2").running() as second,
    ):
        await system.wait_devices("Facebridge", "Lift", "Lift")
        await system.api.wait_state("button.lift_open", "unknown")
        await system.api.wait_state("button.lift_s2_open", "unknown")
        before = await system.entity_ids("S1"), await system.entity_ids("S2")
        assert before[0]["open"] == "button.lift_open"
        await system.api.press("button.lift_s2_open")
        await system.wait_reply("event.lift_s2_reply", command="open", event_type="ok")
        await system.restart_home_assistant()
        await system.api.wait_state("event.lift_reply", "unknown")
        assert (await system.entity_ids("S1"), await system.entity_ids("S2")) == before
        assert (first.opened, second.opened) == (0, 1)


NAMES = {
    "quoted": "Bob's \"door\" \\ 's",
    "template": "{{ 1/0 }} {% if %} {# #}",
    "html": "<b>Front</b> & <script>alert(1)</script>",
    "Chinese": "北门 (一楼)",
    "umlauts": "Tür Süd – Größe",
    "emoji": "🚪 Door",
    "arabic": "الباب الأمامي",
    "digits": "12",
    "signs": "#+/$ ~ !",
    "spaces": "  Gate   7 ",
    "long": "long " * 25,
    "as-a-component": "Open",
    "as-the-bridge": "Facebridge",
    "dots": "a.b..c",
}


async def test_unusual_names(make_system: SystemFactory) -> None:
    sns = {what: f"odd-{number}_{what}" for number, what in enumerate(NAMES)}
    configured = {
        "longest-1": {"name": "Loading bay " * 80},
        "x" * 64: {"name": "Loading bay " * 80, "area": "A" * 1024},
    }
    async with make_system(configured) as system:
        for what, name in NAMES.items():
            await system.admit(sns[what], name=name, area=name)

        async def all_exist() -> bool:
            return len(await system.api.devices()) == 1 + len(NAMES) + len(configured)

        await system.api.wait_until(all_exist, "all devices exist")
        devices, areas = await system.api.devices(), await system.api.areas()
        for what, name in NAMES.items():
            device = devices[f"facebridge_{sns[what]}"]
            assert device["name"].strip() == name.strip(), what
            assert device["via_device_id"] == devices["facebridge"]["id"]
            assert areas[device["area_id"]].strip() == name.strip(), what
        for sn in [*sns.values(), *configured]:

            async def complete(sn: str = sn) -> bool:
                return set(await system.entity_ids(sn)) == COMPONENTS

            await system.api.wait_until(complete, f"{sn} has its entities")
        everything = await system.api.entities()
        assert not [entity_id for entity_id in everything if len(entity_id) > 255]
        async with system.terminal(sns["template"]).running() as terminal:
            open_button = (await system.entity_ids(sns["template"]))["open"]
            await system.api.wait_state(open_button, "unknown")
            await system.api.press(open_button)
            await terminal.wait_until(lambda: terminal.opened == 1)


@pytest.mark.parametrize("language", ["zh-Hans", "de"])
async def test_other_language(make_system: SystemFactory, language: str) -> None:
    known = {f"L-{language}": {"name": f"Tür {language}"}}
    slug = f"tur_{language.lower().replace('-', '_')}"
    # Home Assistant warns about translations of its own platforms.
    expected = ("[homeassistant.helpers.translation] Failed to load integration for translation",)
    async with (
        make_system(known, expected=expected) as system,
        system.terminal(f"L-{language}").running() as terminal,
    ):
        await system.api.wait_state(f"button.{slug}_open", "unknown")
        await system.api.set_language(language)
        try:
            await system.restart_home_assistant()
            await system.api.wait_state(f"button.{slug}_open", "unknown")
            await system.admit(f"M-{language}", name="侧门", area="大厅")
            await system.wait_devices("Facebridge", f"Tür {language}", "侧门")
            await system.api.wait_state(f"binary_sensor.terminal_{slug.replace('tur', 'm')}_connection", "off")
            await system.api.press(f"button.{slug}_open")
            await system.wait_reply(f"event.{slug}_reply", command="open", event_type="ok")
            assert terminal.opened == 1
            assert set(await system.entity_ids(f"L-{language}")) == COMPONENTS
        finally:
            await system.api.set_language("en")
