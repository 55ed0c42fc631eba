"""The work of `facebridge persons import`: check the file, show or ask about the differences, apply them."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.cli.output import delivery_note, progress_bars
from bridge.cli.store_session import OpenStore, some
from bridge.cli.support import counted
from bridge.config.settings import Settings
from bridge.import_export.checking import CheckedFile, RowFault, check_file
from bridge.import_export.context import TransferTarget
from bridge.import_export.differences import (
    DifferenceKind,
    Differences,
    FieldChange,
    GroupDifferences,
    PersonDifference,
    find_differences,
)
from bridge.import_export.importing import apply_import
from bridge.import_export.photo_spool import PhotoSpool
from bridge.import_export.reading import open_person_file
from bridge.persons.preparation import PhotoPreparer

_MAX_UNCONFIRMED_REMOVALS = 0.1
"""Part of the persons of a terminal or a group that `--prune` removes without confirmation (docs/persons.md)."""

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


async def import_persons(store: OpenStore, target: TransferTarget, settings: Settings, options: ImportOptions) -> None:
    """Check a file, and change the persons of terminals, or of a group and its members, that differ from it."""
    os.nice(_NICENESS)
    preparer = PhotoPreparer(settings.photos.folders, settings.photos.max_bytes, settings.photos.size)
    try:
        with progress_bars() as progress, PhotoSpool(settings.store.folder) as spool:
            with open_person_file(options.file, options.photos) as opened:
                checked = await check_file(opened, preparer, spool, store.context.timezone, progress)
            differences = await find_differences(
                store.database, checked.persons, target, prune=options.prune, progress=progress
            )
            _name_missing_pictures(checked, differences, options.photos)
            _fail_on(sorted([*checked.faults, *differences.faults], key=lambda fault: fault.row))
            if options.prune and not checked.persons:
                raise click.ClickException(
                    f"{options.file}: contains no persons, so --prune would remove everyone; nothing was changed"
                )
            if not options.dry_run and not options.yes and differences.removes_more_than(_MAX_UNCONFIRMED_REMOVALS):
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


def _name_missing_pictures(checked: CheckedFile, differences: Differences, folder: Path | None) -> None:
    """Name the pictures that new persons need and that the folder of pictures does not have."""
    rows = {fault.row for fault in differences.faults if fault.fault.path == "photo"}
    missing = [f"{one.patch.id}.jpg" for one in checked.persons if one.row in rows]
    if missing and folder is not None:
        click.echo(f"not found in {folder}: {some(missing, _NAMED)} (nor .jpeg, .png, .webp or .heic)", err=True)


def _fail_on(faults: Sequence[RowFault], result: str = "nothing was changed") -> None:
    if not faults:
        return
    for fault in faults:
        click.echo(str(fault), err=True)
    rows = len({fault.row for fault in faults})
    raise click.ClickException(f"{counted(len(faults), 'fault')} in {counted(rows, 'row')}; {result}")


def _ask_for_confirmation(differences: Differences) -> None:
    place = "" if differences.group is None else f" from group {differences.group.name} and its members"
    removals = f"{differences.removed_persons:,} of {differences.held_persons:,} persons would be removed{place}"
    if not sys.stdin.isatty():
        raise click.ClickException(f"{removals}; nothing was changed. If this is right, give --yes")
    if not click.confirm(f"{removals}. Continue?", err=True):
        raise click.ClickException("nothing was changed")


def _show_persons(differences: Differences) -> None:
    """Print one line for each person that changes; the same change in a group and on its members is one line."""
    group = differences.group
    in_group = set() if group is None else set(group.persons)
    for difference, sns in differences.changes.items():
        place = ""
        if group is not None and difference in in_group and not sns:
            place = f"  in group {group.name}"
        elif len(sns) < len(differences.sns) or (group is not None and difference not in in_group):
            place = f"  on {some(sns, _NAMED)}"
        click.echo(f"{_SIGNS[difference.kind]} {difference.person_id}{_shown_fields(difference)}{place}")


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
    totals, group = differences.totals(), differences.group
    if group is not None:
        _show_counts(group.counts, group.unchanged, f"in group {group.name}", done=done)
    if group is None or differences.sns:
        place = f"on {counted(len(differences.sns), 'terminal')}"
        _show_counts(totals, sum(differences.unchanged.values()), place, done=done)
    if group is not None:
        _show_notes(group)
    if done and totals:
        click.echo(delivery_note(bridge_running=store.bridge_running))


def _show_counts(counts: Mapping[DifferenceKind, int], unchanged: int, place: str, *, done: bool) -> None:
    changes = ", ".join(f"{counts.get(kind, 0):,} {kind.value}" for kind in DifferenceKind)
    click.echo(f"{'' if done else 'would be '}{changes}; {unchanged:,} unchanged; {place}")


def _show_notes(group: GroupDifferences) -> None:
    if group.incomplete:
        click.echo(
            f"note: group {group.name} does not keep {counted(len(group.incomplete), 'person')} of the file"
            f" ({some(sorted(group.incomplete), _NAMED)}), because the file has no name or no photo of them; import"
            " these, or use `facebridge persons copy --to-group`"
        )
    if group.absent:
        sns = dict.fromkeys(sn for of_person in group.absent.values() for sn in of_person)
        click.echo(
            f"note: {counted(len(group.absent), 'person')} of the group {'is' if len(group.absent) == 1 else 'are'} not"
            f" on {some(sns, _NAMED)}, after a removal there; a row with name and photo brings a person back"
        )
    if group.others:
        click.echo(
            f"note: the members hold {counted(len(group.others), 'person')} that are neither in the file nor kept by"
            " the group; they stay"
        )
