"""Topics: building and reading them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.commands import COMMANDS, OPEN
from bridge.mqtt.topics import Scope, Topics

TOPICS = Topics("facebridge")


def test_the_topics_are_the_documented_ones() -> None:
    assert TOPICS.bridge_availability == "facebridge/bridge/availability"
    assert TOPICS.bridge_info == "facebridge/bridge/info"
    assert TOPICS.bridge_heartbeat == "facebridge/bridge/heartbeat"
    assert TOPICS.bridge_event == "facebridge/bridge/event"
    assert TOPICS.bridge_reply == "facebridge/bridge/reply"
    assert TOPICS.terminal_availability("T1") == "facebridge/terminal/T1/availability"
    assert TOPICS.terminal_state("T1") == "facebridge/terminal/T1/state"
    assert TOPICS.terminal_reply("T1") == "facebridge/terminal/T1/reply"
    assert TOPICS.group_reply("lobby") == "facebridge/group/lobby/reply"


def test_the_live_connection_subscribes_to_presses_only() -> None:
    assert set(TOPICS.urgent_commands) == {
        "facebridge/terminal/+/open/set",
        "facebridge/terminal/+/reboot/set",
        "facebridge/group/+/open/set",
        "facebridge/group/+/reboot/set",
    }


def test_the_intake_connection_subscribes_to_all_other_commands() -> None:
    assert set(TOPICS.lasting_commands) == {
        "facebridge/terminal/+/person/set",
        "facebridge/terminal/+/person/remove",
        "facebridge/terminal/+/person/get",
        "facebridge/terminal/+/person/sync",
        "facebridge/group/+/person/set",
        "facebridge/group/+/person/remove",
        "facebridge/group/+/person/sync",
        "facebridge/bridge/admit/set",
        "facebridge/bridge/forget/set",
    }


@pytest.mark.parametrize("base", ["facebridge", "house/1/facebridge", "Ü", "terminal"])
def test_every_command_topic_is_parsed(base: str) -> None:
    topics = Topics(base)
    for definition in COMMANDS:
        for scope, applies in (
            (Scope.TERMINAL, definition.for_terminal),
            (Scope.GROUP, definition.for_group),
            (Scope.BRIDGE, definition.for_bridge),
        ):
            address = topics.parse(topics.command(scope, "T1", definition))
            if not applies:
                assert address is None
                continue
            assert address is not None
            assert (address.scope, address.definition) == (scope, definition)
            assert address.name == ("" if scope is Scope.BRIDGE else "T1")
            assert address.is_well_formed


@pytest.mark.parametrize(
    "topic",
    [
        "facebridge",
        "facebridge/",
        "facebridge/terminal/T1/open",
        "facebridge/terminal/T1/open/set/",
        "facebridge/terminal/T1/x/open/set",
        "facebridge/terminal/open/set",
        "facebridge/bridge/open/set",
        "facebridge/group/lobby/person/get",
        "facebridge/terminal/T1/admit/set",
        "Facebridge/terminal/T1/open/set",
        "/facebridge/terminal/T1/open/set",
        "facebridge2/terminal/T1/open/set",
        "facebridge/TERMINAL/T1/open/set",
    ],
)
def test_other_topics_are_not_commands(topic: str) -> None:
    assert TOPICS.parse(topic) is None


@pytest.mark.parametrize("name", ["", "ä", "x" * 65, "a b", "..", "%2F", "+", "#", "a.b", "$SYS"])
@pytest.mark.parametrize("scope", [Scope.TERMINAL, Scope.GROUP])
def test_ill_formed_names_are_recognised(scope: Scope, name: str) -> None:
    address = TOPICS.parse(f"facebridge/{scope.value}/{name}/open/set")
    assert address is not None
    assert address.name == name
    assert not address.is_well_formed


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_name_is_ill_formed_or_gives_its_topic_back(name: str) -> None:
    address = TOPICS.parse(f"facebridge/terminal/{name}/open/set")
    if address is not None and address.is_well_formed:
        assert TOPICS.command(Scope.TERMINAL, address.name, OPEN) == f"facebridge/terminal/{name}/open/set"
