"""Syncs and removals of everyone are applied in short transactions, between which other changes have their turn."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.simulator.faces import sample_photo
from bridge.store import person_queries as queries
from bridge.store.database import Database
from bridge.store.photos import PLAIN, add_photos
from tests.persons.person_system import PersonSystem, person, person_system, sent
from tests.support.core import ManualClock
from tests.support.waiting import until

MANY = 8000
JPEG = sample_photo(1, (64, 80))
PHOTO = hashlib.sha256(JPEG).hexdigest()


def stored_entries(number: int, first_revision: int, delivery: DeliveryState) -> list[PersonEntry]:
    now = ManualClock().now()
    return [
        PersonEntry(
            sn="T1",
            person_id=f"p{index:05}",
            revision=first_revision + index,
            person=Person(id=f"p{index:05}", name="Ann", photo=PHOTO),
            delivery=delivery,
            confirmed_revision=first_revision + index,
            status=0,
            message="ok",
            changed_at=now,
        )
        for index in range(number)
    ]


async def store_many(place: Path, delivery: DeliveryState = DeliveryState.CONFIRMED, number: int = MANY) -> None:
    """Fill a new store with persons of T1."""

    def fill(connection: Connection) -> None:
        add_photos(connection, PLAIN, {PHOTO: JPEG})
        queries.put_entries(connection, stored_entries(number, queries.next_revisions(connection, number), delivery))

    database = await Database.open(f"sqlite:///{place}/store.db")
    await database.write(fill)
    await database.close()


async def jobs_done(system: PersonSystem) -> None:
    while await system.read(queries.jobs):
        await asyncio.sleep(0.01)


async def remaining_entries(system: PersonSystem) -> int:
    def count(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT count(*) FROM person_entry WHERE sn = 'T1'").scalar_one())

    return await system.read(count)


async def test_a_change_on_another_terminal_does_not_wait_for_a_sync(tmp_path: Path) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        assert await system.sync(request_id="sync") == [Outcome.ACCEPTED]
        assert await system.set(person("other"), sn="T2") == [Outcome.ACCEPTED]
        assert system.person_service.counts("T1").pending < MANY
        await until(lambda: system.person_service.counts("T1").pending == MANY)
        assert await system.read(queries.syncs, ["T1"])


async def test_a_change_on_another_terminal_does_not_wait_for_a_removal_of_everyone(tmp_path: Path) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        assert await system.remove_everyone() == [Outcome.ACCEPTED]
        assert await system.set(person("other"), sn="T2") == [Outcome.ACCEPTED]
        assert await remaining_entries(system) > 1
        await until(lambda: system.person_service.counts("T1") == PersonCounts(pending=1))
        assert await remaining_entries(system) == 1


async def test_a_change_on_another_terminal_does_not_wait_until_a_terminal_is_forgotten(tmp_path: Path) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        await system.person_service.forget("T1")
        assert await system.set(person("other"), sn="T2") == [Outcome.ACCEPTED]
        assert await remaining_entries(system) > 0
        assert await system.persons("T1") == []
        await until(lambda: system.person_service.counts("T1") == PersonCounts())
        assert await remaining_entries(system) == 0


async def test_removed_persons_are_gone_at_once_although_their_rows_are_deleted_later(tmp_path: Path) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        await system.remove_everyone()
        assert list(await system.delivery()) == []
        last = f"p{MANY - 1:05}"
        assert await system.persons("T1", last) == []
        # A partial change needs a person to change.
        assert await system.set({"id": last, "name": "Bo"}) == [Outcome.INVALID]
        assert await system.set(person(last)) == [Outcome.ACCEPTED]
        assert await remaining_entries(system) > 2
        await until(lambda: system.person_service.counts("T1") == PersonCounts(desired=1, pending=2))
        connection = system.connect()
        await system.settled()
        assert sent(connection) == ["remove everyone", f"set {last}"]


async def test_an_entry_that_is_being_removed_is_not_sent(tmp_path: Path) -> None:
    await store_many(tmp_path, DeliveryState.PENDING)
    async with person_system(tmp_path) as system:
        await system.remove_everyone()
        connection = system.connect()
        await until(lambda: system.person_service.counts("T1") == PersonCounts())
        assert sent(connection) == ["remove everyone"]


@pytest.mark.parametrize("clear", [False, True])
async def test_an_interrupted_sync_continues_after_a_restart(tmp_path: Path, clear: bool) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        await system.sync(request_id="sync", clear=clear)
        # It stops after the batch that runs at present.
    async with person_system(tmp_path) as system:
        marked = system.person_service.counts("T1").pending
        assert 0 < marked < MANY
        await until(lambda: system.person_service.counts("T1").pending == MANY + clear)
        await jobs_done(system)


async def test_an_interrupted_removal_of_everyone_continues_after_a_restart(tmp_path: Path) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        await system.remove_everyone(request_id="all")
        # It stops after the batch that runs at present.
    async with person_system(tmp_path) as system:
        assert await remaining_entries(system) > 1
        await until(lambda: system.person_service.counts("T1") == PersonCounts(pending=1))


async def test_a_sync_ends_after_its_last_person(tmp_path: Path) -> None:
    await store_many(tmp_path, number=700)
    async with person_system(tmp_path) as system:
        connection = system.connect()
        await system.sync(request_id="sync")
        assert await system.final_outcomes(1) == [("sync", None, "ok")]
        assert sorted(sent(connection)) == [f"set p{number:05}" for number in range(700)]
        assert system.person_service.counts("T1") == PersonCounts(desired=700, confirmed=700)


async def test_a_sync_with_clear_sends_everyone_after_the_removal(tmp_path: Path) -> None:
    await store_many(tmp_path, DeliveryState.PENDING, number=400)
    async with person_system(tmp_path) as system:
        await system.sync(clear=True)
        connection = system.connect()
        await system.settled()
        frames = sent(connection)
        after = frames[frames.index("remove everyone") + 1 :]
        # Those that the job had not reached yet may be sent twice.
        assert sorted(set(after)) == [f"set p{number:05}" for number in range(400)]


async def test_a_removal_of_everyone_ends_a_sync_before_it(tmp_path: Path) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        await system.sync(request_id="sync")
        await system.remove_everyone(request_id="all")
        assert await system.final_outcomes(1) == [("sync", None, "ok")]
        connection = system.connect()
        assert await system.final_outcomes(1) == [("all", None, "ok")]
        await until(lambda: system.person_service.counts("T1") == PersonCounts())
        assert sent(connection) == ["remove everyone"]


async def test_a_sync_after_a_removal_of_everyone_sends_only_later_persons(tmp_path: Path) -> None:
    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        await system.remove_everyone()
        await system.set(person("later"))
        await system.sync(request_id="sync")
        await jobs_done(system)
        await until(lambda: system.person_service.counts("T1") == PersonCounts(desired=1, pending=2))
        connection = system.connect()
        await system.settled()
        assert sent(connection) == ["remove everyone", "set later"]


async def test_a_sync_during_a_sync_does_not_renumber_what_is_pending(tmp_path: Path) -> None:
    async def revisions() -> Sequence[int]:
        _, others = await system.read(queries.pending_window, "T1", -1, -1, MANY)
        return [entry.revision for entry in others]

    await store_many(tmp_path)
    async with person_system(tmp_path) as system:
        await system.sync()
        await jobs_done(system)
        before = await revisions()
        await system.sync()
        await asyncio.sleep(0)
        await until(lambda: system.person_service.counts("T1").pending == MANY)
        assert await revisions() == before
