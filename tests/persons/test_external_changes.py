"""The bridge counts, sends and reports the changes that another program makes in its store."""

import asyncio
import base64
from pathlib import Path
from typing import Any

from bridge.core.event_bus import EventBus
from bridge.model.events import PersonsChanged
from bridge.model.origin import Origin
from bridge.model.person_entry import RequestContext
from bridge.model.terminal import PersonCounts
from bridge.persons import changes
from bridge.persons.maintenance import PhotoGarbageCollector
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.store.database import Database
from bridge.store.person_queries import entry as entry_of
from bridge.store.photos import PLAIN
from tests.persons.person_system import PHOTO, PersonSystem, person, person_system, sent
from tests.support.waiting import until

REQUEST = RequestContext(
    command="removePerson", request_id="outside", origin=Origin(source="test"), received_at=0, boot_id="another"
)


class OtherProgram:
    """Another program on the same store."""

    def __init__(self, database: Database, system: PersonSystem) -> None:
        self.transactions = TransactionRunner(
            PersonContext(database=database, cipher=PLAIN, events=EventBus(), clock=system.clock, boot_id="this boot"),
            is_external=True,
        )

    async def remove(self, *person_ids: str, sn: str = "T1") -> None:
        await self.transactions.run(lambda one: changes.remove_persons(one, sn, person_ids, REQUEST))

    async def copy(self, source: str, sn: str, *person_ids: str) -> list[str]:
        return await self.transactions.run(
            lambda one: changes.copy_persons(one, changes.CopySource(sn=source), sn, person_ids, REQUEST)
        )


async def test_an_external_change_is_sent_counted_and_reported(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        connection = system.connect()
        await system.set(person("p1"), person("p2"), request_id="inside")
        await system.settled()
        changed: list[PersonsChanged] = []
        system.events.subscribe(PersonsChanged, changed.append, name="test")
        other = await Database.open(f"sqlite:///{tmp_path}/store.db")
        await OtherProgram(other, system).remove("p1")
        await until(lambda: system.person_service.counts("T1") == PersonCounts(desired=1, confirmed=1))
        await other.close()
        assert sent(connection)[-1] == "remove p1"
        assert changed
        assert await system.final_outcomes(3) == [
            ("inside", "p1", "ok"),
            ("inside", "p2", "ok"),
            ("outside", "p1", "ok"),
        ]


async def test_an_external_change_supersedes_a_pending_one(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        connection = system.connect(answer=lambda _: None)
        await system.set(person("p1"), person("p2"), request_id="inside")
        await until(lambda: sent(connection) == ["set p1"])
        other = await Database.open(f"sqlite:///{tmp_path}/store.db")
        await OtherProgram(other, system).remove("p2")
        await other.close()
        assert await system.final_outcomes(1) == [("inside", "p2", "superseded")]
        system.connect()
        await system.settled()
        assert set(await system.delivery()) == {"p1"}


async def test_changes_while_no_bridge_runs_are_sent_at_the_start(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"))
        other = await Database.open(f"sqlite:///{tmp_path}/store.db")
        outside = OtherProgram(other, system)
        await system.person_service.stop()
        await outside.remove("p1")
    async with person_system(tmp_path) as system:
        connection = system.connect()
        await system.settled()
        assert sent(connection) == ["remove p1"]
    await other.close()


async def test_an_unused_photo_is_soon_erased(tmp_path: Path) -> None:
    def on_the_disk() -> bool:
        return any(base64.b64decode(PHOTO)[300:400] in path.read_bytes() for path in tmp_path.glob("store.db*"))

    async with person_system(tmp_path) as system, asyncio.TaskGroup() as group:
        collector = PhotoGarbageCollector(system.database, delay_seconds=0.01)
        system.transactions.listen(collector.committed)
        running = group.create_task(collector.run())
        await system.set(person("1"), person("2"))
        assert on_the_disk()
        await system.remove("1")
        assert on_the_disk()
        other = await Database.open(f"sqlite:///{tmp_path}/store.db")
        await OtherProgram(other, system).remove("2")
        await until(lambda: not on_the_disk())
        await system.set(person("1"))
        assert on_the_disk()
        await system.remove_everyone()
        await until(lambda: not on_the_disk())
        await other.close()
        running.cancel()


async def test_only_differing_persons_are_copied(tmp_path: Path) -> None:
    weekly: dict[str, Any] = {"default": "09:00-17:00"}
    async with person_system(tmp_path) as system:
        await system.set(person("p1", weekly=weekly), person("p2"), person("p3"), person("p4", enabled=False))
        await system.set(person("p1", weekly=weekly), person("p2", weekly=weekly), sn="T2")
        await system.remove("p3")
        outside = OtherProgram(system.database, system)
        assert await outside.copy("T1", "T2", "p1", "p2", "p3", "p4", "unknown") == ["p2", "p4"]
        assert await outside.copy("T1", "T2", "p1", "p2", "p4") == []
        entry = await system.read(entry_of, "T2", "p2")
        assert entry is not None
        assert entry.person is not None
        # The terminal has a rule that must be overwritten.
        assert entry.person.weekly_taken_back
        assert set(await system.delivery("T2")) == {"p1", "p2", "p4"}
