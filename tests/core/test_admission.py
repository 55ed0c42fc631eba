"""Admission: approving, changing and forgetting terminals, and those that wait for approval."""

import asyncio
from typing import Literal

import pytest

from bridge.core.admission import MAXIMUM_PENDING, MAXIMUM_REGISTERED_TOGETHER, Admission, AdmissionServices
from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import Admit, Forget
from bridge.model.events import (
    CommandReplied,
    PendingChanged,
    ReplyRepeated,
    TerminalAdmitted,
    TerminalForgotten,
    TerminalPending,
)
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome
from bridge.model.secret import Secret
from bridge.model.terminal import PersonCounts, Terminal, TerminalOrigin
from tests.support.core import ManualClock, RecordingConnection, collect, known_terminal
from tests.support.persons import NoPersons
from tests.support.terminals import InMemoryTerminals

ORIGIN = Origin(source="test")


class PrefixHasher:
    """Returns the password with a prefix."""

    async def hash(self, password: Secret) -> Secret:
        return Secret(f"hashed {password.reveal()}")


class AdmissionSystem:
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
            AdmissionServices(terminals=self.store, persons=self.persons, hasher=PrefixHasher()),
            admit,
        )


@pytest.fixture
def system() -> AdmissionSystem:
    return AdmissionSystem()


async def test_the_configuration_wins_over_the_store(system: AdmissionSystem) -> None:
    system.store.terminals["T1"] = Terminal(sn="T1", origin=TerminalOrigin.APPROVED, name="stored")
    system.store.terminals["T2"] = Terminal(sn="T2", origin=TerminalOrigin.APPROVED, name="stored")
    await system.admission.load([known_terminal("T1", name="configured")])
    names = {known.terminal.sn: known.terminal.name for known in system.registry}
    assert names == {"T1": "configured", "T2": "stored"}


async def test_an_unknown_terminal_waits_for_approval_and_is_published_once(system: AdmissionSystem) -> None:
    published = collect(system.events, TerminalPending, PendingChanged)
    assert not await system.admission.may_connect("T1", "192.0.2.1")
    assert not await system.admission.may_connect("T1", "192.0.2.1")
    assert [type(event) for event in published] == [TerminalPending, PendingChanged]
    assert not await system.admission.may_connect("T1", "192.0.2.2")
    assert len(published) == 3, "another address is published again"
    assert [(one.sn, one.address) for one in system.admission.pending] == [("T1", "192.0.2.2")]


async def test_the_number_of_pending_terminals_is_bounded(system: AdmissionSystem) -> None:
    for number in range(MAXIMUM_PENDING + 10):
        await system.admission.may_connect(f"T{number}", "192.0.2.1")
    pending = [one.sn for one in system.admission.pending]
    assert len(pending) == MAXIMUM_PENDING
    assert pending[0] == "T10"


async def test_with_admit_any_a_terminal_becomes_known_by_connecting() -> None:
    system = AdmissionSystem("any")
    assert await system.admission.may_connect("T1", "192.0.2.1")
    assert system.store.terminals["T1"].origin is TerminalOrigin.CONNECTED
    assert "T1" in system.registry


async def test_with_admit_any_and_a_full_store_an_unknown_terminal_cannot_connect() -> None:
    system = AdmissionSystem("any")
    system.store.full = True
    with pytest.raises(UnavailableError):
        await system.admission.may_connect("T1", "192.0.2.1")
    assert "T1" not in system.registry


async def test_new_terminals_that_connect_together_become_known_in_one_transaction() -> None:
    system = AdmissionSystem("any")
    admitted = collect(system.events, TerminalAdmitted)
    sns = [f"T{number}" for number in range(MAXIMUM_REGISTERED_TOGETHER + 3)]
    # The last one connects twice, as after a handshake that broke.
    system.persons.may_follow.clear()
    async with asyncio.TaskGroup() as group:
        connecting = [group.create_task(system.admission.may_connect(sn, "192.0.2.1")) for sn in [*sns, sns[-1]]]
        await system.persons.following.wait()
        system.persons.may_follow.set()
    assert all(task.result() for task in connecting)
    # No other one waits when the first one connects.
    assert system.store.batches == [sns[:1], sns[1:-2], sns[-2:]]
    assert [known.terminal.sn for known in system.registry] == sns
    assert system.persons.followed == sns
    assert [event.sn for event in admitted if isinstance(event, TerminalAdmitted)] == sns


async def test_new_terminals_become_known_although_the_first_of_them_disconnects() -> None:
    system = AdmissionSystem("any")
    admitted = collect(system.events, TerminalAdmitted)
    system.persons.may_follow.clear()
    create_task = asyncio.get_running_loop().create_task
    first, second, third = (create_task(system.admission.may_connect(sn, "192.0.2.1")) for sn in ("T1", "T2", "T3"))
    for cancelled in (first, second):
        await system.persons.following.wait()
        system.persons.following.clear()
        cancelled.cancel()
        await asyncio.wait((cancelled,))
    system.persons.may_follow.set()
    assert await third
    assert [known.terminal.sn for known in system.registry] == ["T2", "T3"], "they connected together"
    assert len(admitted) == 2, "each has its entities in Home Assistant"


async def test_new_terminals_that_connect_together_all_fail_with_the_store() -> None:
    system = AdmissionSystem("any")
    system.store.full = True
    results = await asyncio.gather(
        *(system.admission.may_connect(sn, "192.0.2.1") for sn in ("T1", "T2")), return_exceptions=True
    )
    assert all(isinstance(one, UnavailableError) for one in results)
    assert len(system.registry) == 0
    system.store.full = False
    assert await system.admission.may_connect("T2", "192.0.2.1")


async def test_an_approved_terminal_is_known_stored_and_no_longer_pending(system: AdmissionSystem) -> None:
    await system.admission.may_connect("T1", "192.0.2.1")
    published = collect(system.events, TerminalAdmitted, PendingChanged)
    command = Admit(sn="T1", changes={"name": "Gate", "username": "gate", "password": Secret("p")}, request_id="r")
    reply = await system.admission.admit(command, ORIGIN)
    assert (reply.outcome, reply.command, reply.sn, reply.request_id) == (Outcome.OK, "admit", "T1", "r")
    assert system.store.terminals["T1"].password == Secret("hashed p")
    assert system.admission.pending == ()
    assert {type(event) for event in published} == {TerminalAdmitted, PendingChanged}
    assert await system.admission.may_connect("T1", "192.0.2.1")


async def test_approving_again_changes_only_the_given_fields(system: AdmissionSystem) -> None:
    first = Admit(sn="T1", changes={"name": "Gate", "groups": ("a",), "username": "gate", "password": Secret("p")})
    await system.admission.admit(first, ORIGIN)
    await system.admission.admit(Admit(sn="T1", changes={"name": "Back gate"}), ORIGIN)
    stored = system.store.terminals["T1"]
    assert (stored.name, stored.groups, stored.password) == ("Back gate", ("a",), Secret("hashed p"))


async def test_new_credentials_close_the_connection_made_with_the_old_ones(system: AdmissionSystem) -> None:
    await system.admission.admit(Admit(sn="T1"), ORIGIN)
    connection = RecordingConnection(system.registry, "T1")
    system.registry.connected(connection)
    await system.admission.admit(Admit(sn="T1", changes={"name": "Gate"}), ORIGIN)
    assert connection.resets == []
    await system.admission.admit(Admit(sn="T1", changes={"username": "g", "password": Secret("p")}), ORIGIN)
    assert connection.resets == ["its credentials have changed"]


async def test_a_username_without_a_password_is_invalid(system: AdmissionSystem) -> None:
    reply = await system.admission.admit(Admit(sn="T1", changes={"username": "gate"}), ORIGIN)
    assert reply.outcome is Outcome.INVALID
    assert reply.faults[0].path == "password"
    assert "T1" not in system.registry


async def test_a_configured_terminal_is_changed_in_the_configuration_only(system: AdmissionSystem) -> None:
    await system.admission.load([known_terminal("T1")])
    admitted = await system.admission.admit(Admit(sn="T1", changes={"name": "Gate"}), ORIGIN)
    forgotten = await system.admission.forget(Forget(sn="T1"), ORIGIN)
    assert (admitted.outcome, forgotten.outcome) == (Outcome.INVALID, Outcome.INVALID)
    assert "listed in the configuration" in admitted.faults[0].message


async def test_a_full_store_changes_nothing(system: AdmissionSystem) -> None:
    system.store.full = True
    reply = await system.admission.admit(Admit(sn="T1"), ORIGIN)
    assert reply.outcome is Outcome.UNAVAILABLE
    assert "T1" not in system.registry


async def test_forgetting_closes_the_connection_drops_the_persons_and_publishes(system: AdmissionSystem) -> None:
    await system.admission.admit(Admit(sn="T1"), ORIGIN)
    connection = RecordingConnection(system.registry, "T1")
    system.registry.connected(connection)
    published = collect(system.events, TerminalForgotten)
    reply = await system.admission.forget(Forget(sn="T1"), ORIGIN)
    assert reply.outcome is Outcome.OK
    assert connection.resets
    assert len(published) == 1
    assert system.persons.forgotten == ["T1"]
    assert system.store.terminals == {}
    assert not await system.admission.may_connect("T1", "192.0.2.1")


async def test_forgetting_says_how_many_persons_the_device_may_hold(system: AdmissionSystem) -> None:
    await system.admission.admit(Admit(sn="T1"), ORIGIN)
    # Two are confirmed, one is sent at present, and the removal of one was refused.
    system.persons.numbers["T1"] = PersonCounts(desired=3, confirmed=2, pending=1, refused=1)
    reply = await system.admission.forget(Forget(sn="T1"), ORIGIN)
    assert reply.outcome is Outcome.OK
    assert "may still hold 4 persons" in (reply.message or "")


async def test_a_pending_terminal_can_be_forgotten_an_unknown_one_cannot(system: AdmissionSystem) -> None:
    await system.admission.may_connect("T1", "192.0.2.1")
    assert (await system.admission.forget(Forget(sn="T1"), ORIGIN)).outcome is Outcome.OK
    assert system.admission.pending == ()
    assert (await system.admission.forget(Forget(sn="T1"), ORIGIN)).outcome is Outcome.INVALID


# -- messages that arrive again


def delivery(digest: str, *, again: bool = False) -> ReceivedMessage:
    return ReceivedMessage(digest=digest, packet_id=1, is_redelivered=again)


async def test_a_redelivered_forget_does_not_drop_what_was_approved_since(system: AdmissionSystem) -> None:
    await system.admission.admit(Admit(sn="T1"), ORIGIN)
    first = await system.admission.forget(Forget(sn="T1", request_id="r"), ORIGIN, delivery("forget"))
    await system.admission.admit(Admit(sn="T1", changes={"name": "Gate"}), ORIGIN)
    published = collect(system.events, CommandReplied, ReplyRepeated, TerminalForgotten)
    again = await system.admission.forget(Forget(sn="T1"), ORIGIN, delivery("forget", again=True))
    assert (again.as_json(), again.is_repeated) == (first.as_json(), True)
    assert [type(event) for event in published] == [ReplyRepeated]
    assert "T1" in system.registry
    assert system.persons.forgotten == ["T1"]


async def test_a_redelivered_admit_does_not_undo_a_newer_one(system: AdmissionSystem) -> None:
    await system.admission.admit(Admit(sn="T1", changes={"name": "old"}), ORIGIN, delivery("old"))
    await system.admission.admit(Admit(sn="T1", changes={"name": "new"}), ORIGIN, delivery("new"))
    again = await system.admission.admit(Admit(sn="T1", changes={"name": "old"}), ORIGIN, delivery("old", again=True))
    assert again.is_repeated
    assert system.store.terminals["T1"].name == "new"


async def test_a_redelivered_command_that_was_invalid_is_invalid_again(system: AdmissionSystem) -> None:
    forget = Forget(sn="T1")
    assert (await system.admission.forget(forget, ORIGIN, delivery("forget"))).outcome is Outcome.INVALID
    await system.admission.admit(Admit(sn="T1"), ORIGIN)
    again = await system.admission.forget(forget, ORIGIN, delivery("forget", again=True))
    assert (again.outcome, again.is_repeated) == (Outcome.INVALID, True)
    assert "T1" in system.registry


async def test_a_command_that_could_not_be_stored_is_carried_out_when_it_is_redelivered(
    system: AdmissionSystem,
) -> None:
    system.store.full = True
    admit = Admit(sn="T1")
    assert (await system.admission.admit(admit, ORIGIN, delivery("x"))).outcome is Outcome.UNAVAILABLE
    system.store.full = False
    again = await system.admission.admit(admit, ORIGIN, delivery("x", again=True))
    assert (again.outcome, again.is_repeated) == (Outcome.OK, False)


async def test_a_redelivered_admit_finishes_what_was_stored_only_in_part(system: AdmissionSystem) -> None:
    """The terminal is stored, but its persons could not follow its groups."""
    system.persons.full = True
    admit = Admit(sn="T1", changes={"groups": ("lobby",)})
    assert (await system.admission.admit(admit, ORIGIN, delivery("x"))).outcome is Outcome.UNAVAILABLE
    assert "T1" not in system.registry
    system.persons.full = False
    again = await system.admission.admit(admit, ORIGIN, delivery("x", again=True))
    assert (again.outcome, again.is_repeated) == (Outcome.OK, False)
    assert "T1" in system.registry
    assert system.persons.followed == ["T1"]
