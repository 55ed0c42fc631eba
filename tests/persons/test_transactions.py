"""A transaction sees its own changes, written or not yet, and gives out every revision once."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.core.ports import PersonRequest
from bridge.model.commands import RemovePersons, SetPersons
from bridge.model.outcome import Outcome
from bridge.model.terminal import PersonCounts
from bridge.persons.transaction import BATCH, Transaction
from bridge.store.persons import PersonTransaction as StoredTransaction
from tests.persons.person_system import ORIGIN, PersonSystem, person, person_system


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    async with person_system(tmp_path) as system:
        yield system


async def test_changes_of_one_transaction_follow_one_another(system: PersonSystem) -> None:
    replies = await system.change(
        SetPersons(persons=[person("p1", card="1")], request_id="first"),
        SetPersons(persons=[{"id": "p1", "name": "Another"}], request_id="second"),
        RemovePersons(ids=("p1",), request_id="third"),
        SetPersons(persons=[{"id": "p1", "name": "Nobody's"}], request_id="fourth"),
        SetPersons(persons=[person("p1")], request_id="fifth"),
    )
    accepted, invalid = Outcome.ACCEPTED, Outcome.INVALID
    assert [reply.outcome for (reply,) in replies] == [accepted, accepted, accepted, invalid, accepted]
    assert await system.told(3) == [(which, "p1", "superseded") for which in ("first", "second", "third")]
    assert system.person_service.counts("T1") == PersonCounts(desired=1, pending=1)


@pytest.mark.parametrize("between", [0, BATCH])
async def test_entries_are_as_this_transaction_has_left_them(system: PersonSystem, between: int) -> None:
    await system.set(person("p1"), person("p2"), person("p3"), sn="T1")
    async with system.store.transaction() as transaction:
        ledger = Transaction(transaction, system.clock, "this boot")
        before = await ledger.entries("T1", ["p1", "p2", "p3"])
        ledger.replace(before["p1"], replace(before["p1"], message="changed"))
        ledger.replace(before["p2"], None)
        for number in range(between):
            ledger.replace(None, replace(before["p3"], sn="T2", person_id=f"other {number}", revision=10 + number))
        after = await ledger.entries("T1", ["p1", "p2", "p3", "p4"])
        assert after == {"p1": replace(before["p1"], message="changed"), "p3": before["p3"]}
        assert await ledger.entries("T3", ["p1", "p2"]) == {}
        await ledger.finish()
    assert [entry.person_id for entry in await system.store.pending("T1", 10)] == ["p1", "p3"]


async def test_revisions_are_given_out_once(system: PersonSystem) -> None:
    async with system.store.transaction() as transaction:
        ledger = Transaction(transaction, system.clock, "this boot")
        assert [await ledger.next_revisions(count) for count in (0, 2, 0, 3)] == [1, 1, 3, 3]
        await ledger.finish()
    async with system.store.transaction() as transaction:
        assert await Transaction(transaction, system.clock, "this boot").next_revisions(1) == 6


async def test_a_photo_is_written_once_for_all_terminals(system: PersonSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    add = StoredTransaction.add_photos

    async def add_photos(transaction: StoredTransaction, photos: Mapping[str, bytes]) -> None:
        written.extend(photos)
        await add(transaction, photos)

    monkeypatch.setattr(StoredTransaction, "add_photos", add_photos)
    change = SetPersons(persons=[person(f"p{number}") for number in range(BATCH)])
    requests = [PersonRequest(sn=f"T{number}", change=change, origin=ORIGIN, received_at=0) for number in range(1, 4)]
    await system.person_service.change(requests)
    assert len(written) == 1
