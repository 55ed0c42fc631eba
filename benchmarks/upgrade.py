"""Measures the upgrade of a large store of an earlier schema, and counts what is sent to the terminals afterwards.

Run `python -m benchmarks.upgrade`; `--help` lists the options. It creates a store of schema 0002 with confirmed
persons on each terminal, opens it with this version, starts the persons' service, and connects every terminal. No frame
may be sent: an upgrade changes nothing on the terminals.

    python -m benchmarks.upgrade --url postgresql://user@host/an_empty_database
"""

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import perf_counter

import click
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

import bridge.store
from benchmarks.event_loop import run
from bridge.core.clock import Clock, read_boot_id
from bridge.core.event_bus import EventBus
from bridge.core.ports import WrittenFrame
from bridge.core.registry import TerminalRegistry
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.persons.preparation import PhotoPreparer
from bridge.persons.service import PersonOptions, PersonService
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.simulator.faces import sample_photo
from bridge.store.database import Database
from bridge.store.engine import create_engine, parse_url
from bridge.store.photos import PLAIN

_SCHEMA = "0002"

_WATCHED_SECONDS = 5.0
"""Time for which frames are counted. A change that is due is sent within milliseconds."""

_ROWS = 10_000


class CountingConnection:
    """A terminal's connection that counts frames."""

    responsive = True
    address = "192.0.2.1"

    def __init__(self, sn: str) -> None:
        self.sn = sn
        self.connected_at = self.last_seen = datetime.now(UTC)
        self.frames = 0

    async def send(self, _frame: bytes) -> None:
        """Count a frame."""
        self.frames += 1

    def send_urgent(self, _frame: bytes) -> WrittenFrame | None:
        """Count a frame."""
        self.frames += 1
        return WrittenFrame(0, 0)

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def delivered(self, _written: WrittenFrame) -> bool | None:
        """Return that it is delivered."""
        return True

    async def probe(self) -> None:
        """Do nothing."""

    def reset(self, _reason: str) -> None:
        """Do nothing."""

    async def close(self, _reason: str) -> None:
        """Do nothing."""


def fill(url: str, persons: int, terminals: int) -> None:
    """Create a store of the earlier schema."""
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(bridge.store.__file__).with_name("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, _SCHEMA)
        _add_rows(connection, persons, terminals)
    engine.dispose()


def _add_rows(connection: Connection, persons: int, terminals: int) -> None:
    connection.execute(text("INSERT INTO photo (sha256, jpeg) VALUES ('photo', :jpeg)"), {"jpeg": sample_photo(1)})
    insert = text(
        "INSERT INTO person_entry (sn, person_id, revision, desired, photo_sha256, held, delivery, confirmed_revision,"
        " status, message, changed_at) VALUES (:sn, :person_id, :revision, :desired, 'photo', true, 'confirmed',"
        " :revision, 0, 'ok', '2026-11-24 08:00:00')"
    )
    for number in range(terminals):
        for start in range(0, persons, _ROWS):
            connection.execute(
                insert,
                [
                    {
                        "sn": f"T{number}",
                        "person_id": f"{one:06}",
                        "revision": number * persons + one + 1,
                        "desired": f'{{"id": "{one:06}", "name": "Person {one}", "photo": "photo", "enabled": true}}',
                    }
                    for one in range(start, min(start + _ROWS, persons))
                ],
            )
    revision = {"last": persons * terminals}
    connection.execute(text("UPDATE counter SET value = :last WHERE name = 'revision'"), revision)


async def count_frames(url: str, terminals: int) -> None:
    """Upgrade the store, start the service, connect the terminals, and print the times and the frames."""
    since = perf_counter()
    database = await Database.open(url)
    print(f"upgrade: {perf_counter() - since:.1f} s", flush=True)
    clock, events = Clock(), EventBus()
    registry = TerminalRegistry(events, clock)
    for number in range(terminals):
        registry.put(Terminal(sn=f"T{number}", origin=TerminalOrigin.CONFIGURED, groups=("staff",)))
    context = PersonContext(database=database, cipher=PLAIN, events=events, clock=clock, boot_id=read_boot_id())
    photos = PhotoPreparer()
    service = PersonService(
        registry,
        TransactionRunner(context),
        photos,
        PersonOptions(timezone=UTC),
        new_msgid=lambda: "m1",
        random=Random(1).random,
    )
    since = perf_counter()
    await service.start()
    print(f"start of the persons' service: {perf_counter() - since:.1f} s", flush=True)
    connections = [CountingConnection(f"T{number}") for number in range(terminals)]
    for connection in connections:
        registry.connected(connection)
    await asyncio.sleep(_WATCHED_SECONDS)
    confirmed = sum(service.counts(connection.sn).confirmed for connection in connections)
    print(f"confirmed persons: {confirmed:,}; frames sent to terminals: {sum(one.frames for one in connections)}")
    photos.close()
    await service.stop()
    await database.close()


async def _measure(url: str, persons: int, terminals: int) -> None:
    since = perf_counter()
    await asyncio.to_thread(fill, url, persons, terminals)
    print(
        f"{persons * terminals:,} persons of {terminals} terminals stored: {perf_counter() - since:.1f} s", flush=True
    )
    await count_frames(url, terminals)


@click.command()
@click.option("--persons", default=100_000, show_default=True, help="Persons on each terminal.")
@click.option("--terminals", default=20, show_default=True)
@click.option("--url", default=None, help="Of an empty database; without it a new SQLite file.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/var/tmp"), show_default=True)
def main(persons: int, terminals: int, url: str | None, folder: Path) -> None:
    """Measure the upgrade of a large store."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("bridge.store.schema").setLevel("INFO")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        run(_measure(url or f"sqlite:///{place}/store.db", persons, terminals))


if __name__ == "__main__":
    main()
