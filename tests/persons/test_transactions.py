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
from tests.persons.person_system import ORIGIN, RosterHouse, person, roster_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[RosterHouse]:
    async with roster_house(tmp_path) as house:
        yield house


async def test_changes_of_one_transaction_follow_one_another(house: RosterHouse) -> None:
    replies = await house.change(
        SetPersons(persons=[person("p1", card="1")], request_id="first"),
        SetPersons(persons=[{"id": "p1", "name": "Another"}], request_id="second"),
        RemovePersons(ids=("p1",), request_id="third"),
        SetPersons(persons=[{"id": "p1", "name": "Nobody's"}], request_id="fourth"),
        SetPersons(persons=[person("p1")], request_id="fifth"),
    )
    accepted, invalid = Outcome.ACCEPTED, Outcome.INVALID
    assert [reply.outcome for (reply,) in replies] == [accepted, accepted, accepted, invalid, accepted]
    assert await house.told(3) == [(which, "p1", "superseded") for which in ("first", "second", "third")]
    assert house.roster.counts("T1") == PersonCounts(desired=1, pending=1)


@pytest.mark.parametrize("between", [0, BATCH])
async def test_entries_are_as_this_transaction_has_left_them(house: RosterHouse, between: int) -> None:
    await house.set(person("p1"), person("p2"), person("p3"), sn="T1")
    async with house.store.transaction() as transaction:
        ledger = Transaction(transaction, house.clock, "this boot")
        before = await ledger.entries("T1", ["p1", "p2", "p3"])
        ledger.replace(before["p1"], replace(before["p1"], message="changed"))
        ledger.replace(before["p2"], None)
        for number in range(between):
            ledger.replace(None, replace(before["p3"], sn="T2", person_id=f"other {number}", revision=10 + number))
        after = await ledger.entries("T1", ["p1", "p2", "p3", "p4"])
        assert after == {"p1": replace(before["p1"], message="changed"), "p3": before["p3"]}
        assert await ledger.entries("T3", ["p1", "p2"]) == {}
        await ledger.finish()
    assert [entry.person_id for entry in await house.store.pending("T1", 10)] == ["p1", "p3"]


async def test_revisions_are_given_out_once(house: RosterHouse) -> None:
    async with house.store.transaction() as transaction:
        ledger = Transaction(transaction, house.clock, "this boot")
        assert [await ledger.next_revisions(count) for count in (0, 2, 0, 3)] == [1, 1, 3, 3]
        await ledger.finish()
    async with house.store.transaction() as transaction:
        assert await Transaction(transaction, house.clock, "this boot").next_revisions(1) == 6


async def test_a_photo_is_written_once_for_all_terminals(house: RosterHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    add = StoredTransaction.add_photos

    async def add_photos(transaction: StoredTransaction, photos: Mapping[str, bytes]) -> None:
        written.extend(photos)
        await add(transaction, photos)

    monkeypatch.setattr(StoredTransaction, "add_photos", add_photos)
    change = SetPersons(persons=[person(f"p{number}") for number in range(BATCH)])
    requests = [PersonRequest(sn=f"T{number}", change=change, origin=ORIGIN, received_at=0) for number in range(1, 4)]
    await house.roster.change(requests)
    assert len(written) == 1
