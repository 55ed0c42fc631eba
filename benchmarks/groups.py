"""Measures groups that keep persons: size of the store, changes, joining and leaving, start-up, memory.

Run `python -m benchmarks.groups`; `--help` lists the options. It works on the persons' service with its SQLite file on
a real disk, without a broker and without connected terminals: these would only wait for the store.

1. Many persons in `all`, with a few terminals: the size of a row, a change of one person on all terminals, a terminal
   that joins and leaves, a start.
2. A few persons in a group with many terminals: a change of one person and of a list, a terminal that joins and leaves,
   and all terminals that join at once.

The rows of all terminals but one are copied with SQL, because the joins would take most of the time. "Longest" is the
longest time for which one transaction held the writer's lock, the commit included.
"""

import asyncio
import json
import os
import resource
import sqlite3
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from time import perf_counter, process_time, thread_time
from typing import Any
from unittest.mock import patch

import click
from sqlalchemy import Connection, text

from benchmarks.event_loop import run
from bridge.core.clock import Clock, read_boot_id
from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonCommand
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import PersonChange, RemovePersons, SetPersons
from bridge.model.origin import Origin
from bridge.model.person import Person
from bridge.model.person_entry import GroupPerson
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.persons.preparation import PhotoPreparer
from bridge.persons.service import PersonOptions, PersonService
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.simulator.faces import sample_photo
from bridge.store import group_change_queries, group_queries
from bridge.store.database import Database
from bridge.store.engine import WriterConnection
from bridge.store.person_queries import next_revisions
from bridge.store.photos import PLAIN, add_photos

_PHOTO_BYTES = 200
"""The photos are stand-ins: what is measured are the rows that refer to them."""

_STEP = 1000

_ORIGIN = Origin(source="benchmark")

_BEGIN = WriterConnection.begin


class Transactions:
    """Times for which transactions held the writer's lock, and the processor time of the writer's thread in them."""

    def __init__(self) -> None:
        self.seconds: list[tuple[float, float]] = []

    @contextmanager
    def timed(self, writer: WriterConnection) -> Iterator[Connection]:
        """Do what `WriterConnection.begin` does."""
        with _BEGIN(writer) as connection:
            since, processor = perf_counter(), thread_time()
            yield connection
            self.seconds.append((perf_counter() - since, thread_time() - processor))

    def longest_ms(self) -> tuple[float, float]:
        """Return the longest time and the longest processor time in milliseconds, and forget all."""
        seconds, self.seconds = self.seconds, []
        elapsed, processor = (max((pair[kind] for pair in seconds), default=0.0) * 1000 for kind in (0, 1))
        return elapsed, processor


class System:
    """A persons' service on a store."""

    def __init__(self, database: Database, terminals: int, groups: tuple[str, ...], transactions: Transactions) -> None:
        clock, events = Clock(), EventBus()
        self.database = database
        self.transactions = transactions
        self.groups = groups
        self.registry = TerminalRegistry(events, clock)
        for number in range(terminals):
            self.put(f"T{number}", groups)
        context = PersonContext(database=database, cipher=PLAIN, events=events, clock=clock, boot_id=read_boot_id())
        self.photos = PhotoPreparer(folders=(), max_bytes=1_000_000, size=None)
        self.service = PersonService(
            self.registry,
            TransactionRunner(context),
            self.photos,
            PersonOptions(timezone=UTC),
            new_msgid=lambda: "m1",
            random=Random(1).random,
        )

    def put(self, sn: str, groups: tuple[str, ...]) -> None:
        """Let the registry know a terminal with these groups."""
        self.registry.put(Terminal(sn=sn, origin=TerminalOrigin.CONFIGURED, groups=groups))

    async def change(self, group: str, change: PersonChange) -> None:
        """Change persons of a group and its members."""
        sns = tuple(known.terminal.sn for known in self.registry.members(group))
        command = PersonCommand(group=group, sns=sns, change=change, origin=_ORIGIN)
        (replies,) = await self.service.change([command])
        refused = [reply for reply in replies if reply.outcome != "accepted"]
        if refused:
            raise RuntimeError(f"not accepted: {refused[0]}")

    async def jobs_done(self) -> None:
        """Wait until no change of memberships or of a group is running."""

        def is_running(connection: Connection) -> bool:
            return group_queries.has_membership_jobs(connection) or group_change_queries.has_changes(connection)

        while True:
            if not await self.database.read(is_running):
                return
            await asyncio.sleep(0.01)

    async def measure(self, name: str, work: Coroutine[Any, Any, None], rows: int) -> float:
        """Run and print a measurement; return its seconds."""
        self.transactions.longest_ms()
        since, processor = perf_counter(), process_time()
        await work
        seconds = perf_counter() - since
        processor = process_time() - processor
        longest, on_processor = self.transactions.longest_ms()
        print(
            f"{name:<40} {seconds:8.3f} s   processor {processor:7.3f} s   {rows:>7,} rows"
            f"   {processor / max(rows, 1) * 1000:6.3f} ms each"
            f"   longest {longest:6.1f} ms, processor {on_processor:5.1f} ms",
            flush=True,
        )
        return seconds


@asynccontextmanager
async def system(
    folder: Path, terminals: int, groups: tuple[str, ...] = (), fill: Callable[[Connection], None] | None = None
) -> AsyncIterator[System]:
    """Run a service on the store in the folder, as long as the block lasts."""
    transactions = Transactions()

    def begin(writer: WriterConnection) -> AbstractContextManager[Connection]:
        return transactions.timed(writer)

    with patch.object(WriterConnection, "begin", begin):
        database = await Database.open(f"sqlite:///{folder}/store.db")
        if fill is not None:
            await database.write(fill)
        running = System(database, terminals, groups, transactions)
        since = perf_counter()
        await running.service.start()
        print(f"start of the persons' service: {perf_counter() - since:.3f} s, peak memory {_memory_mb():.0f} MB")
        try:
            yield running
        finally:
            running.photos.close()
            await running.service.stop()
            await database.close()


def keep(group: str, persons: int) -> Callable[[Connection], None]:
    """Return a function that lets a group keep persons, each with a photo of its own."""
    random = Random(1)

    def fill(connection: Connection) -> None:
        now = datetime.now(UTC)
        for start in range(0, persons, _STEP):
            photos = {sha256(jpeg).hexdigest(): jpeg for jpeg in (random.randbytes(_PHOTO_BYTES) for _ in range(_STEP))}
            add_photos(connection, PLAIN, photos)
            revision = next_revisions(connection, _STEP)
            group_queries.put_kept(
                connection,
                [
                    GroupPerson(
                        group=group,
                        revision=revision + number,
                        person=Person(id=f"{start + number:06}", name=f"Person {start + number}", photo=digest),
                        changed_at=now,
                    )
                    for number, digest in enumerate(photos)
                    if start + number < persons
                ],
            )

    return fill


def copy_entries(terminals: int, groups: tuple[str, ...]) -> Callable[[Connection], None]:
    """Return a function that copies the first terminal's rows, and its groups, for the others."""

    def copy(connection: Connection) -> None:
        names = [row[1] for row in connection.execute(text("PRAGMA table_info(person_entry)"))]
        others = ", ".join(name for name in names if name not in ("sn", "asked"))
        for number in range(1, terminals):
            connection.execute(
                text(f"INSERT INTO person_entry (sn, {others}) SELECT :sn, {others} FROM person_entry WHERE sn = 'T0'"),
                {"sn": f"T{number}"},
            )
            group_queries.change_memberships(connection, f"T{number}", (), (*groups, "all"))

    return copy


async def measure_all(folder: Path, persons: int, terminals: int) -> None:
    """Measure many persons in `all` with a few terminals."""
    print(f"{persons:,} persons in `all`, {terminals} terminals", flush=True)
    async with system(folder, 0, fill=keep("all", persons)) as running:
        await _join_and_leave(running, "T0", persons, leave=False)
    before = _megabytes(folder)
    async with system(folder, terminals, fill=copy_entries(terminals, ())) as running:
        added = persons * (terminals - 1)
        size = _megabytes(folder)
        print(f"store: {size:,.0f} MB, {(size - before) * 2**20 / max(added, 1):.0f} bytes a row of a terminal")
        await _change(running, "all", 1)
        await _join_and_leave(running, "new", persons)


async def measure_group(folder: Path, persons: int, terminals: int) -> None:
    """Measure a few persons in a group of many terminals."""
    print(f"\n{persons:,} persons in a group of {terminals} terminals", flush=True)
    groups = ("staff",)
    async with system(folder, 0, groups, keep("staff", persons)) as running:
        await _join_and_leave(running, "T0", persons, leave=False)
    async with system(folder, terminals, groups, copy_entries(terminals, groups)) as running:
        print(f"store: {_megabytes(folder):,.0f} MB")
        await _change(running, "staff", 1)
        await _change(running, "staff", 10)
        await _join_and_leave(running, "new", persons)


async def measure_common_join(folder: Path, persons: int, terminals: int) -> None:
    """Measure terminals that join a group at the same start."""
    print(f"\n{terminals} terminals join a group of {persons:,} persons at once", flush=True)
    async with system(folder, 0, fill=keep("staff", persons)):
        pass
    transactions_before = perf_counter()
    async with system(folder, terminals, ("staff",)) as running:
        await running.measure("all join", running.jobs_done(), persons * terminals)
    print(f"{perf_counter() - transactions_before:.1f} s in all")


async def _change(running: System, group: str, persons: int) -> None:
    members = len(running.registry.members(group))
    photo = b64encode(sample_photo(1, (64, 80))).decode()
    complete = [{"id": f"{number:06}", "name": "Changed", "photo": photo} for number in range(persons)]
    partial = [{"id": f"{number:06}", "name": "Again"} for number in range(persons)]
    rows = persons * members

    async def change(name: str, change: PersonChange) -> None:
        # The reply comes after the acceptance; the entries of many members change afterwards.
        await running.measure(f"{name}: accepted", running.change(group, change), rows)
        await running.measure(f"{name}: stored for all members", running.jobs_done(), rows)

    # The first one starts the processes that decode photos.
    await running.change(group, SetPersons(persons=complete))
    await running.jobs_done()
    for _ in range(2):
        await change(f"set {persons}, complete", SetPersons(persons=complete))
    await change(f"set {persons}, partial", SetPersons(persons=partial))
    await change(f"remove {persons}", RemovePersons(ids=tuple(f"{number:06}" for number in range(persons))))
    await running.change(group, SetPersons(persons=complete))
    await running.measure(
        f"set {persons}, partial, during a set", running.change(group, SetPersons(persons=partial)), rows
    )
    await running.jobs_done()


async def _join_and_leave(running: System, sn: str, persons: int, *, leave: bool = True) -> None:
    async def follow() -> None:
        await running.service.follow_groups(sn)
        await running.jobs_done()

    running.put(sn, running.groups)
    await running.measure("a terminal joins", follow(), persons)
    if leave:
        # A terminal that is not known any more leaves `all`, too; here the registry must know it.
        with patch.object(Terminal, "memberships", ()):
            await running.measure("a terminal leaves", follow(), persons)


def _megabytes(folder: Path) -> float:
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        # The file alone does not have what is still in the write-ahead log.
        pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return float(pages * page_bytes / 2**20)


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _measure(options: dict[str, int], place: Path) -> None:
    steps = (
        (measure_all, options["all_persons"], options["all_terminals"]),
        (measure_group, options["group_persons"], options["group_terminals"]),
        (measure_common_join, options["join_persons"], options["group_terminals"]),
    )
    for step, persons, terminals in steps:
        if persons:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                await step(Path(folder), persons, terminals)


@click.command()
@click.option("--all-persons", default=100_000, show_default=True, help="Persons in `all`; 0 leaves it out.")
@click.option("--all-terminals", default=20, show_default=True)
@click.option("--group-persons", default=1_000, show_default=True, help="Persons in a group; 0 leaves it out.")
@click.option("--group-terminals", default=500, show_default=True)
@click.option("--join-persons", default=20, show_default=True, help="Persons of a group that all join; 0: none.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/var/tmp"), show_default=True)
def main(folder: Path, **options: int) -> None:
    """Measure groups that keep persons."""
    print(json.dumps(options), f"{os.cpu_count()} cores")
    run(_measure(options, folder))


if __name__ == "__main__":
    main()
