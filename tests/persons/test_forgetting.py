"""A terminal is forgotten while its persons change: nothing stays stored for an unknown terminal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.core.admission import Admission, AdmissionServices
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import PersonCommand
from bridge.model.commands import Admit, Forget, SetPersons
from bridge.model.received_message import AnsweredMessage
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts
from bridge.store.person_queries import counts
from tests.persons.person_system import ORIGIN, PersonSystem, person, person_system
from tests.support.mqtt_bridge import IdentityHasher
from tests.support.terminals import InMemoryTerminals


class SlowTerminals(InMemoryTerminals):
    """Stored terminals; a deletion waits for `may_delete`."""

    def __init__(self) -> None:
        super().__init__()
        self.deletes = asyncio.Event()
        self.may_delete = asyncio.Event()

    async def delete(self, sn: str, answered: AnsweredMessage | None = None) -> None:
        self.deletes.set()
        await self.may_delete.wait()
        await super().delete(sn, answered)


class ForgettingSystem:
    """A persons' service with the core's commands; T9 is approved."""

    def __init__(self, system: PersonSystem) -> None:
        self.system = system
        self.terminals = SlowTerminals()
        services = AdmissionServices(terminals=self.terminals, persons=system.person_service, hasher=IdentityHasher())
        self.admission = Admission(system.registry, system.events, system.clock, services, "known")
        self.commands = PersonCommands(system.registry, system.events, system.clock, system.person_service)

    async def set_person(self, person_id: str) -> Outcome:
        change = SetPersons(persons=[person(person_id)])
        (replies,) = await self.commands.change([PersonCommand(change=change, origin=ORIGIN, sn="T9")])
        assert not isinstance(replies, Reply)
        return replies[0].outcome  # type: ignore[index]  # not a group

    async def forget(self) -> Outcome:
        return (await self.admission.forget(Forget(sn="T9"), ORIGIN)).outcome


@pytest.fixture
async def forgetting(tmp_path: Path) -> AsyncIterator[ForgettingSystem]:
    async with person_system(tmp_path) as system:
        forgetting = ForgettingSystem(system)
        assert (await forgetting.admission.admit(Admit(sn="T9"), ORIGIN)).outcome is Outcome.OK
        yield forgetting


async def test_a_change_while_a_terminal_is_forgotten_leaves_nothing(forgetting: ForgettingSystem) -> None:
    assert await forgetting.set_person("p1") is Outcome.ACCEPTED
    async with asyncio.TaskGroup() as group:
        before = group.create_task(forgetting.set_person("p2"))
        await asyncio.sleep(0)
        forgotten = group.create_task(forgetting.forget())
        await forgetting.terminals.deletes.wait()
        assert await forgetting.set_person("p3") is Outcome.INVALID
        forgetting.terminals.may_delete.set()
    assert (before.result(), forgotten.result()) == (Outcome.ACCEPTED, Outcome.OK)
    assert "T9" not in forgetting.system.registry
    assert (await forgetting.system.read(counts)).get("T9") is None
    assert forgetting.system.person_service.counts("T9") == PersonCounts()


async def test_an_approval_while_a_terminal_is_forgotten_follows_it(forgetting: ForgettingSystem) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(forgetting.forget())
        await forgetting.terminals.deletes.wait()
        admitted = group.create_task(forgetting.admission.admit(Admit(sn="T9"), ORIGIN))
        await asyncio.sleep(0)
        forgetting.terminals.may_delete.set()
    assert admitted.result().outcome is Outcome.OK
    assert "T9" in forgetting.system.registry
    assert "T9" in forgetting.terminals.terminals


async def test_a_terminal_that_cannot_be_forgotten_stays_known(forgetting: ForgettingSystem) -> None:
    connection = forgetting.system.connect("T9")
    forgetting.terminals.may_delete.set()
    forgetting.terminals.full = True
    assert await forgetting.forget() is Outcome.UNAVAILABLE
    known = forgetting.system.registry.get("T9")
    assert known is not None
    assert known.connection is None
    assert connection.resets
    forgetting.terminals.full = False
    assert await forgetting.set_person("p1") is Outcome.ACCEPTED
    assert await forgetting.forget() is Outcome.OK
