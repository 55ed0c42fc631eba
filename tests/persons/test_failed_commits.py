"""A COMMIT that fails without an answer: its terminals are read again before anything is counted, sent or reported."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection as StoreConnection
from sqlalchemy import event

from bridge.core.ports import PersonCommand
from bridge.model.commands import RemovePersons
from bridge.model.events import PersonsChanged, PersonSettled
from bridge.model.faults import UnavailableError
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.store.person_queries import counts as stored_counts
from bridge.store.person_queries import note_external_changes
from tests.persons.person_system import ORIGIN, PersonSystem, person, person_system, sent, silent
from tests.support.core import collect
from tests.support.failing_commit import failing_commit
from tests.support.postgresql import PostgreSQL
from tests.support.swallowing_proxy import SwallowingProxy
from tests.support.waiting import until


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PersonSystem]:
    place: Path | str = tmp_path
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        place = await server.new_url()
    async with person_system(place) as system:
        yield system


async def is_counted(system: PersonSystem, sn: str = "T1") -> bool:
    """Return whether the counts are those of the store."""
    stored = await system.read(stored_counts)
    return stored.get(sn, PersonCounts()) == system.person_service.counts(sn)


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
async def test_the_counts_are_right_when_the_caller_is_told(system: PersonSystem, is_stored: bool) -> None:
    await system.set(person("p1"))
    with failing_commit(system.database, is_stored=is_stored, times=1):
        assert await system.set(person("p2"), person("p3")) == [Outcome.UNAVAILABLE] * 2
    assert system.person_service.counts("T1").pending == (3 if is_stored else 1)
    assert await is_counted(system)
    # Done again, as the broker delivers the message again.
    assert await system.set(person("p2"), person("p3")) == [Outcome.ACCEPTED] * 2
    assert system.person_service.counts("T1") == PersonCounts(desired=3, pending=3)
    system.connect()
    await system.settled()
    assert system.person_service.counts("T1") == PersonCounts(desired=3, confirmed=3)
    assert await is_counted(system)


async def test_a_change_that_was_stored_all_the_same_is_delivered(system: PersonSystem) -> None:
    connection = system.connect(answer=silent)
    await system.set(person("p1"), request_id="first")
    await until(lambda: sent(connection) == ["set p1"])
    with failing_commit(system.database, is_stored=True, times=1):
        assert await system.remove("p1", request_id="second") == [Outcome.UNAVAILABLE]
    # Its worker had read the person before: it must read again.
    connection = system.connect()
    await system.settled()
    assert sent(connection) == ["remove p1"]
    assert await system.final_outcomes(2) == [("first", "p1", "superseded"), ("second", "p1", "ok")]
    assert system.person_service.counts("T1") == PersonCounts()


@pytest.mark.slow
@pytest.mark.parametrize("is_redelivered", [False, True], ids=["tried again", "delivered again"])
async def test_a_removal_whose_commit_answer_is_lost_by_the_network(
    postgresql: PostgreSQL, *, is_redelivered: bool
) -> None:
    url = await postgresql.new_url()
    async with SwallowingProxy(postgresql.port).running() as proxy:
        place = url.replace(f":{postgresql.port}/", f":{proxy.port}/")
        async with person_system(place) as system:
            connection = system.connect()
            await system.set(person("p1"), request_id="first")
            await system.settled()
            assert await system.final_outcomes(1) == [("first", "p1", "ok")]
            message = ReceivedMessage(digest="x", packet_id=7)
            change = RemovePersons(ids=("p1",), request_id="second")
            request = PersonCommand(sns=("T1",), change=change, origin=ORIGIN, received_at=0, message=message)
            proxy.swallow_next_answer()
            ((reply,),) = await system.person_service.change([request])
            assert (reply.outcome, proxy.swallowed) == (Outcome.UNAVAILABLE, 1)
            if is_redelivered:
                message = ReceivedMessage(digest="x", packet_id=7, is_redelivered=True)
                request = replace(request, message=message)
            ((reply,),) = await system.person_service.change([request])
            assert reply.outcome in (Outcome.ACCEPTED, Outcome.OK)
            await system.settled()
            assert sent(connection) == ["set p1", "remove p1"]
            assert await system.final_outcomes(1) == [("second", "p1", "ok")]
            assert await is_counted(system)
            assert system.person_service.counts("T1") == PersonCounts()


async def test_final_replies_of_what_was_stored_reach_the_audit(system: PersonSystem) -> None:
    settled = collect(system.events, PersonSettled)
    await system.set(person("p1"), request_id="first")
    with failing_commit(system.database, is_stored=False, times=1):
        await system.remove("p1", request_id="second")
    with failing_commit(system.database, is_stored=True, times=1):
        await system.remove("p1", request_id="third")
    replies = [one.reply for one in settled if isinstance(one, PersonSettled)]
    assert [(reply.request_id, reply.outcome) for reply in replies] == [("first", Outcome.SUPERSEDED)]


async def test_answers_whose_commit_fails_are_stored_once(system: PersonSystem) -> None:
    await system.set(person("p1"), person("p2"), request_id="r")
    with failing_commit(system.database, is_stored=True, times=1):
        connection = system.connect()
        await system.settled()
    assert await system.final_outcomes(2) == [("r", "p1", "ok"), ("r", "p2", "ok")]
    assert sent(connection) == ["set p1", "set p2"]
    assert system.person_service.counts("T1") == PersonCounts(desired=2, confirmed=2)
    assert await is_counted(system)


async def test_a_terminal_stays_uncertain_until_the_store_can_be_read(system: PersonSystem) -> None:
    changed = collect(system.events, PersonsChanged)
    is_failing = True

    def fail(_connection: StoreConnection) -> None:
        if is_failing and system.transactions.is_uncertain("T1"):
            raise OSError(5, "the store is gone")

    event.listen(system.database.engine, "begin", fail)
    with failing_commit(system.database, is_stored=True, times=1):
        assert await system.set(person("p1")) == [Outcome.UNAVAILABLE]
    assert system.transactions.is_uncertain("T1")
    assert not changed
    connection = system.connect()
    await asyncio.sleep(0.05)
    # Nothing is sent while it is not known what must be sent.
    assert connection.frames == []
    is_failing = False
    await until(lambda: not system.transactions.is_uncertain("T1"))
    await system.settled()
    assert sent(connection) == ["set p1"]
    assert system.person_service.counts("T1") == PersonCounts(desired=1, confirmed=1)


async def test_changes_meanwhile_are_counted_once(system: PersonSystem) -> None:
    with failing_commit(system.database, is_stored=True, times=1):
        async with asyncio.TaskGroup() as group:
            group.create_task(system.set(person("p1")))
            group.create_task(system.set(person("p2")))
            group.create_task(system.set(person("p3"), sn="T2"))
            group.create_task(system.remove("p1"))
    await until(lambda: not system.transactions.running)
    assert await is_counted(system)
    assert await is_counted(system, "T2")


async def test_external_changes_are_not_lost(system: PersonSystem) -> None:
    def change(connection: StoreConnection) -> None:
        connection.exec_driver_sql("UPDATE person_entry SET delivery = 'confirmed'")
        note_external_changes(connection, ["T1"])

    await system.set(person("p1"))
    await system.database.write(change)
    with failing_commit(system.database, is_stored=True, times=1), suppress(UnavailableError):
        await system.transactions.take_external_changes()
    assert system.person_service.counts("T1") == PersonCounts(desired=1, confirmed=1)
