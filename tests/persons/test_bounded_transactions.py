"""Background work on many rows is divided: a transaction changes a bounded number of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from bridge.model.commands import RemovePersons, SetPersons, SyncPersons
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome, Reply, SharedReplies
from bridge.persons.maintenance import ExpiryJob
from bridge.store import received_messages
from bridge.store.audit import StoredAudit
from bridge.store.tables import AUDIT
from tests.persons.person_system import PersonSystem, person, person_system
from tests.persons.test_groups import GroupSystem
from tests.support.core import known_terminal
from tests.support.row_counter import counted
from tests.support.waiting import until

PERSONS = 400
LIMIT = 100
"""Rows of one kind in one transaction; the writer may take two functions into one."""


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    async with person_system(tmp_path, remove_expired=1) as system:
        yield system


@pytest.fixture
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each batch end after its first portion, however fast the machine is."""
    monkeypatch.setattr("bridge.persons.batches.BATCH_SECONDS", 0)


@pytest.mark.usefixtures("short_batches")
async def test_a_removal_of_everyone(system: PersonSystem) -> None:
    await system.set(*(person(f"p{number:03}") for number in range(PERSONS)))
    with counted(system.database) as counter:
        await system.change(RemovePersons(ids=None))
        await GroupSystem(system).jobs_done()
    assert counter.longest["person_entry"] <= LIMIT


@pytest.mark.usefixtures("short_batches")
async def test_a_sync(system: PersonSystem) -> None:
    await system.set(*(person(f"p{number:03}") for number in range(PERSONS)))
    system.connect()
    await system.settled()
    with counted(system.database) as counter:
        await system.change(SyncPersons(clear=True))
        await GroupSystem(system).jobs_done()
    # The writer may take the acceptance, a batch and answers of the terminal into one transaction.
    assert counter.longest["person_entry"] < PERSONS


async def test_the_persons_of_a_repaired_photo(system: PersonSystem) -> None:
    await system.set(*(person(f"p{number:03}") for number in range(PERSONS)))

    def damage(connection: Connection) -> None:
        """Leave what the bridge leaves that could not send any of them."""
        connection.exec_driver_sql("UPDATE photo SET jpeg = x'00'")
        connection.exec_driver_sql("UPDATE person_entry SET delivery = 'refused', status = NULL")

    await system.database.write(damage)
    await system.transactions.load()
    with counted(system.database) as counter:
        assert await system.set(person("p000")) == [Outcome.ACCEPTED]
        await until(lambda: not system.person_service.counts("T1").refused)
    assert sum(rows["person_entry"] for rows in counter.transactions) == PERSONS
    # The changed person itself comes with the first ones, and a batch may be in the same transaction.
    assert counter.longest["person_entry"] <= 2 * LIMIT + 1


async def test_answers_of_many_terminals(system: PersonSystem) -> None:
    sns = [f"T{number:03}" for number in range(2 * LIMIT)]
    for sn in sns:
        system.registry.put(known_terminal(sn))
    for sn in sns:
        await system.set(person("p1"), sn=sn)
    with counted(system.database) as counter:
        for sn in sns:
            system.connect(sn)
        await until(lambda: all(system.person_service.counts(sn).confirmed for sn in sns))
    assert counter.longest["person_entry"] <= LIMIT


@pytest.mark.usefixtures("short_batches")
async def test_the_removal_of_expired_persons_from_a_group_that_terminals_are_joining(
    system: PersonSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = GroupSystem(system)
    await groups.put("T9", "staff")
    times = {"valid_from": "2020-01-01T00:00:00Z", "valid_until": "2020-01-02T00:00:00Z"}
    await groups.change("staff", SetPersons(persons=[person(f"p{number:03}", **times) for number in range(LIMIT)]))
    await groups.jobs_done()
    # The joins must not run before the expiry.
    monkeypatch.setattr("bridge.persons.batches.LEAST_PAUSE_SECONDS", 3600)
    monkeypatch.setattr("bridge.persons.earlier_jobs._SECONDS", 0)
    for number in range(10):
        await groups.put(f"J{number}", "staff")
    with counted(system.database) as counter:
        await ExpiryJob(system.transactions, 1, lambda: True).remove_from_group(
            "staff", [f"p{number:03}" for number in range(LIMIT)]
        )
    assert sum(rows["person_entry"] for rows in counter.transactions) >= 9 * LIMIT
    assert counter.longest["person_entry"] <= LIMIT


async def test_the_packet_ids_of_an_earlier_session(system: PersonSystem) -> None:
    number = 2500

    def add(connection: Connection) -> None:
        reply = Reply(command="setPerson", outcome=Outcome.ACCEPTED, at=system.clock.now(), sn="T1")
        shared = [SharedReplies(sns=("T1",), replies=(reply,))]
        for packet_id in range(number):
            message = ReceivedMessage(digest=f"{packet_id}", packet_id=packet_id, is_dated=True)
            received_messages.add_message(connection, packet_id, message, shared, system.clock.now())

    await system.database.write(add)
    with counted(system.database) as counter:
        await system.person_service.forget_deliveries()
    assert sum(rows["received_message"] for rows in counter.transactions) == number
    assert counter.longest["received_message"] <= 1000


async def test_old_records_of_the_audit(system: PersonSystem) -> None:
    number = 5000
    at = system.clock.now()
    row = {"at": at, "command": "open", "source": "test", "outcome": "ok"}

    def add(connection: Connection) -> None:
        connection.execute(insert(AUDIT), [row] * number)

    await system.database.write(add)
    with counted(system.database) as counter:
        await StoredAudit(system.database).drop(before=at + timedelta(days=1), keep=10)
    assert sum(rows["audit"] for rows in counter.transactions) == number
    assert counter.longest["audit"] <= 2000


async def test_the_changes_of_another_program_on_many_terminals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.persons.transaction_runner._COUNTING_SECONDS", 0)
    sns = [f"T{number:02}" for number in range(30)]
    async with person_system(tmp_path, sns=sns) as system:
        for sn in sns:
            await system.set(person("p1"), sn=sn)

        def change(connection: Connection) -> None:
            connection.exec_driver_sql("UPDATE person_entry SET delivery = 'confirmed'")
            connection.exec_driver_sql("INSERT INTO outside_change SELECT sn FROM person_entry")

        with counted(system.database) as counter:
            # As another program: the bridge does not count its changes.
            await system.database.write(change)
            await asyncio.sleep(0)
            while any(system.person_service.counts(sn).pending for sn in sns):
                await system.transactions.take_external_changes()
        # The service takes changes too, and the writer may take both into one transaction.
        assert max(rows["outside_change"] for rows in counter.transactions[1:]) <= 2
