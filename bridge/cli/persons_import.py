"""The work of `facebridge persons import`: check the file, show or ask about the differences, apply them."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.cli.output import delivery_note, progress_bars
from bridge.cli.store_session import OpenStore, some
from bridge.cli.support import counted
from bridge.config.settings import Settings
from bridge.import_export.checking import RowFault, check_file
from bridge.import_export.differences import (
    DifferenceKind,
    Differences,
    FieldChange,
    PersonDifference,
    find_differences,
)
from bridge.import_export.importing import apply_import
from bridge.import_export.photo_spool import PhotoSpool
from bridge.import_export.reading import open_person_file
from bridge.persons.preparation import PhotoPreparer

_MAX_UNCONFIRMED_REMOVALS = 0.1
"""Part of a terminal's persons that `--prune` removes without confirmation, as docs/persons.md promises."""

_NAMED = 5
"""Pictures or terminals that a line names."""

_NICENESS = 10
"""Priority of the import: a bridge on the same machine opens doors meanwhile and goes first."""

_SIGNS = {DifferenceKind.NEW: "+", DifferenceKind.CHANGED: "~", DifferenceKind.REMOVED: "-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The options of the command.

    Attributes:
        file: the file to import.
        photos: a folder of pictures named by id, or None.
        prune: whether persons that are not in the file are removed.
        dry_run: whether the differences are only shown.
        yes: whether large removals need no confirmation.
    """

    file: Path
    photos: Path | None
    prune: bool
    dry_run: bool
    yes: bool


async def import_persons(store: OpenStore, sns: Sequence[str], settings: Settings, options: ImportOptions) -> None:
    """Check a file, and change the persons of some terminals that differ from it."""
    os.nice(_NICENESS)
    preparer = PhotoPreparer(settings.photos.folders, settings.photos.max_bytes, settings.photos.size)
    try:
        with progress_bars() as progress, PhotoSpool(settings.store.folder) as spool:
            with open_person_file(options.file, options.photos) as opened:
                checked = await check_file(opened, preparer, spool, store.context.timezone, progress)
            differences = await find_differences(
                store.database, checked.persons, sns, prune=options.prune, progress=progress
            )
            _fail_on(sorted([*checked.faults, *differences.faults], key=lambda fault: fault.row))
            if options.prune and not checked.persons:
                raise click.ClickException(
                    f"{options.file}: contains no persons, so --prune would remove everyone; nothing was changed"
                )
            if not options.dry_run and not options.yes and _removes_many(differences):
                progress.hide()
                _ask_for_confirmation(differences)
            late_faults: Sequence[RowFault] = ()
            if not options.dry_run:
                late_faults = await apply_import(store.context, checked.persons, differences, spool, progress)
    finally:
        preparer.close()
    if checked.unclaimed_pictures:
        click.echo(
            f"note: {counted(len(checked.unclaimed_pictures), 'picture')} without a person in the file:"
            f" {some(checked.unclaimed_pictures, _NAMED)}"
        )
    if options.dry_run:
        _show_persons(differences)
    _show_totals(store, differences, done=not options.dry_run)
    _fail_on(
        late_faults,
        "another program changed these persons during the import; the other rows were imported."
        " Correct these rows and import the file again",
    )


def _fail_on(faults: Sequence[RowFault], result: str = "nothing was changed") -> None:
    if not faults:
        return
    for fault in faults:
        click.echo(str(fault), err=True)
    rows = len({fault.row for fault in faults})
    raise click.ClickException(f"{counted(len(faults), 'fault')} in {counted(rows, 'row')}; {result}")


def _removes_many(differences: Differences) -> bool:
    return any(
        differences.counts[sn][DifferenceKind.REMOVED] > differences.held[sn] * _MAX_UNCONFIRMED_REMOVALS
        for sn in differences.sns
    )


def _ask_for_confirmation(differences: Differences) -> None:
    removed = differences.totals()[DifferenceKind.REMOVED]
    held = sum(differences.held.values())
    removals = f"{removed:,} of {held:,} persons would be removed"
    if not sys.stdin.isatty():
        raise click.ClickException(f"{removals}; nothing was changed. If this is right, give --yes")
    if not click.confirm(f"{removals}. Continue?", err=True):
        raise click.ClickException("nothing was changed")


def _show_persons(differences: Differences) -> None:
    """Print one line for each person that changes."""
    for difference, sns in differences.terminals.items():
        where = "" if len(sns) == len(differences.sns) else f"  on {some(sns, _NAMED)}"
        click.echo(f"{_SIGNS[difference.kind]} {difference.person_id}{_shown_fields(difference)}{where}")


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


def _show_totals(store: OpenStore, differences: Differences, *, done: bool) -> None:
    totals = differences.totals()
    counts = ", ".join(f"{totals[kind]:,} {kind.value}" for kind in DifferenceKind)
    unchanged = sum(differences.unchanged.values())
    would_be = "" if done else "would be "
    click.echo(f"{would_be}{counts}; {unchanged:,} unchanged; on {counted(len(differences.sns), 'terminal')}")
    if done and totals:
        click.echo(delivery_note(bridge_running=store.bridge_running))
