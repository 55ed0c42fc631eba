"""Availability and state of terminals: what is published, and how often."""

from datetime import timedelta
from itertools import pairwise
from typing import Any, cast

import orjson
import pytest

from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.events import CommandReplied, PersonsChanged, TerminalForgotten
from bridge.model.faults import Fault
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts
from bridge.mqtt.bridge_info import BridgeInfo
from bridge.mqtt.client.connection import MqttConnection
from bridge.mqtt.retained import RetainedTopics
from bridge.mqtt.terminal_states import TerminalStates
from bridge.mqtt.topics import Topics
from tests.support.core import ManualClock, RecordingConnection, known_terminal
from tests.support.mqtt_bridge import InMemoryPersons, core_services
from tests.support.terminals import InMemoryTerminals

STATE = "facebridge/terminal/T1/state"
AVAILABILITY = "facebridge/terminal/T1/availability"


class StateSystem:
    """One terminal, and its retained topics without a broker."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.events = EventBus()
        self.registry = TerminalRegistry(self.events, self.clock)
        self.core = core_services(self.clock, self.events, self.registry, InMemoryTerminals())
        self.retained = RetainedTopics(cast("MqttConnection", None))
        self.states = TerminalStates(
            Topics("facebridge"),
            self.retained,
            self.registry,
            self.core.desired_persons,
            self.events,
            self.clock,
        )
        self.registry.put(known_terminal("T1", name="Gate"))

    def wanted(self, topic: str) -> Any:
        return self.retained.wanted(topic)

    @property
    def state(self) -> Any:
        return orjson.loads(self.wanted(STATE))

    def connect(self) -> RecordingConnection:
        connection = RecordingConnection(self.registry, "T1")
        self.registry.connected(connection)
        return connection

    def count(self, **counts: int) -> None:
        assert isinstance(self.core.desired_persons, InMemoryPersons)
        self.core.desired_persons.counted["T1"] = PersonCounts(**counts)
        self.events.publish(PersonsChanged(at=self.clock.now(), sn="T1"))


@pytest.fixture
def system() -> StateSystem:
    return StateSystem()


async def test_at_start_a_terminal_that_is_not_connected_is_offline(system: StateSystem) -> None:
    await system.states.start()
    assert system.wanted(AVAILABILITY) == b"offline"
    assert system.state == {
        "sn": "T1",
        "name": "Gate",
        "online": False,
        "address": None,
        "connected_at": None,
        "last_seen": None,
        "persons": {"desired": 0, "confirmed": 0, "pending": 0, "refused": 0},
        "last_reply": None,
    }


async def test_availability_follows_the_connection_at_once(system: StateSystem) -> None:
    await system.states.start()
    first = system.connect()
    assert system.wanted(AVAILABILITY) == b"online"
    second = system.connect()
    system.registry.disconnected(first, "its end is reported late")
    assert system.wanted(AVAILABILITY) == b"online"
    system.registry.disconnected(second, "gone")
    assert system.wanted(AVAILABILITY) == b"offline"


async def test_a_state_is_published_at_most_once_a_second_and_the_last_one_always(system: StateSystem) -> None:
    await system.states.start()
    for pending in range(1, 6):
        system.count(pending=pending)
    await system.states.publish_changed()
    assert system.state["persons"]["pending"] == 0
    system.clock.seconds += 0.9
    await system.states.publish_changed()
    assert system.state["persons"]["pending"] == 0
    system.clock.seconds += 0.1
    await system.states.publish_changed()
    assert system.state["persons"]["pending"] == 5
    system.clock.seconds += 5
    system.count(pending=7)
    assert system.state["persons"]["pending"] == 7, "a change after a quiet second is published at once"


async def test_a_change_of_only_last_seen_is_published_once_a_minute(system: StateSystem) -> None:
    connection = system.connect()
    before = system.state["last_seen"]
    connection.last_seen += timedelta(seconds=5)
    system.clock.seconds += 5
    system.count()
    await system.states.publish_changed()
    assert system.state["last_seen"] == before
    system.clock.seconds += 54.9
    system.states.publish_last_seen()
    assert system.state["last_seen"] == before
    system.clock.seconds += 0.1
    system.states.publish_last_seen()
    assert system.state["last_seen"] == "2026-11-24T08:00:05.000+00:00"


async def test_states_that_are_due_together_are_spread(system: StateSystem) -> None:
    sns = [f"S{number}" for number in range(150)]
    for sn in sns:
        system.registry.put(known_terminal(sn))
    await system.states.start()
    connections = []
    for sn in sns:
        connections.append(RecordingConnection(system.registry, sn))
        system.registry.connected(connections[-1])
    system.clock.seconds += 2
    await system.states.publish_changed()
    system.clock.seconds += 60
    for connection in connections:
        connection.last_seen = system.clock.now()
    published = []
    for _ in range(17):
        system.states.publish_last_seen()
        states = (orjson.loads(system.wanted(f"facebridge/terminal/{sn}/state")) for sn in sns)
        published.append(sum(state["last_seen"] == "2026-11-24T08:01:02.000+00:00" for state in states))
        system.clock.seconds += 1
    assert max(later - earlier for earlier, later in pairwise(published)) == 11
    assert published[0] < 150 / 10
    assert published[-1] == 150


async def test_the_last_reply_is_part_of_the_state(system: StateSystem) -> None:
    await system.states.start()
    system.clock.seconds += 2
    reply = Reply(command="open", outcome=Outcome.OK, at=system.clock.now(), sn="T1", request_id="r")
    system.events.publish(CommandReplied(at=reply.at, reply=reply, origin=Origin(source="test")))
    await system.states.publish_changed()
    assert system.state["last_reply"]["request_id"] == "r"


async def test_the_last_reply_in_the_state_names_no_person(system: StateSystem) -> None:
    await system.states.start()
    system.clock.seconds += 2
    reply = Reply(
        command="setPerson",
        outcome=Outcome.INVALID,
        at=system.clock.now(),
        sn="T1",
        person_id="ada",
        message="Ada Lovelace: ...",
        faults=(Fault("name", "Ada Lovelace"),),
    )
    system.events.publish(CommandReplied(at=reply.at, reply=reply, origin=Origin(source="test")))
    await system.states.publish_changed()
    last = system.state["last_reply"]
    assert last["outcome"] == "invalid"
    assert not last.keys() & {"person_id", "message", "errors", "persons"}
    assert "ada" not in str(last).lower()


async def test_the_topics_of_a_forgotten_terminal_stay_cleared(system: StateSystem) -> None:
    await system.states.start()
    system.count(pending=1)
    system.registry.remove("T1")
    system.events.publish(TerminalForgotten(at=system.clock.now(), sn="T1"))
    system.clock.seconds += 120
    await system.states.publish_changed()
    system.count(pending=2)
    assert (system.wanted(STATE), system.wanted(AVAILABILITY)) == (b"", b"")


async def test_after_a_stop_every_terminal_stays_offline(system: StateSystem) -> None:
    await system.states.start()
    system.connect()
    system.states.stop()
    system.connect()
    assert system.wanted(AVAILABILITY) == b"offline"


async def test_the_bridge_publishes_a_summary_of_its_terminals(system: StateSystem) -> None:
    system.registry.put(known_terminal("T2"))
    system.connect()
    system.count(desired=3, confirmed=1, pending=1, refused=1)
    await system.core.admission.may_connect("T9", "192.0.2.9")
    info = BridgeInfo(
        Topics("facebridge"), system.retained, system.core, "1.2.3", "5", lambda: ["the broker is embedded"]
    )
    info.publish()
    assert orjson.loads(system.wanted("facebridge/bridge/info")) == {
        "version": "1.2.3",
        "started_at": "2026-11-24T08:00:00.000+00:00",
        "protocol": "5",
        "terminals": {"known": 2, "online": 1, "pending": 1},
        "persons": {"pending": 1, "refused": 1},
        "warnings": ["the broker is embedded"],
        "pending": [{"sn": "T9", "address": "192.0.2.9"}],
    }
