"""The payloads of Home Assistant's device discovery, and ids that stay the same."""

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.model.reply import Outcome
from bridge.mqtt.discovery.devices import Installation, bridge_device, terminal_device
from bridge.mqtt.discovery.names import EntityNames, node_of, slugify
from bridge.mqtt.discovery.terminal_payloads import TerminalPayloads
from bridge.mqtt.topics import Topics
from tests.support.core import known_terminal

INSTALLATION = Installation(topics=Topics("facebridge"), node="facebridge", version="1.2.3", page_url="http://b:8099")
BRIDGE = "facebridge/bridge/availability"


def front_door(**details: object) -> dict[str, Any]:
    terminal = known_terminal("FEDCBA9876543210", **{"name": "Front door", "area": "Lobby", **details})
    return terminal_device(INSTALLATION, terminal, "front_door")


def test_a_terminal_is_a_device_behind_the_bridge() -> None:
    payload = front_door()
    assert payload["dev"] == {
        "identifiers": "facebridge_FEDCBA9876543210",
        "name": "Front door",
        "model": "Face recognition terminal",
        "serial_number": "FEDCBA9876543210",
        "suggested_area": "Lobby",
        "via_device": "facebridge",
        "configuration_url": "http://b:8099",
    }
    assert payload["o"] == {"name": "Facebridge", "sw_version": "1.2.3"}


def test_unknown_details_are_left_out() -> None:
    installation = Installation(topics=Topics("facebridge"), node="facebridge", version="1", page_url=None)
    device = terminal_device(installation, known_terminal("T1"), "terminal_t1")["dev"]
    assert device["name"] == "Terminal T1"
    assert "suggested_area" not in device
    assert "configuration_url" not in device


def test_a_terminal_has_the_documented_entities() -> None:
    components = front_door()["cmps"]
    assert {component["default_entity_id"]: component["name"] for component in components.values()} == {
        "button.front_door_open": "Open",
        "button.front_door_reboot": "Reboot",
        "button.front_door_sync_persons": "Sync persons",
        "binary_sensor.front_door_connection": "Connection",
        "sensor.front_door_persons": "Persons",
        "sensor.front_door_pending_changes": "Pending changes",
        "sensor.front_door_refused_changes": "Refused changes",
        "sensor.front_door_last_seen": "Last seen",
        "event.front_door_reply": "Reply",
    }
    assert components["reboot"]["device_class"] == "restart"
    assert components["connection"]["device_class"] == "connectivity"
    assert components["last_seen"]["device_class"] == "timestamp"
    assert components["reply"]["event_types"] == [outcome.value for outcome in Outcome]
    assert "'event_type': value_json.outcome" in components["reply"]["value_template"]


def test_buttons_publish_on_the_command_topics_and_presses_with_qos_0() -> None:
    components = front_door()["cmps"]
    pressed = {
        component["command_topic"]: (component["payload_press"], component["qos"], component["retain"])
        for component in components.values()
        if component["p"] == "button"
    }
    assert pressed == {
        "facebridge/terminal/FEDCBA9876543210/open/set": ("PRESS", 0, False),
        "facebridge/terminal/FEDCBA9876543210/reboot/set": ("PRESS", 0, False),
        "facebridge/terminal/FEDCBA9876543210/person/sync": ("PRESS", 1, False),
    }


def test_buttons_send_the_time_unless_it_is_turned_off() -> None:
    def templates(installation: Installation) -> set[str | None]:
        components = terminal_device(installation, known_terminal("T1"), "t1")["cmps"].values()
        return {component.get("command_template") for component in components if component["p"] == "button"}

    assert templates(INSTALLATION) == {"{{ {'asked_at': now().timestamp()} | tojson }}"}
    assert templates(replace(INSTALLATION, send_time=False)) == {None}


def test_buttons_need_bridge_and_terminal_and_sensors_need_the_bridge() -> None:
    payload = front_door()
    assert payload["availability_mode"] == "all"
    both = [{"topic": BRIDGE}, {"topic": "facebridge/terminal/FEDCBA9876543210/availability"}]
    assert payload["availability"] == both
    for component in payload["cmps"].values():
        if component["p"] == "button":
            assert "availability" not in component
        else:
            assert component["availability"] == [{"topic": BRIDGE}]


def test_the_bridge_shows_off_while_it_is_offline() -> None:
    payload = bridge_device(INSTALLATION)
    assert payload["dev"]["identifiers"] == "facebridge"
    assert "via_device" not in payload["dev"]
    assert "availability" not in payload
    connection = payload["cmps"]["connection"]
    assert "availability" not in connection
    assert (connection["state_topic"], connection["payload_on"], connection["payload_off"]) == (
        BRIDGE,
        "online",
        "offline",
    )
    assert {component["name"] for component in payload["cmps"].values()} == {
        "Connection",
        "Terminals online",
        "Pending terminals",
    }
    assert payload["cmps"]["pending_terminals"]["json_attributes_topic"] == "facebridge/bridge/info"


def test_ids_do_not_change_with_the_name() -> None:
    def ids(payload: dict[str, Any]) -> list[str]:
        return [component["unique_id"] for component in payload["cmps"].values()]

    assert ids(front_door()) == ids(front_door(name="Back door"))
    everything = ids(front_door()) + ids(bridge_device(INSTALLATION))
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Front door", "front_door"),
        ("  Tür -- Süd (2) ", "tur_sud_2"),
        ("Große Straße", "grosse_strasse"),
        ("Łódź Ø", "lodz_o"),
        ("Bob's door", "bobs_door"),
        ("北门", ""),
        ("北门 2", ""),
        ("!!!", ""),
        ("1234567 " * 20 + "b", ""),
    ],
)
def test_slugs_of_names_equal_those_of_home_assistant(name: str, slug: str) -> None:
    assert slugify(name) == slug


@given(st.text(max_size=40))
def test_a_slug_is_valid_in_an_entity_id(name: str) -> None:
    assert re.fullmatch(r"(?:[a-z0-9]+(?:_[a-z0-9]+)*)?", slugify(name))


def test_entity_ids_do_not_exceed_the_limit_of_home_assistant() -> None:
    names = EntityNames()
    for sn in ("X" * 64, "Y" * 64):
        terminal = known_terminal(sn, name="Loading bay " * 80)
        payload = terminal_device(INSTALLATION, terminal, names.name(sn, terminal.title))
        ids = {component["default_entity_id"] for component in payload["cmps"].values()}
        assert len(ids) == len(payload["cmps"])
        assert max(map(len, ids)) <= 255


def test_two_terminals_with_one_name_get_different_entity_ids() -> None:
    names = EntityNames()
    assert names.name("T1", "Gate") == "gate"
    assert names.name("T2", "Gate") == "gate_t2"
    assert names.name("T1", "Gate") == "gate", "the same name again"
    assert names.name("T2", "Gate") == "gate_t2"
    assert names.name("T3", "北门") == "terminal_t3"
    names.forget("T1")
    assert names.name("T4", "Gate") == "gate"


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_bridges_with_different_base_topics_have_different_nodes(one: str, other: str) -> None:
    for base in (one, other):
        assert re.fullmatch(r"[A-Za-z0-9_]+", node_of(base))
    assert (node_of(one) == node_of(other)) == (one == other)


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(
    sn=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    name=st.none() | TEXTS,
    area=st.none() | TEXTS,
    page_url=st.none() | st.just("http://bridge:8080/"),
    send_time=st.booleans(),
)
@example(sn="T1", name='a "quoted" \\ name', area="Küche 1", page_url=None, send_time=True)
def test_a_payload_from_the_template_is_the_encoded_device(
    sn: str, name: str | None, area: str | None, page_url: str | None, send_time: bool
) -> None:
    installation = replace(INSTALLATION, page_url=page_url, send_time=send_time)
    payloads = TerminalPayloads(installation)
    terminal = known_terminal(sn, name=name, area=area)
    entity_name = EntityNames().name(sn, terminal.title)
    payload = payloads.payload(terminal, entity_name)
    assert payload() == orjson.dumps(terminal_device(installation, terminal, entity_name))
    assert payload == payloads.payload(terminal, entity_name), "an unchanged payload is not published again"
    assert payload != payloads.payload(replace(terminal, name="another"), entity_name)
