"""The work of `facebridge persons list`, `export`, `copy`, `verify` and `purge` on the stored persons."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click

from bridge.cli.output import (
    LongTable,
    delivery_cells,
    delivery_json,
    delivery_note,
    echo_json,
    output,
    progress_bars,
    table,
)
from bridge.cli.store_session import OpenStore, some
from bridge.cli.support import counted
from bridge.import_export.copying import copy_persons, find_persons
from bridge.import_export.exporting import export_persons
from bridge.import_export.purging import purge, unconfirmed
from bridge.import_export.writing import write_person_file
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.store.database import Database
from bridge.store.person_queries import entry as stored_entry
from bridge.store.person_queries import pages
from bridge.store.person_queries import unconfirmed as unconfirmed_entries

_POLL_SECONDS = 0.5
"""Time between two queries for confirmations."""

_NAMED = 5
"""Persons or terminals that a line names."""

_PAGE_ROWS = 1000
"""Persons that one query reads."""


async def list_persons(
    store: OpenStore, *, terminal: str | None, group: str | None, delivery: str | None, as_json: bool
) -> None:
    """Show the persons that terminals should have and the removals that they have not confirmed."""
    shown = LongTable("terminal", "id", "name", "wanted", "delivery", "status", "message", "changed")
    for sn in store.targets(terminal, group):
        async for entries in _entries(store.database, sn):
            for one in entries:
                if delivery is not None and one.delivery != delivery:
                    continue
                if as_json:
                    echo_json({"sn": sn, **one.as_json()})
                else:
                    name = "" if one.person is None else one.person.name
                    shown.add_row(store.title(sn), _shown_id(one), name, one.wanted, *delivery_cells(one))
    if not as_json:
        shown.end()


async def export(store: OpenStore, sns: Sequence[str], file: Path, photos: Path | None) -> None:
    """Write the persons of some terminals into a file."""
    with progress_bars() as progress, write_person_file(file, photos) as writer:
        exported = await export_persons(store.database, store.cipher, sns, writer, progress)
    click.echo(f"{counted(exported.persons, 'person')} written to {file}")
    if exported.differing:
        click.echo(
            f"note: {counted(exported.differing, 'person')} differ between terminals; the latest change was written"
        )
    if exported.unreadable:
        raise click.ClickException(
            f"the photos of {counted(len(exported.unreadable), 'person')} cannot be read and were left out:"
            f" {some(exported.unreadable, _NAMED)}"
        )


async def copy(store: OpenStore, *, source: str | None, from_group: str | None, target: str) -> None:
    """Copy the persons of one or more terminals to another one."""
    # Raises an error for an unknown target.
    store.targets(target, None)
    sources = [source] if source is not None else store.targets(None, from_group)
    found = await find_persons(store.database, [sn for sn in sources if sn != target])
    total = sum(map(len, found.values()))
    if not total:
        raise click.ClickException(f"{source or from_group}: no persons are stored for it")
    with progress_bars() as progress:
        changed = await copy_persons(store.context, found, target, progress)
    click.echo(f"{counted(total, 'person')} compared, {changed:,} of them new or different on {store.title(target)}")
    click.echo(delivery_note(bridge_running=store.bridge_running))


async def verify(store: OpenStore, sns: Sequence[str] | None, *, as_json: bool) -> None:
    """Show the persons that are not confirmed, of some terminals or of all; exit with 1 if there is one."""
    shown = LongTable("terminal", "id", "wanted", "delivery", "status", "message", "since")
    found = 0
    after = ("", "")
    while entries := await store.database.read(unconfirmed_entries, after, _PAGE_ROWS, sns):
        after = (entries[-1].sn, entries[-1].person_id or "")
        found += len(entries)
        for one in entries:
            if as_json:
                echo_json({"sn": one.sn, "id": one.person_id, "wanted": one.wanted.value, **delivery_json(one)})
            else:
                known = "" if one.sn in store.known else " (no longer known)"
                shown.add_row(store.title(one.sn) + known, _shown_id(one), one.wanted, *delivery_cells(one))
    if found and not as_json:
        shown.end()
    if not found and not as_json:
        click.echo("every terminal has confirmed its persons")
    if found:
        sys.exit(1)


async def purge_person(store: OpenStore, person_id: str, *, timeout_seconds: int) -> None:
    """Remove a person from every terminal, and wait until the terminals have confirmed it."""
    stored = await purge(store.context, person_id, store.known)
    if stored.is_unknown:
        click.echo(
            f"note: no terminal has a person {person_id}: check the id. The removal is sent all the same, because a"
            " device may hold the person from before"
        )
    click.echo(f"the removal of {person_id} from {counted(len(stored.sns), 'terminal')} is stored")
    if stored.dropped:
        click.echo(
            f"note: {some(stored.dropped, _NAMED)}: no longer known, so the person was deleted from the store only."
            " Delete them on the device itself"
        )
    click.echo(delivery_note(bridge_running=store.bridge_running))
    waiting: dict[str, PersonEntry] = {}
    with progress_bars() as progress:
        try:
            async with asyncio.timeout(timeout_seconds if store.bridge_running else 0):
                while True:
                    waiting = {entry.sn: entry for entry in await unconfirmed(store.database, stored, person_id)}
                    done = len(stored.sns) - len(waiting)
                    progress("confirmed", done, done / max(len(stored.sns), 1))
                    if not any(entry.delivery is DeliveryState.PENDING for entry in waiting.values()):
                        break
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            waiting = {entry.sn: entry for entry in await unconfirmed(store.database, stored, person_id)}
    if not waiting:
        click.echo("every terminal has confirmed the removal")
        return
    shown = table("terminal", "delivery", "status", "message", "since")
    for entry in waiting.values():
        shown.add_row(store.title(entry.sn), *delivery_cells(entry))
    output().print(shown)
    raise click.ClickException(
        f"{len(waiting)} of {counted(len(stored.sns), 'terminal')} have not confirmed the removal yet, so these devices"
        " may still let the person in. The removal stays stored; `facebridge persons verify` shows which terminals"
        " have not confirmed it"
    )


async def _entries(database: Database, sn: str) -> AsyncIterator[Sequence[PersonEntry]]:
    """Yield the entries of a terminal, the removal of everyone first."""
    everyone = await database.read(stored_entry, sn, None)
    if everyone is not None:
        yield [everyone]
    async for entries in pages(database, sn, _PAGE_ROWS):
        yield entries


def _shown_id(entry: PersonEntry) -> str:
    return entry.person_id or "everyone"
