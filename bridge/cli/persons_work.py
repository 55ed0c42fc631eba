"""What `facebridge persons …` does, on an open store."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson
from rich.table import Table

from bridge.cli.output import output, progress_bars
from bridge.cli.store_session import OpenStore, some
from bridge.config.settings import Settings
from bridge.import_export.checking import RowFault, check_file
from bridge.import_export.copying import copy_persons, find_persons
from bridge.import_export.differences import (
    DifferenceKind,
    Differences,
    FieldChange,
    PersonDifference,
    find_differences,
)
from bridge.import_export.errors import PersonFileError
from bridge.import_export.exporting import export_persons
from bridge.import_export.importing import apply_import
from bridge.import_export.photo_spool import PhotoSpool
from bridge.import_export.purging import purge, unconfirmed
from bridge.import_export.reading import open_person_file
from bridge.import_export.writing import write_person_file
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.model.reply import format_time
from bridge.persons.pages import pages
from bridge.persons.photos.preparation import PhotoPreparer

_LOOK = 0.5
"""Seconds between two looks at what terminals have confirmed."""

_PRUNED_UNASKED = 0.1
"""Part of a terminal's persons that is removed without asking (CONTRACT, section 7)."""

_NAMED = 5
"""Pictures, persons or terminals that a line names."""

_PAGE = 1000
"""Persons that are read together."""


async def list_persons(
    store: OpenStore, *, terminal: str | None, group: str | None, delivery: str | None, as_json: bool
) -> None:
    """Show whom terminals should hold, and how far each is."""
    table = _table("terminal", "id", "name", "delivery", "status", "message", "changed")
    for sn in store.targets(terminal, group):
        async for entries in pages(store.persons, sn, _PAGE):
            for entry in entries:
                if entry.person is None or (delivery is not None and entry.delivery != delivery):
                    continue
                if as_json:
                    _echo_json({"sn": sn, **entry.person.as_json(), **_progress_of(entry)})
                else:
                    table.add_row(store.title(sn), entry.person.id, entry.person.name, *_shown_progress(entry))
    if not as_json:
        output().print(table)


async def import_persons(
    store: OpenStore,
    settings: Settings,
    file: Path,
    *,
    terminal: str | None,
    group: str | None,
    photos: Path | None,
    prune: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Check a file, and change what differs."""
    sns = store.targets(terminal, group)
    # The bridge that runs here opens doors meanwhile.
    os.nice(10)
    preparer = PhotoPreparer(settings.photos.folders, settings.photos.max_bytes, settings.photos.size)
    try:
        with progress_bars() as progress, PhotoSpool(_spool_folder(settings)) as spool:
            with _naming(file), open_person_file(file, photos) as opened:
                checked = await check_file(opened, preparer, spool, store.context.timezone, progress)
            differences = await find_differences(store.persons, checked.persons, sns, prune=prune, progress=progress)
            _stop_on(sorted([*checked.faults, *differences.faults], key=lambda fault: fault.row))
            if prune and not checked.persons:
                raise click.ClickException("the file holds nobody: --prune would remove everyone; nothing was changed")
            if not dry_run and _is_much(differences) and not yes:
                progress.hide()
                _ask(differences)
            late: Sequence[RowFault] = ()
            if not dry_run:
                late = await apply_import(store.context, checked.persons, differences, spool, progress)
    finally:
        preparer.close()
    if checked.strays:
        click.echo(f"note: {len(checked.strays)} pictures belong to nobody in the file: {some(checked.strays, _NAMED)}")
    if dry_run:
        _show(differences)
    _sum_up(store, differences, done=not dry_run)
    _stop_on(late, "these rows have become wrong meanwhile, as somebody else changed the persons; all others are done")


async def export(store: OpenStore, file: Path, *, terminal: str | None, group: str | None, photos: Path | None) -> None:
    """Write persons into a file."""
    sns = store.targets(terminal, group)
    with _naming(file), progress_bars() as progress, write_person_file(file, photos) as writer:
        exported = await export_persons(store.persons, sns, writer, progress)
    click.echo(f"{_count(exported.persons, 'person')} written to {file}")
    if exported.differing:
        click.echo(
            f"note: {_count(exported.differing, 'person')} differ from terminal to terminal;"
            " what was changed last was written"
        )
    if exported.unreadable:
        raise click.ClickException(
            f"the photos of {_count(len(exported.unreadable), 'person')} cannot be read, so they were left out:"
            f" {some(exported.unreadable, _NAMED)}"
        )


async def copy(store: OpenStore, *, source: str | None, from_group: str | None, target: str) -> None:
    """Let a terminal hold the persons of others."""
    store.targets(target, None)
    sources = [source] if source is not None else store.targets(None, from_group)
    found = await find_persons(store.persons, [sn for sn in sources if sn != target])
    total = sum(map(len, found.values()))
    if not total:
        raise click.ClickException(f"nobody is kept for {source or from_group}")
    with progress_bars() as progress:
        changed = await copy_persons(store.context, found, target, progress)
    click.echo(f"{_count(total, 'person')} compared, {changed:,} of them new or different on {store.title(target)}")
    _say_when(store)


async def verify(store: OpenStore, *, terminal: str | None, group: str | None, as_json: bool) -> None:
    """Show what is not confirmed; exit code 1 where something is not."""
    sns = store.targets(terminal, group) if terminal or group else None
    table = _table("terminal", "id", "wanted", "delivery", "status", "message", "since")
    found = 0
    after = ("", "")
    while entries := await store.persons.unconfirmed(after, _PAGE, sns=sns):
        after = (entries[-1].sn, entries[-1].person_id or "")
        found += len(entries)
        for entry in entries:
            wanted = "held" if entry.held else "removed"
            if as_json:
                _echo_json({"sn": entry.sn, "id": entry.person_id, "wanted": wanted, **_progress_of(entry)})
            else:
                known = "" if entry.sn in store.known else " (not known any more)"
                table.add_row(
                    store.title(entry.sn) + known, entry.person_id or "everyone", wanted, *_shown_progress(entry)
                )
    if found and not as_json:
        output().print(table)
    if not found and not as_json:
        click.echo("every terminal has confirmed what it should hold")
    if found:
        sys.exit(1)


async def purge_person(store: OpenStore, person_id: str, *, patience: int) -> None:
    """Remove a person everywhere, and wait for the terminals."""
    stored = await purge(store.context, person_id, store.known)
    click.echo(f"the removal of {person_id} from {_count(len(stored.sns), 'terminal')} is stored")
    if stored.dropped:
        click.echo(
            f"note: {some(stored.dropped, _NAMED)} had them too and are not known any more; what was kept for them is"
            " gone, the devices themselves cannot be told"
        )
    _say_when(store)
    waiting: dict[str, PersonEntry] = {}
    with progress_bars() as progress:
        try:
            async with asyncio.timeout(patience if store.bridge_running else 0):
                while True:
                    waiting = {entry.sn: entry for entry in await unconfirmed(store.persons, stored, person_id)}
                    done = len(stored.sns) - len(waiting)
                    progress("confirmed", done, done / max(len(stored.sns), 1))
                    if not any(entry.delivery is DeliveryState.PENDING for entry in waiting.values()):
                        break
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            waiting = {entry.sn: entry for entry in await unconfirmed(store.persons, stored, person_id)}
    if not waiting:
        click.echo("every terminal has confirmed it")
        return
    table = _table("terminal", "delivery", "status", "message", "since")
    for entry in waiting.values():
        table.add_row(store.title(entry.sn), *_shown_progress(entry))
    output().print(table)
    raise click.ClickException(
        f"not confirmed yet by {len(waiting)} of {_count(len(stored.sns), 'terminal')}; the removal stays stored, and"
        " `facebridge persons verify` shows where it is not confirmed"
    )


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    try:
        yield
    except PersonFileError as error:
        raise click.ClickException(f"{file}: {error}") from None


def _spool_folder(settings: Settings) -> Path | None:
    """Return where there is room for what goes into the store: beside it, where it is a file."""
    scheme, _, file = settings.store.url.reveal().partition(":///")
    return Path(file).parent if scheme == "sqlite" else None


def _stop_on(faults: Sequence[RowFault], result: str = "nothing was changed") -> None:
    if not faults:
        return
    for fault in faults:
        click.echo(str(fault), err=True)
    rows = len({fault.row for fault in faults})
    raise click.ClickException(f"{_count(len(faults), 'fault')} in {_count(rows, 'row')}; {result}")


def _is_much(differences: Differences) -> bool:
    return any(
        differences.counts[sn][DifferenceKind.REMOVED] > differences.held[sn] * _PRUNED_UNASKED
        for sn in differences.sns
    )


def _ask(differences: Differences) -> None:
    removed = differences.totals()[DifferenceKind.REMOVED]
    held = sum(differences.held.values())
    what = f"{removed:,} of {held:,} persons would be removed"
    if not sys.stdin.isatty():
        raise click.ClickException(f"{what}, and nobody can be asked: give --yes if that is right; nothing was changed")
    if not click.confirm(f"{what}. Go on?", err=True):
        raise click.ClickException("nothing was changed")


def _show(differences: Differences) -> None:
    """Print a line for each person that changes."""
    signs = {DifferenceKind.NEW: "+", DifferenceKind.CHANGED: "~", DifferenceKind.REMOVED: "-"}
    for difference, sns in differences.terminals.items():
        where = "" if len(sns) == len(differences.sns) else f"  on {some(sns, _NAMED)}"
        click.echo(f"{signs[difference.kind]} {difference.person_id}{_shown_fields(difference)}{where}")


def _shown_fields(difference: PersonDifference) -> str:
    return "".join(f"  {_shown_field(one)}" for one in difference.fields)


def _shown_field(change: FieldChange) -> str:
    if change.name == "photo":
        return "photo"
    return f"{change.name}: {_shown_value(change.before)} → {_shown_value(change.after)}"


def _shown_value(value: Any) -> str:
    if isinstance(value, tuple):
        value = dict(value)
    return orjson.dumps(value).decode()


def _sum_up(store: OpenStore, differences: Differences, *, done: bool) -> None:
    totals = differences.totals()
    counts = ", ".join(f"{totals[kind]:,} {kind.value}" for kind in DifferenceKind)
    unchanged = sum(differences.unchanged.values())
    would_be = "" if done else "would be "
    click.echo(f"{would_be}{counts}; {unchanged:,} unchanged; on {_count(len(differences.sns), 'terminal')}")
    if done and totals:
        _say_when(store)


def _say_when(store: OpenStore) -> None:
    click.echo(
        "the running bridge delivers what has changed"
        if store.bridge_running
        else "no bridge is running on this store; what has changed is delivered once it does"
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _progress_of(entry: PersonEntry) -> dict[str, Any]:
    return {
        "delivery": entry.delivery.value,
        "status": entry.status,
        "message": entry.message,
        "changed_at": format_time(entry.changed_at),
    }


def _shown_progress(entry: PersonEntry) -> tuple[str, str, str, str]:
    status = "" if entry.status is None else str(entry.status)
    changed = entry.changed_at.astimezone().isoformat(sep=" ", timespec="seconds")
    return entry.delivery.value, status, entry.message or "", changed


def _echo_json(value: dict[str, Any]) -> None:
    click.echo(orjson.dumps(value))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
