"""Measures groups that keep persons: size of the store, changes, joining and leaving, start-up, memory.

Run `python -m benchmarks.groups`; `--help` lists the options. It prints Markdown tables, for docs/persons.md, and how
long it took. It works on the persons' service with its SQLite file on a real disk, without a broker and without
connected terminals: these would only wait for the store.

1. Many persons in `all`, with a few terminals: the size of a row, a change of one person on all terminals, long lists
   for one terminal, a terminal that joins and leaves, a start.
2. A few persons in a group with many terminals: changes of one person and of ten, a terminal that joins and leaves.
3. All terminals join a group at the same start.

The rows of all terminals but one are copied with SQL, because the joins would take most of the time. "Longest" is the
longest time for which one transaction held the writer's lock, the commit included, and its processor time.
"""

import asyncio
import json
import os
import resource
import sqlite3
import sys
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
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
from bridge.app import tune_interpreter
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
from bridge.persons.transactions import DIRECT_ROWS
from bridge.simulator.faces import sample_photo
from bridge.store import group_change_queries, group_queries
from bridge.store.database import Database
from bridge.store.engine import WriterConnection
from bridge.store.person_queries import next_revisions
from bridge.store.photos import PLAIN, add_photos

_PHOTO_BYTES = 200
"""The photos are stand-ins: what is measured are the rows that refer to them."""

_STEP = 1000

_LIST_PERSONS = 10_000
"""Persons of a list for one terminal: the most that a message may have."""

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


@dataclass(slots=True)
class Table:
    """What was measured in one scenario.

    Attributes:
        title: what the scenario is.
        rows: what was measured, how long it took, the processor time for each entry, and the longest transaction.
    """

    title: str
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def note(self, name: str, value: str) -> None:
        """Add a row that is not about transactions."""
        self.rows.append((name, value, "", ""))
        print(f"  {name}: {value}", file=sys.stderr, flush=True)

    def print(self) -> None:
        """Print the table in Markdown."""
        print(f"\n| {self.title} | processor | each entry | longest transaction |\n|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join(row) + " |")
        sys.stdout.flush()


class System:
    """A persons' service on a store."""

    def __init__(self, database: Database, terminals: int, groups: tuple[str, ...], table: Table) -> None:
        clock, events = Clock(), EventBus()
        self.table = table
        self.database = database
        self.transactions = Transactions()
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
        await self._change(PersonCommand(group=group, sns=sns, change=change, origin=_ORIGIN))

    async def change_terminal(self, sn: str, change: PersonChange) -> None:
        """Change persons of a terminal."""
        await self._change(PersonCommand(sn=sn, sns=(sn,), change=change, origin=_ORIGIN))

    async def _change(self, command: PersonCommand) -> None:
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

    async def measure(self, name: str, work: Coroutine[Any, Any, None], rows: int) -> None:
        """Run and note a measurement of a change of so many entries."""
        self.transactions.longest_ms()
        since, processor = perf_counter(), process_time()
        await work
        seconds, processor = perf_counter() - since, process_time() - processor
        longest, on_processor = self.transactions.longest_ms()
        self.table.rows.append(
            (
                name,
                f"{processor:.2f} s",
                f"{processor / max(rows, 1) * 1000:.2f} ms",
                f"{longest:.0f} ms, processor {on_processor:.0f} ms" if longest else "",
            )
        )
        print(f"  {name}: {seconds:.2f} s, longest {longest:.0f} ms", file=sys.stderr, flush=True)


@asynccontextmanager
async def system(
    folder: Path,
    table: Table,
    terminals: int,
    groups: tuple[str, ...] = (),
    fill: Callable[[Connection], None] | None = None,
) -> AsyncIterator[System]:
    """Run a service on the store in the folder, as long as the block lasts."""
    database = await Database.open(f"sqlite:///{folder}/store.db")
    if fill is not None:
        await database.write(fill)
        await database.checkpoint()
    running = System(database, terminals, groups, table)

    def begin(writer: WriterConnection) -> AbstractContextManager[Connection]:
        return running.transactions.timed(writer)

    with patch.object(WriterConnection, "begin", begin):
        processor = process_time()
        await running.service.start()
        if terminals:
            table.note("a start of the persons' service", f"{process_time() - processor:.2f} s, {_memory_mb():.0f} MB")
        # Otherwise garbage collections make some transactions 40 ms longer.
        tune_interpreter()
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


async def measure_all(folder: Path, table: Table, persons: int, terminals: int) -> None:
    """Measure many persons in `all` with a few terminals."""
    async with system(folder, table, 0, fill=keep("all", persons)) as running:
        await _join_and_leave(running, "T0", persons, leave=False)
    before = _megabytes(folder)
    async with system(folder, table, terminals, fill=copy_entries(terminals, ())) as running:
        _note_size(running, folder, before, persons * (terminals - 1))
        await _change(running, "all", 1)
        await _change_terminal(running, "T0", min(persons, _LIST_PERSONS))
        await _join_and_leave(running, "new", persons)


async def measure_group(folder: Path, table: Table, persons: int, terminals: int) -> None:
    """Measure a few persons in a group of many terminals."""
    groups = ("staff",)
    async with system(folder, table, 0, groups, keep("staff", persons)) as running:
        await _join_and_leave(running, "T0", persons, leave=False)
    before = _megabytes(folder)
    async with system(folder, table, terminals, groups, copy_entries(terminals, groups)) as running:
        _note_size(running, folder, before, persons * (terminals - 1))
        await _change(running, "staff", 1)
        await _change(running, "staff", 10)
        await _join_and_leave(running, "new", persons)


async def measure_common_join(folder: Path, table: Table, persons: int, terminals: int) -> None:
    """Measure terminals that join a group at the same start."""
    async with system(folder, table, 0, fill=keep("staff", persons)):
        pass
    async with system(folder, table, terminals, ("staff",)) as running:
        await running.measure("all terminals join", running.jobs_done(), persons * terminals)
        running.table.note("size of the store", f"{_megabytes(folder):,.0f} MB")


def _note_size(running: System, folder: Path, before_mb: float, rows: int) -> None:
    size = _megabytes(folder)
    row_bytes = (size - before_mb) * 2**20 / max(rows, 1)
    running.table.note("size of the store", f"{size:,.0f} MB, {row_bytes:.0f} bytes an entry")


async def _change_terminal(running: System, sn: str, persons: int) -> None:
    ids = tuple(f"{number:06}" for number in range(persons))
    partial = SetPersons(persons=[{"id": one, "name": "On a list"} for one in ids])
    await running.measure(
        f"set {persons:,} on one terminal, single fields", running.change_terminal(sn, partial), persons
    )
    remove = running.change_terminal(sn, RemovePersons(ids=ids))
    await running.measure(f"remove {persons:,} from one terminal", remove, persons)


async def _change(running: System, group: str, persons: int) -> None:
    members = len(running.registry.members(group))
    photo = b64encode(sample_photo(1, (64, 80))).decode()
    complete = [{"id": f"{number:06}", "name": "Changed", "photo": photo} for number in range(persons)]
    partial = [{"id": f"{number:06}", "name": "Again"} for number in range(persons)]
    rows = persons * members

    async def change(name: str, change: PersonChange) -> None:
        # The reply comes after the acceptance; the entries of many members change afterwards.
        await running.measure(f"{name}: until accepted", running.change(group, change), rows)
        if rows > DIRECT_ROWS:
            await running.measure("… until all members are stored", running.jobs_done(), rows)

    # The first one starts the processes that decode photos.
    await running.change(group, SetPersons(persons=complete))
    await running.jobs_done()
    await change(f"set {persons}, complete", SetPersons(persons=complete))
    await change(f"set {persons}, single fields", SetPersons(persons=partial))
    await change(f"remove {persons}", RemovePersons(ids=tuple(f"{number:06}" for number in range(persons))))
    await running.change(group, SetPersons(persons=complete))
    during = running.change(group, SetPersons(persons=partial))
    await running.measure(f"set {persons}, single fields, during a set: until accepted", during, rows)
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
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def _measure(options: dict[str, int], place: Path) -> None:
    terminals, members = options["all_terminals"], options["group_terminals"]
    persons, kept, joined = options["all_persons"], options["group_persons"], options["join_persons"]
    steps = (
        (measure_all, persons, terminals, f"{persons:,} persons in `all` with {terminals} terminals"),
        (measure_group, kept, members, f"{kept:,} persons in a group of {members} terminals"),
        (measure_common_join, joined, members, f"{members} terminals join a group of {joined:,} persons at once"),
    )
    for step, number, of_terminals, title in steps:
        if number:
            table = Table(title)
            print(title, file=sys.stderr)
            since, processor = perf_counter(), process_time()
            with tempfile.TemporaryDirectory(dir=place) as folder:
                await step(Path(folder), table, number, of_terminals)
            seconds, processor = perf_counter() - since, process_time() - processor
            table.note("all of this measurement", f"{processor:.0f} s, {seconds:.0f} s in all")
            table.print()


@click.command()
@click.option("--all-persons", default=100_000, show_default=True, help="Persons in `all`; 0 leaves it out.")
@click.option("--all-terminals", default=20, show_default=True)
@click.option("--group-persons", default=1_000, show_default=True, help="Persons in a group; 0 leaves it out.")
@click.option("--group-terminals", default=500, show_default=True)
@click.option("--join-persons", default=1_000, show_default=True, help="Persons of a group that all join; 0: none.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/var/tmp"), show_default=True)
def main(folder: Path, **options: int) -> None:
    """Measure groups that keep persons."""
    since = perf_counter()
    print(json.dumps(options), f"{os.cpu_count()} cores")
    run(_measure(options, folder))
    print(f"\nAll measurements took {(perf_counter() - since) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
