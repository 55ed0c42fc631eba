"""What Home Assistant shows when terminals come, are renamed and go, under any name, and in other languages."""

import pytest

from tests.home_assistant.scene import SceneMaker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

COMPONENTS = {
    "open", "reboot", "sync_persons", "connection", "persons", "pending_changes", "refused_changes", "last_seen",
    "reply",
}  # fmt: skip


async def test_a_terminal_is_approved_renamed_and_forgotten(bridge_with: SceneMaker) -> None:
    async with bridge_with({}) as scene, scene.terminal("N1").running() as terminal:
        await scene.until_known("Facebridge")
        pending = await scene.api.until_state("sensor.facebridge_pending_terminals", "1")
        assert pending["attributes"]["terminals"] == [{"sn": "N1", "address": "127.0.0.1"}]
        await scene.admit("N1", name="Gate", area="Yard")
        await scene.until_known("Facebridge", "Gate")
        await scene.api.until_state("button.gate_open", "unknown")
        await scene.api.until_state("sensor.facebridge_pending_terminals", "0")
        device = (await scene.api.devices())["facebridge_N1"]
        assert (await scene.api.areas())[device["area_id"]] == "Yard"
        before = await scene.entity_ids("N1")
        assert set(before) == COMPONENTS

        await scene.admit("N1", name="Main gate")
        await scene.until_known("Facebridge", "Main gate")
        assert await scene.entity_ids("N1") == before, "automations go on"
        states = await scene.api.states()
        assert states["button.gate_open"]["attributes"]["friendly_name"] == "Main gate Open"
        assert states["event.gate_reply"]["attributes"]["friendly_name"] == "Main gate Reply"
        assert (await scene.api.devices())["facebridge_N1"]["id"] == device["id"]
        await scene.api.press("button.gate_open")
        await scene.until_told("event.gate_reply", command="open", event_type="ok")

        await scene.client.publish("facebridge/bridge/forget/set", {"sn": "N1"})
        await scene.until_known("Facebridge")
        assert await scene.entity_ids("N1") == {}
        await scene.api.until_state("sensor.facebridge_terminals_online", "0")
        await scene.restart_home_assistant()
        await scene.until_known("Facebridge")
        await scene.api.until_state("binary_sensor.facebridge_connection", "on")
        assert await scene.entity_ids("N1") == {}

        await scene.admit("N1", name="Side gate")
        await scene.until_known("Facebridge", "Side gate")
        await scene.api.until_state("binary_sensor.side_gate_connection", "on")
        assert terminal.opened == 1


async def test_what_its_user_renames_stays(bridge_with: SceneMaker) -> None:
    async with bridge_with({}) as scene, scene.terminal("U1").running() as terminal:
        await scene.admit("U1", name="Gate", area="Yard")
        await scene.until_known("Facebridge", "Gate")
        await scene.api.until_state("button.gate_open", "unknown")
        device_id = (await scene.api.devices())["facebridge_U1"]["id"]
        await scene.api.call("config/device_registry/update", device_id=device_id, name_by_user="Mine", area_id=None)
        await scene.api.call(
            "config/entity_registry/update", entity_id="button.gate_open", new_entity_id="button.mine", name="Sesame"
        )
        await scene.api.until_state("button.mine", "unknown")
        await scene.admit("U1", name="Other gate", area="Hall")
        await scene.until_known("Facebridge", "Other gate")
        await scene.restart_home_assistant()
        state = await scene.api.until_state("button.mine", "unknown")
        assert "Sesame" in state["attributes"]["friendly_name"]
        device = (await scene.api.devices())["facebridge_U1"]
        assert (device["name_by_user"], device["area_id"]) == ("Mine", None)
        assert set(await scene.entity_ids("U1")) == COMPONENTS
        await scene.api.press("button.mine")
        await terminal.wait_until(lambda: terminal.opened == 1)


async def test_two_terminals_of_one_name(bridge_with: SceneMaker) -> None:
    known = {"S1": {"name": "Lift"}, "S2": {"name": "Lift"}}
    async with (
        bridge_with(known) as scene,
        scene.terminal("S1").running() as first,
        scene.terminal("S2").running() as second,
    ):
        await scene.until_known("Facebridge", "Lift", "Lift")
        await scene.api.until_state("button.lift_open", "unknown")
        await scene.api.until_state("button.lift_s2_open", "unknown")
        before = await scene.entity_ids("S1"), await scene.entity_ids("S2")
        assert before[0]["open"] == "button.lift_open"
        await scene.api.press("button.lift_s2_open")
        await scene.until_told("event.lift_s2_reply", command="open", event_type="ok")
        await scene.restart_home_assistant()
        await scene.api.until_state("event.lift_reply", "unknown")
        assert (await scene.entity_ids("S1"), await scene.entity_ids("S2")) == before
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


async def test_odd_names(bridge_with: SceneMaker) -> None:
    sns = {what: f"odd-{number}_{what}" for number, what in enumerate(NAMES)}
    configured = {
        "longest-1": {"name": "Loading bay " * 80},
        "x" * 64: {"name": "Loading bay " * 80, "area": "A" * 1024},
    }
    async with bridge_with(configured) as scene:
        for what, name in NAMES.items():
            await scene.admit(sns[what], name=name, area=name)

        async def all_known() -> bool:
            return len(await scene.api.devices()) == 1 + len(NAMES) + len(configured)

        await scene.api.until(all_known, "all are known")
        devices, areas = await scene.api.devices(), await scene.api.areas()
        for what, name in NAMES.items():
            device = devices[f"facebridge_{sns[what]}"]
            assert device["name"].strip() == name.strip(), what
            assert device["via_device_id"] == devices["facebridge"]["id"]
            assert areas[device["area_id"]].strip() == name.strip(), what
        for sn in [*sns.values(), *configured]:

            async def complete(sn: str = sn) -> bool:
                return set(await scene.entity_ids(sn)) == COMPONENTS

            await scene.api.until(complete, f"{sn} has its entities")
        everything = await scene.api.entities()
        assert not [entity_id for entity_id in everything if len(entity_id) > 255]
        async with scene.terminal(sns["template"]).running() as terminal:
            open_button = (await scene.entity_ids(sns["template"]))["open"]
            await scene.api.until_state(open_button, "unknown")
            await scene.api.press(open_button)
            await terminal.wait_until(lambda: terminal.opened == 1)


@pytest.mark.parametrize("language", ["zh-Hans", "de"])
async def test_another_language(bridge_with: SceneMaker, language: str) -> None:
    known = {f"L-{language}": {"name": f"Tür {language}"}}
    slug = f"tur_{language.lower().replace('-', '_')}"
    # It looks for translations of its own platforms, whoever's they are.
    expected = ("[homeassistant.helpers.translation] Failed to load integration for translation",)
    async with (
        bridge_with(known, expected=expected) as scene,
        scene.terminal(f"L-{language}").running() as terminal,
    ):
        await scene.api.until_state(f"button.{slug}_open", "unknown")
        await scene.api.set_language(language)
        try:
            await scene.restart_home_assistant()
            await scene.api.until_state(f"button.{slug}_open", "unknown")
            await scene.admit(f"M-{language}", name="侧门", area="大厅")
            await scene.until_known("Facebridge", f"Tür {language}", "侧门")
            await scene.api.until_state(f"binary_sensor.terminal_{slug.replace('tur', 'm')}_connection", "off")
            await scene.api.press(f"button.{slug}_open")
            await scene.until_told(f"event.{slug}_reply", command="open", event_type="ok")
            assert terminal.opened == 1
            assert set(await scene.entity_ids(f"L-{language}")) == COMPONENTS
        finally:
            await scene.api.set_language("en")
