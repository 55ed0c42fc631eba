"""Damaged names for searches refuse no change, and the next start of the bridge builds them again."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.model.person_summary import PersonFilter
from bridge.model.reply import Outcome
from bridge.store.database import Database
from bridge.store.inspection import inspect_store
from bridge.store.integrity import IntegrityCheck
from bridge.store.person_reading import person_page
from bridge.store.photos import PLAIN
from tests.persons.person_system import PersonSystem, person, person_system
from tests.persons.test_groups import GroupSystem
from tests.support.damage import damage_pages_with, damage_root_page
from tests.support.waiting import until

PERSONS = 300

DAMAGES: list[Callable[[Path], None]] = [
    lambda store: damage_root_page(store, "person_name"),
    # Only this table has names in lower case.
    lambda store: damage_pages_with(store, "name of p15"),
]


class Integrity:
    """The check of the store, as the bridge runs it.

    Attributes:
        reports: what it has reported.
    """

    def __init__(self, database: Database) -> None:
        self.reports: list[str | None] = []
        self.check = IntegrityCheck(database, PLAIN, lambda: datetime(2026, 11, 28, tzinfo=UTC), self.reports.append)


@asynccontextmanager
async def bridge(folder: Path) -> AsyncIterator[tuple[PersonSystem, Integrity]]:
    """Run what a bridge runs on a store: first the check, then the persons' service."""
    database = await Database.open(f"sqlite:///{folder}/store.db")
    integrity = Integrity(database)
    await integrity.check.begin()
    system = PersonSystem(database)
    await system.person_service.start()
    running = asyncio.get_running_loop().create_task(integrity.check.run())
    try:
        yield system, integrity
    finally:
        running.cancel()
        system.photos.close()
        await system.person_service.stop()
        await database.close()


async def fill(folder: Path) -> Path:
    async with person_system(folder) as system:
        await system.set(*(person(f"p{number:03}") for number in range(PERSONS)))
        groups = GroupSystem(system)
        await groups.put("T9", "staff")
        await groups.set("staff", person("kept"))
    return folder / "store.db"


async def found(system: PersonSystem, q: str) -> list[str]:
    persons, total = await system.read(person_page, PersonFilter(q=q), None, 1000)
    assert total == len(persons)
    return [one.id for one in persons]


@pytest.mark.parametrize("damage", DAMAGES, ids=["root page", "leaf page"])
async def test_changes_are_stored_and_the_next_start_builds_the_names(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    store = await fill(tmp_path)
    damage(store)
    async with bridge(tmp_path) as (system, integrity):
        # The first ones run together, as the writer takes them into one transaction.
        changes = [
            system.set({"id": "p150", "name": "Grace"}),
            system.set(person("p15a"), sn="T2"),
            system.remove("p151"),
        ]
        assert await asyncio.gather(*changes) == [[Outcome.ACCEPTED]] * 3
        assert await system.set(person("later")) == [Outcome.ACCEPTED]
        system.connect()
        await system.settled()
        assert (await system.final_outcomes(1))[0][2] in ("ok", "superseded")
        await until(lambda: bool(integrity.reports))
        assert "names for searches in the store are damaged" in (integrity.reports[-1] or "")
        assert "restart the bridge" in (integrity.reports[-1] or "")
    assert (await inspect_store(f"sqlite:///{store}", ())).names_damaged
    async with bridge(tmp_path) as (system, integrity):
        await until(lambda: integrity.reports[-1] is None)
        assert await found(system, "grace") == ["p150"]
        assert await found(system, "p15a") == ["p15a"]
        assert await found(system, "kept") == ["kept"]
        assert await found(system, "p151") == []
        assert len(await found(system, "name of p")) == PERSONS - 2 + 1
        assert await system.set({"id": "p150", "name": "Ada"}) == [Outcome.ACCEPTED]
        assert await found(system, "ada") == ["p150"]
        assert await integrity.check.check() is None
    inspection = await inspect_store(f"sqlite:///{store}", ())
    assert (inspection.names_damaged, inspection.damage) == (False, None)
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA quick_check(person_name)").fetchone() == ("ok",)
        # A rebuilt file has no unused pages either.
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_the_check_of_the_store_finds_damaged_names(tmp_path: Path) -> None:
    damage_root_page(await fill(tmp_path), "person_name")
    async with bridge(tmp_path) as (system, integrity):
        assert "names for searches" in (await integrity.check.check() or "")
        assert await system.set({"id": "p150", "name": "Grace"}) == [Outcome.ACCEPTED]
    async with bridge(tmp_path) as (system, integrity):
        await until(lambda: integrity.reports[-1] is None)
        assert await found(system, "grace") == ["p150"]


async def test_an_interrupted_repair_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage_root_page(await fill(tmp_path), "person_name")
    async with bridge(tmp_path) as (system, _):
        await system.set({"id": "p150", "name": "Grace"})
    with monkeypatch.context() as context:
        context.setattr("bridge.store.name_repair._PAUSE_SECONDS", 3600)
        async with bridge(tmp_path) as (system, integrity):
            assert "names for searches" in (integrity.reports[-1] or "")
            assert await system.set({"id": "p299", "name": "Grace"}) == [Outcome.ACCEPTED]
    async with bridge(tmp_path) as (system, integrity):
        await until(lambda: integrity.reports[-1] is None)
        assert await found(system, "grace") == ["p150", "p299"]


async def test_another_damage_is_not_taken_for_that_of_the_names(tmp_path: Path) -> None:
    damage_pages_with(await fill(tmp_path), '"Name of p150"')
    async with bridge(tmp_path) as (system, _):
        assert await system.set({"id": "p150", "name": "Grace"}) == [Outcome.INVALID]
        assert await system.set(person("new")) == [Outcome.ACCEPTED]
        assert await found(system, "new") == ["new"]
