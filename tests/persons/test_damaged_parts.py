"""A damaged page of the store refuses what needs it, once and with the reason, and holds up nothing else."""

import asyncio
from pathlib import Path

from bridge.model.commands import SetPersons
from bridge.model.events import StorePartDamaged
from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.protocol.replies import TerminalReply
from tests.persons.person_system import OTHER_PHOTO, PersonSystem, person, person_system, requests, sent, silent
from tests.support.core import RecordingConnection, collect
from tests.support.damage import damage_pages_with, damage_root_page
from tests.support.waiting import until

PERSONS = 300
"""Persons enough for several pages of the table."""


async def fill(folder: Path) -> Path:
    """Store persons for T1, and return the file, which contains them once the system has ended."""
    async with person_system(folder) as system:
        await system.set(*(person(f"p{number}") for number in range(PERSONS)))
    return folder / "store.db"


def answer_all(system: PersonSystem, connection: RecordingConnection) -> None:
    for request in requests(connection):
        system.registry.received(connection, TerminalReply(request.msgid, None, 0, "ok"))


async def test_only_the_changes_that_need_the_page_are_refused(tmp_path: Path) -> None:
    damage_pages_with(await fill(tmp_path), '"Name of p150"')
    async with person_system(tmp_path) as system:
        found = collect(system.events, StorePartDamaged)
        changes = [
            SetPersons(persons=[{"id": person_id, "card": "7", "name": "New", "photo": OTHER_PHOTO}])
            for person_id in ("before", "p150", "behind")
        ]
        before, damaged, behind = await system.change(*changes)
        assert [reply.outcome for reply in (*before, *behind)] == [Outcome.ACCEPTED, Outcome.ACCEPTED]
        (reply,) = damaged
        assert (reply.outcome, reply.person_id) == (Outcome.INVALID, "p150")
        assert "the store is damaged" in (reply.message or "")
        assert "send this change again" in (reply.message or "")
        assert found
        assert system.person_service.counts("T1") == PersonCounts(desired=PERSONS + 2, pending=PERSONS + 2)
        assert [one["name"] for one in await system.persons("T1", "before")] == ["New"]


async def test_a_store_that_accepts_no_change_refuses_none(tmp_path: Path) -> None:
    """The changes stay at the broker for the restored store."""
    async with person_system(tmp_path) as system:
        await system.set(person("p1"))
    damage_root_page(tmp_path / "store.db", "photo")
    async with person_system(tmp_path) as system:
        (reply,) = (await system.change(SetPersons(persons=[person("p2")])))[0]
        assert reply.outcome is Outcome.UNAVAILABLE
        assert "the store is damaged" in (reply.message or "")
        assert await system.persons("T1", "p2") == []


async def test_an_answer_that_needs_the_page_does_not_hold_up_other_answers(tmp_path: Path) -> None:
    store = await fill(tmp_path)
    async with person_system(tmp_path) as system:
        found = collect(system.events, StorePartDamaged)
        waiting = system.connect(answer=silent)
        await until(lambda: sent(waiting) == ["set p0"])
        # New connections have not read the page yet, so they read it from the file.
        await asyncio.to_thread(system.database.engine.dispose)
        await asyncio.to_thread(damage_pages_with, store, 'Name of p0"')
        answer_all(system, waiting)
        await until(lambda: len(found) == 1)
        system.connect("T2")
        assert await system.set(person("p1"), sn="T2") == [Outcome.ACCEPTED]
        await until(lambda: system.person_service.counts("T2") == PersonCounts(desired=1, confirmed=1))
        assert system.person_service.counts("T1").pending == PERSONS
