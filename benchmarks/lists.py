"""Measures the lists and the search of persons over many entries, as the page and `GET /api/persons` read them.

Run `python -m benchmarks.lists`; `--help` lists the options. It fills a store (SQLite, or `--url` of an empty database)
with persons on terminals, and reads the first page of each list several times, on the store's reader threads. It prints
the shortest time and processor time: other programs only add to them. The target is 200 ms with 100,000 persons, of
10 terminals each, and 10,000 known terminals.
"""

import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import perf_counter, process_time

import click
from sqlalchemy import Connection, text

from benchmarks.event_loop import run
from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, GroupPerson, PersonEntry
from bridge.model.person_summary import PersonFilter
from bridge.persons.reading import PersonReader
from bridge.store import group_queries, person_queries
from bridge.store.database import Database
from bridge.store.photos import PLAIN, add_photos

_PHOTO = "0" * 64
_ROWS = 2_000
_REPETITIONS = 5
_PAGE = 100
_RARE = 1_000
"""One person in so many is refused on every terminal."""

_FIRST = ("Ada", "Grace", "Linus", "Margaret", "Edsger", "Barbara", "Änne", "李")
_LAST = ("Lovelace", "Hopper", "Torvalds", "Hamilton", "Dijkstra", "Liskov", "Müller", "王")


def fill(connection: Connection, persons: int, of_each: int, terminals: int) -> None:
    """Store persons on `of_each` of the terminals each, and all of them in a group."""
    random, now = Random(1), datetime.now(UTC)
    add_photos(connection, PLAIN, {_PHOTO: b"a stand-in"})
    revision = person_queries.next_revisions(connection, persons * (of_each + 1))
    entries: list[PersonEntry] = []
    kept: list[GroupPerson] = []
    for number in range(persons):
        name = f"{random.choice(_FIRST)} {random.choice(_LAST)} {random.randrange(10**6)}"
        person = Person(id=f"{number:06}", name=name, photo=_PHOTO)
        delivery = DeliveryState.CONFIRMED if number % _RARE else DeliveryState.REFUSED
        first = number * of_each
        entries += [
            PersonEntry(
                sn=f"T{(first + one) % terminals:05}",
                person_id=person.id,
                revision=revision + first + one,
                person=person,
                changed_at=now,
                delivery=delivery,
                confirmed_revision=revision + first + one,
                status=0 if delivery is DeliveryState.CONFIRMED else 3,
                access=("",),
            )
            for one in range(of_each)
        ]
        kept.append(
            GroupPerson(group="staff", revision=revision + persons * of_each + number, person=person, changed_at=now)
        )
        if len(entries) >= _ROWS or number == persons - 1:
            person_queries.put_entries(connection, entries)
            group_queries.put_kept(connection, kept)
            entries, kept = [], []


async def measure(name: str, read: Callable[[], Awaitable[tuple[object, int]]]) -> None:
    """Read a list several times; print the shortest times."""
    times: list[tuple[float, float]] = []
    total = 0
    for _ in range(_REPETITIONS):
        since, processor = perf_counter(), process_time()
        _, total = await read()
        times.append((perf_counter() - since, process_time() - processor))
    elapsed, processor = (min(one[kind] for one in times) * 1000 for kind in (0, 1))
    print(f"{name:<52} {elapsed:7.1f} ms   processor {processor:7.1f} ms   {total:>9,} in all", flush=True)


async def _measure(url: str, persons: int, of_each: int, terminals: int) -> None:
    database = await Database.open(url)
    since = perf_counter()
    await database.write(fill, persons, of_each, terminals)
    if database.engine.dialect.name == "postgresql":
        # Autovacuum does this within minutes of such a change.
        await database.write(lambda connection: connection.execute(text("ANALYZE")))
    print(f"{persons * of_each:,} entries stored: {perf_counter() - since:.0f} s", flush=True)
    reader = PersonReader(database, PLAIN)
    filters = {
        "all persons": PersonFilter(),
        "q=dijkstra (one in eight)": PersonFilter(q="dijkstra"),
        "q=4711 (few)": PersonFilter(q="4711"),
        "q=nowhere (none)": PersonFilter(q="nowhere"),
        **{f"delivery={state.value}": PersonFilter(delivery=state) for state in DeliveryState},
        "delivery=refused&q=dijkstra": PersonFilter(delivery=DeliveryState.REFUSED, q="dijkstra"),
        "delivery=confirmed&q=4711": PersonFilter(delivery=DeliveryState.CONFIRMED, q="4711"),
    }
    for name, wanted in filters.items():
        await measure(f"/api/persons  {name}", lambda wanted=wanted: reader.persons(_PAGE, wanted=wanted))  # type: ignore[misc]
    middle = f"{persons // 2:06}"
    await measure("/api/persons  all persons, a page in the middle", lambda: reader.persons(_PAGE, after=middle))
    for name, wanted in list(filters.items())[:3]:
        await measure(
            f"/api/terminals/T00000/persons  {name}",
            lambda wanted=wanted: reader.on_terminal("T00000", _PAGE, wanted=wanted),  # type: ignore[misc]
        )
        await measure(
            f"/api/groups/staff/persons  {name}",
            lambda wanted=wanted: reader.in_group("staff", _PAGE, q=wanted.q),  # type: ignore[misc]
        )
    await database.close()


@click.command()
@click.option("--persons", default=100_000, show_default=True)
@click.option("--of-each", default=10, show_default=True, help="Terminals that should hold each person.")
@click.option("--terminals", default=10_000, show_default=True)
@click.option("--url", default=None, help="Of an empty database; without it a new SQLite file.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/var/tmp"), show_default=True)
def main(persons: int, of_each: int, terminals: int, url: str | None, folder: Path) -> None:
    """Measure the lists of persons."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        run(_measure(url or f"sqlite:///{place}/store.db", persons, of_each, terminals))


if __name__ == "__main__":
    main()
