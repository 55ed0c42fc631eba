"""A transaction sees its own changes, written or not yet, and gives out every revision once."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection as StoreConnection
from sqlalchemy import event

from bridge.core.ports import PersonCommand
from bridge.model.commands import RemovePersons, SetPersons
from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.persons.entry_transaction import BATCH
from bridge.persons.transactions import PersonTransaction
from bridge.store.person_queries import pending_window
from bridge.store.photos import PLAIN
from tests.persons.person_system import ORIGIN, PersonSystem, person, person_system

_T = TypeVar("_T")


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    async with person_system(tmp_path) as system:
        yield system


async def run(system: PersonSystem, work: Callable[[PersonTransaction], _T]) -> _T:
    """Run a transaction whose effects nothing hears of."""

    def function(connection: StoreConnection) -> _T:
        transaction = PersonTransaction(connection, PLAIN, system.clock, "this boot")
        result = work(transaction)
        transaction.finish()
        return result

    return await system.database.write(function)


async def test_changes_of_one_transaction_build_on_one_another(system: PersonSystem) -> None:
    replies = await system.change(
        SetPersons(persons=[person("p1", card="1")], request_id="first"),
        SetPersons(persons=[{"id": "p1", "name": "Another"}], request_id="second"),
        RemovePersons(ids=("p1",), request_id="third"),
        SetPersons(persons=[{"id": "p1", "name": "Unknown"}], request_id="fourth"),
        SetPersons(persons=[person("p1")], request_id="fifth"),
    )
    accepted, invalid = Outcome.ACCEPTED, Outcome.INVALID
    assert [reply.outcome for (reply,) in replies] == [accepted, accepted, accepted, invalid, accepted]
    assert await system.final_outcomes(3) == [(which, "p1", "superseded") for which in ("first", "second", "third")]
    assert system.person_service.counts("T1") == PersonCounts(desired=1, pending=1)


@pytest.mark.parametrize("between", [0, BATCH])
async def test_entries_include_the_changes_of_the_transaction(system: PersonSystem, between: int) -> None:
    await system.set(person("p1"), person("p2"), person("p3"), sn="T1")

    def work(transaction: PersonTransaction) -> None:
        before = transaction.entries("T1", ["p1", "p2", "p3"])
        transaction.replace(before["p1"], replace(before["p1"], message="changed"))
        transaction.replace(before["p2"], None)
        for number in range(between):
            transaction.replace(None, replace(before["p3"], sn="T2", person_id=f"other {number}", revision=10 + number))
        after = transaction.entries("T1", ["p1", "p2", "p3", "p4"])
        assert after == {"p1": replace(before["p1"], message="changed"), "p3": before["p3"]}
        assert transaction.entries("T3", ["p1", "p2"]) == {}

    await run(system, work)
    _, others = await system.read(pending_window, "T1", -1, -1, 10)
    assert [entry.person_id for entry in others] == ["p1", "p3"]


async def test_revisions_are_given_out_once(system: PersonSystem) -> None:
    first, *others = await run(
        system, lambda transaction: [transaction.next_revisions(count) for count in (0, 2, 0, 3)]
    )
    assert others == [first, first + 2, first + 2]
    assert await run(system, lambda transaction: transaction.next_revisions(1)) == first + 5


async def test_a_photo_is_written_once_for_all_terminals(system: PersonSystem) -> None:
    photos: list[object] = []

    @event.listens_for(system.database.engine, "before_cursor_execute")
    def note_photos(
        _connection: object, _cursor: object, statement: str, parameters: object, _context: object, many: bool
    ) -> None:
        if statement.startswith("INSERT INTO photo"):
            photos.extend(parameters if many and isinstance(parameters, list) else [parameters])

    change = SetPersons(persons=[person(f"p{number}") for number in range(BATCH)])
    requests = [
        PersonCommand(sns=(f"T{number}",), change=change, origin=ORIGIN, received_at=0) for number in range(1, 4)
    ]
    await system.person_service.change(requests)
    assert len(photos) == 1
