"""Who becomes known, who waits, who changes and who is forgotten."""

from typing import Literal

import pytest

from bridge.core.admission import MAXIMUM_PENDING, Admission, AdmissionServices
from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import Admit, Forget
from bridge.model.events import PendingChanged, TerminalAdmitted, TerminalForgotten, TerminalPending
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from tests.support.core import ManualClock, RecordingConnection, collect, known_terminal
from tests.support.persons import NoPersons
from tests.support.terminals import InMemoryTerminals

ORIGIN = Origin(source="test")


class MarkingHasher:
    async def hash(self, password: Secret) -> Secret:
        return Secret(f"hashed {password.reveal()}")


class Entrance:
    def __init__(self, admit: Literal["known", "any"] = "known") -> None:
        self.events = EventBus()
        self.clock = ManualClock()
        self.registry = TerminalRegistry(self.events, self.clock)
        self.store = InMemoryTerminals()
        self.persons = NoPersons()
        self.admission = Admission(
            self.registry,
            self.events,
            self.clock,
            AdmissionServices(terminals=self.store, persons=self.persons, hasher=MarkingHasher()),
            admit,
        )


@pytest.fixture
def entrance() -> Entrance:
    return Entrance()


async def test_the_configuration_wins_over_the_store(entrance: Entrance) -> None:
    entrance.store.terminals["T1"] = Terminal(sn="T1", origin=TerminalOrigin.APPROVED, name="stored")
    entrance.store.terminals["T2"] = Terminal(sn="T2", origin=TerminalOrigin.APPROVED, name="stored")
    await entrance.admission.load([known_terminal("T1", name="configured")])
    names = {known.terminal.sn: known.terminal.name for known in entrance.registry}
    assert names == {"T1": "configured", "T2": "stored"}


async def test_an_unknown_terminal_waits_and_is_announced_once(entrance: Entrance) -> None:
    told = collect(entrance.events, TerminalPending, PendingChanged)
    assert not await entrance.admission.may_connect("T1", "192.0.2.1")
    assert not await entrance.admission.may_connect("T1", "192.0.2.1")
    assert [type(event) for event in told] == [TerminalPending, PendingChanged]
    assert not await entrance.admission.may_connect("T1", "192.0.2.2")
    assert len(told) == 3, "another address is news"
    assert [(one.sn, one.address) for one in entrance.admission.pending] == [("T1", "192.0.2.2")]


async def test_those_that_wait_are_bounded_in_number(entrance: Entrance) -> None:
    for number in range(MAXIMUM_PENDING + 10):
        await entrance.admission.may_connect(f"T{number}", "192.0.2.1")
    pending = [one.sn for one in entrance.admission.pending]
    assert len(pending) == MAXIMUM_PENDING
    assert pending[0] == "T10"


async def test_with_any_a_terminal_becomes_known_by_connecting() -> None:
    entrance = Entrance("any")
    assert await entrance.admission.may_connect("T1", "192.0.2.1")
    assert entrance.store.terminals["T1"].origin is TerminalOrigin.CONNECTED
    assert "T1" in entrance.registry


async def test_with_any_a_full_store_lets_nobody_unknown_in() -> None:
    entrance = Entrance("any")
    entrance.store.full = True
    with pytest.raises(UnavailableError):
        await entrance.admission.may_connect("T1", "192.0.2.1")
    assert "T1" not in entrance.registry


async def test_approval_makes_known_stores_hashed_and_ends_the_waiting(entrance: Entrance) -> None:
    await entrance.admission.may_connect("T1", "192.0.2.1")
    told = collect(entrance.events, TerminalAdmitted, PendingChanged)
    command = Admit(sn="T1", changes={"name": "Gate", "username": "gate", "password": Secret("p")}, request_id="r")
    reply = await entrance.admission.admit(command, ORIGIN)
    assert (reply.outcome, reply.command, reply.sn, reply.request_id) == (Outcome.OK, "admit", "T1", "r")
    assert entrance.store.terminals["T1"].password == Secret("hashed p")
    assert entrance.admission.pending == ()
    assert {type(event) for event in told} == {TerminalAdmitted, PendingChanged}
    assert await entrance.admission.may_connect("T1", "192.0.2.1")


async def test_approving_again_changes_only_what_is_given(entrance: Entrance) -> None:
    first = Admit(sn="T1", changes={"name": "Gate", "groups": ("a",), "username": "gate", "password": Secret("p")})
    await entrance.admission.admit(first, ORIGIN)
    await entrance.admission.admit(Admit(sn="T1", changes={"name": "Back gate"}), ORIGIN)
    stored = entrance.store.terminals["T1"]
    assert (stored.name, stored.groups, stored.password) == ("Back gate", ("a",), Secret("hashed p"))


async def test_new_credentials_end_the_connection_made_with_the_old_ones(entrance: Entrance) -> None:
    await entrance.admission.admit(Admit(sn="T1"), ORIGIN)
    connection = RecordingConnection(entrance.registry, "T1")
    entrance.registry.connected(connection)
    await entrance.admission.admit(Admit(sn="T1", changes={"name": "Gate"}), ORIGIN)
    assert connection.resets == []
    await entrance.admission.admit(Admit(sn="T1", changes={"username": "g", "password": Secret("p")}), ORIGIN)
    assert connection.resets == ["its credentials have changed"]


async def test_half_of_the_credentials_is_invalid(entrance: Entrance) -> None:
    reply = await entrance.admission.admit(Admit(sn="T1", changes={"username": "gate"}), ORIGIN)
    assert reply.outcome is Outcome.INVALID
    assert reply.faults[0].path == "password"
    assert "T1" not in entrance.registry


async def test_a_listed_terminal_is_changed_in_the_configuration_only(entrance: Entrance) -> None:
    await entrance.admission.load([known_terminal("T1")])
    admitted = await entrance.admission.admit(Admit(sn="T1", changes={"name": "Gate"}), ORIGIN)
    forgotten = await entrance.admission.forget(Forget(sn="T1"), ORIGIN)
    assert (admitted.outcome, forgotten.outcome) == (Outcome.INVALID, Outcome.INVALID)
    assert "listed in the configuration" in admitted.faults[0].message


async def test_a_full_store_changes_nothing(entrance: Entrance) -> None:
    entrance.store.full = True
    reply = await entrance.admission.admit(Admit(sn="T1"), ORIGIN)
    assert reply.outcome is Outcome.UNAVAILABLE
    assert "T1" not in entrance.registry


async def test_forgetting_closes_drops_and_announces(entrance: Entrance) -> None:
    await entrance.admission.admit(Admit(sn="T1"), ORIGIN)
    connection = RecordingConnection(entrance.registry, "T1")
    entrance.registry.connected(connection)
    told = collect(entrance.events, TerminalForgotten)
    reply = await entrance.admission.forget(Forget(sn="T1"), ORIGIN)
    assert reply.outcome is Outcome.OK
    assert connection.resets
    assert len(told) == 1
    assert entrance.persons.forgotten == ["T1"]
    assert entrance.store.terminals == {}
    assert not await entrance.admission.may_connect("T1", "192.0.2.1")


async def test_one_that_only_waits_can_be_forgotten_a_stranger_cannot(entrance: Entrance) -> None:
    await entrance.admission.may_connect("T1", "192.0.2.1")
    assert (await entrance.admission.forget(Forget(sn="T1"), ORIGIN)).outcome is Outcome.OK
    assert entrance.admission.pending == ()
    assert (await entrance.admission.forget(Forget(sn="T1"), ORIGIN)).outcome is Outcome.INVALID
