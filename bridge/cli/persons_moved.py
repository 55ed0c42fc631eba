"""The work of `facebridge persons export`, `copy` and `purge`."""

import asyncio
from pathlib import Path

import click

from bridge.cli.output import delivery_cells, delivery_note, output, progress_bars, table
from bridge.cli.store_session import OpenStore, some
from bridge.cli.support import counted
from bridge.import_export.context import TransferTarget
from bridge.import_export.copying import copy_persons, find_persons
from bridge.import_export.exporting import export_persons
from bridge.import_export.purging import is_unknown, purge, unconfirmed
from bridge.import_export.writing import write_person_file
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.persons.changes import CopySource

_POLL_SECONDS = 0.5
"""Time between two queries for confirmations."""

_NAMED = 5
"""Persons, groups or terminals that a line names."""


async def export(store: OpenStore, target: TransferTarget, file: Path, photos: Path | None) -> None:
    """Write the persons of a terminal or of a group into a file."""
    source = CopySource(sn=None if target.group else target.sns[0], group=target.group)
    total = len(await find_persons(store.database, source))
    if target.group is not None and not total:
        raise click.ClickException(
            f"group {target.group} keeps no persons, so nothing was written: export a terminal, or let the group keep"
            f" the persons of a terminal with `facebridge persons copy --from SN --to-group {target.group}`"
        )
    with progress_bars() as progress, write_person_file(file, photos) as writer:
        exported = await export_persons(store.database, store.cipher, source, total, writer, progress)
    click.echo(f"{counted(exported.persons, 'person')} written to {file}")
    if exported.unreadable:
        raise click.ClickException(
            f"the photos of {counted(len(exported.unreadable), 'person')} cannot be read and were left out:"
            f" {some(exported.unreadable, _NAMED)}"
        )


async def copy(store: OpenStore, *, sn: str | None, group: str | None, target: TransferTarget) -> None:
    """Copy the persons of a terminal or a group to a terminal or a group."""
    person_ids = await find_persons(store.database, CopySource(sn=sn, group=group))
    if not person_ids:
        place = f"group {group} keeps no persons" if sn is None else f"{sn}: no persons are stored for it"
        raise click.ClickException(place)
    with progress_bars() as progress:
        changed = await copy_persons(store.context, CopySource(sn=sn, group=group), person_ids, target, progress)
    place = f"on {store.title(target.sns[0])}"
    if target.group is not None:
        place = f"in group {target.group} or on its {counted(len(target.sns), 'member')}"
    click.echo(f"{counted(len(person_ids), 'person')} compared, {changed:,} of them new or different {place}")
    click.echo(delivery_note(bridge_running=store.bridge_running))


async def purge_person(store: OpenStore, person_id: str, *, timeout_seconds: int, everywhere: bool) -> None:
    """Remove a person from every terminal and group, and wait until the terminals have confirmed it.

    Args:
        store: the store.
        person_id: the person.
        timeout_seconds: how long to wait.
        everywhere: whether to remove a person that no terminal and no group has: a device may hold them from before.
    """
    if not everywhere and await is_unknown(store.database, person_id):
        raise click.ClickException(
            f"no terminal and no group has a person {person_id}, so nothing was changed: check the id. A device may"
            " hold the person from before: --everywhere removes the id from every terminal all the same"
        )
    stored = await purge(store.context, person_id, store.known)
    click.echo(f"the removal of {person_id} from {counted(len(stored.sns), 'terminal')} is stored")
    if stored.groups:
        click.echo(
            f"{person_id} is removed from group{'' if len(stored.groups) == 1 else 's'} {some(stored.groups, _NAMED)}"
        )
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
