"""How often a terminal's state is published: a clock that is set, and what should be retained."""

from datetime import timedelta
from typing import Any, cast

import orjson
import pytest

from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.events import CommandReplied, PersonsChanged, TerminalForgotten
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import Reply
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


class Building:
    """One terminal, and what is wanted on a broker that is not there."""

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
def building() -> Building:
    return Building()


async def test_at_start_a_terminal_that_is_not_connected_is_offline(building: Building) -> None:
    await building.states.start()
    assert building.wanted(AVAILABILITY) == b"offline"
    assert building.state == {
        "sn": "T1",
        "name": "Gate",
        "online": False,
        "address": None,
        "connected_at": None,
        "last_seen": None,
        "persons": {"desired": 0, "confirmed": 0, "pending": 0, "refused": 0},
        "last_reply": None,
    }


async def test_availability_follows_the_connection_at_once(building: Building) -> None:
    await building.states.start()
    first = building.connect()
    assert building.wanted(AVAILABILITY) == b"online"
    second = building.connect()
    building.registry.disconnected(first, "late news of the old one")
    assert building.wanted(AVAILABILITY) == b"online"
    building.registry.disconnected(second, "gone")
    assert building.wanted(AVAILABILITY) == b"offline"


async def test_a_state_is_published_at_most_once_a_second_and_the_last_one_comes_through(building: Building) -> None:
    await building.states.start()
    for pending in range(1, 6):
        building.count(pending=pending)
    await building.states.publish_due()
    assert building.state["persons"]["pending"] == 0
    building.clock.seconds += 0.9
    await building.states.publish_due()
    assert building.state["persons"]["pending"] == 0
    building.clock.seconds += 0.1
    await building.states.publish_due()
    assert building.state["persons"]["pending"] == 5
    building.clock.seconds += 5
    building.count(pending=7)
    assert building.state["persons"]["pending"] == 7, "after a quiet second at once"


async def test_where_only_last_seen_moved_a_minute_passes(building: Building) -> None:
    connection = building.connect()
    before = building.state["last_seen"]
    connection.last_seen += timedelta(seconds=5)
    building.clock.seconds += 5
    building.count()
    await building.states.publish_due()
    assert building.state["last_seen"] == before
    building.clock.seconds += 54.9
    await building.states.publish_due()
    assert building.state["last_seen"] == before
    building.clock.seconds += 0.1
    await building.states.publish_due()
    assert building.state["last_seen"] == "2026-11-24T08:00:05.000+00:00"


async def test_the_last_reply_is_part_of_the_state(building: Building) -> None:
    await building.states.start()
    building.clock.seconds += 2
    reply = Reply(command="open", outcome=Outcome.OK, at=building.clock.now(), sn="T1", request_id="r")
    building.events.publish(CommandReplied(at=reply.at, reply=reply, origin=Origin(source="test")))
    assert building.state["last_reply"]["request_id"] == "r"


async def test_a_forgotten_terminal_is_cleared_and_stays_so(building: Building) -> None:
    await building.states.start()
    building.count(pending=1)
    building.registry.remove("T1")
    building.events.publish(TerminalForgotten(at=building.clock.now(), sn="T1"))
    building.clock.seconds += 120
    await building.states.publish_due()
    building.count(pending=2)
    assert (building.wanted(STATE), building.wanted(AVAILABILITY)) == (b"", b"")


async def test_once_stopped_every_terminal_is_offline_whatever_happens(building: Building) -> None:
    await building.states.start()
    building.connect()
    building.states.stop()
    building.connect()
    assert building.wanted(AVAILABILITY) == b"offline"


async def test_the_bridge_sums_up_its_terminals(building: Building) -> None:
    building.registry.put(known_terminal("T2"))
    building.connect()
    building.count(desired=3, confirmed=1, pending=1, refused=1)
    await building.core.admission.may_connect("T9", "192.0.2.9")
    info = BridgeInfo(
        Topics("facebridge"), building.retained, building.core, "1.2.3", "5", lambda: ["the broker is embedded"]
    )
    info.publish()
    assert orjson.loads(building.wanted("facebridge/bridge/info")) == {
        "version": "1.2.3",
        "started_at": "2026-11-24T08:00:00.000+00:00",
        "protocol": "5",
        "terminals": {"known": 2, "online": 1, "pending": 1},
        "persons": {"pending": 1, "refused": 1},
        "warnings": ["the broker is embedded"],
        "pending": [{"sn": "T9", "address": "192.0.2.9"}],
    }
