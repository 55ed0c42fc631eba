"""The work of `facebridge persons list` and `verify`."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence

import click

from bridge.cli.output import LongTable, delivery_cells, delivery_json, echo_json, shown_time
from bridge.cli.store_session import OpenStore, some
from bridge.cli.support import counted
from bridge.import_export.context import TransferTarget
from bridge.model.person_entry import DeliveryState, MembershipJob, PersonEntry, Wanted
from bridge.store.database import Database
from bridge.store.group_change_queries import unfinished
from bridge.store.group_queries import group_sizes, kept_pages
from bridge.store.group_reading import deliveries, unfinished_changes, unnoticed_changes
from bridge.store.person_queries import entry as stored_entry
from bridge.store.person_queries import pages
from bridge.store.person_queries import unconfirmed as unconfirmed_entries

_PAGE_ROWS = 1000
"""Persons that one query reads."""

_NAMED = 5
"""Terminals that a cell names."""

_NAMED_MEMBERS = 20
"""Members of a group that a line names."""

_ABSENT = "absent"
"""Shown in place of a delivery state if a member should not hold the person."""


async def list_persons(store: OpenStore, target: TransferTarget, *, delivery: str | None, as_json: bool) -> None:
    """Show the persons that terminals should have and the removals that they have not confirmed."""
    shown = LongTable("terminal", "id", "name", "wanted", "delivery", "status", "message", "changed", "access")
    for sn in target.sns:
        async for entries in _entries(store.database, sn):
            for one in entries:
                if delivery is not None and one.delivery != delivery:
                    continue
                if as_json:
                    echo_json({"sn": sn, **one.as_json()})
                else:
                    name = "" if one.person is None else one.person.name
                    access = ", ".join(one.shown_access)
                    shown.add_row(store.title(sn), _shown_id(one), name, one.wanted, *delivery_cells(one), access)
    if not as_json:
        shown.end()


async def list_group(store: OpenStore, target: TransferTarget, *, delivery: str | None, as_json: bool) -> None:
    """Show the members of a group, the persons that it keeps, and how far the members hold them.

    Args:
        store: the store.
        target: the group.
        delivery: show only persons with this delivery state on a member; None for all.
        as_json: whether to print JSON.
    """
    group = target.group or ""
    if not as_json:
        number = (await store.database.read(group_sizes, [group])).get(group, 0)
        members = some([store.title(sn) for sn in target.sns], _NAMED_MEMBERS)
        has = f"; its members: {members}" if members else " and has no members"
        click.echo(f"group {group} keeps {counted(number, 'person')}{has}")
    shown = LongTable("id", "name", "wanted", "on members", "changed")
    is_empty = True
    async for kept in kept_pages(store.database, group, _PAGE_ROWS):
        found = await store.database.read(deliveries, [one.person.id for one in kept])
        for one in kept:
            on_members = {sn: found.get(one.person.id, {}).get(sn) for sn in target.sns}
            if delivery is not None and delivery not in on_members.values():
                continue
            is_empty = False
            wanted = Wanted.PRESENT if one.person.enabled else Wanted.DISABLED
            if as_json:
                states = {sn: _ABSENT if state is None else state.value for sn, state in on_members.items()}
                echo_json({"group": group, **one.as_json(), "wanted": wanted.value, "members": states})
            else:
                cells = (one.person.name, wanted, _shown_members(on_members), shown_time(one.changed_at))
                shown.add_row(one.person.id, *cells)
    if not as_json and not is_empty:
        shown.end()


def _shown_members(on_members: Mapping[str, DeliveryState | None]) -> str:
    """Return on how many members a person is confirmed, and which ones lack the person."""
    confirmed = sum(state is DeliveryState.CONFIRMED for state in on_members.values())
    parts = [f"confirmed on {confirmed} of {len(on_members)}"] if on_members else []
    for state in (DeliveryState.PENDING, DeliveryState.REFUSED, None):
        sns = [sn for sn, one in on_members.items() if one is state]
        if sns:
            parts.append(f"{_ABSENT if state is None else state.value} on {some(sns, _NAMED)}")
    return "; ".join(parts)


async def verify(store: OpenStore, target: TransferTarget | None, *, as_json: bool) -> None:
    """Show the persons that are not confirmed and the unfinished changes of memberships; exit with 1 if there is one.

    Args:
        store: the store.
        target: the terminals to look at, or the group with its members; None for all.
        as_json: whether to print JSON.
    """
    sns = None if target is None else target.sns
    running = await _show_memberships(store, target, as_json=as_json)
    running += await _show_group_changes(store, target, as_json=as_json)
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
    if not found and not running and not as_json:
        click.echo("every terminal has confirmed its persons")
    if found or running:
        sys.exit(1)


async def _show_memberships(store: OpenStore, target: TransferTarget | None, *, as_json: bool) -> int:
    """Show the changes of memberships that are not applied to all persons yet; return their number."""
    running = await store.database.read(unfinished_changes)
    memberships = {sn: one.memberships for sn, one in store.known.items()}
    shown: list[tuple[MembershipJob, int | None]] = [
        *running,
        *((change, None) for change in await store.database.read(unnoticed_changes, memberships)),
    ]
    shown = [(change, number) for change, number in shown if target is None or _concerns(change, target)]
    for change, number in shown:
        if as_json:
            left, joined = sorted(change.left), sorted(change.joined)
            echo_json({"sn": change.sn, "left": left, "joined": joined, "persons_to_go": number})
        elif number is not None:
            click.echo(f"{store.title(change.sn)} is {_membership_change(change)}: {counted(number, 'person')} to go")
        else:
            click.echo(
                f"{store.title(change.sn)} will be {_membership_change(change)} when the bridge starts again: its"
                " groups have changed"
            )
    return len(shown)


async def _show_group_changes(store: OpenStore, target: TransferTarget | None, *, as_json: bool) -> int:
    """Show where accepted changes of groups are not applied to all members yet; return the number of terminals."""
    changes = [
        (job, number)
        for job, number in await store.database.read(unfinished)
        if target is None or job.sn in target.sns or job.change.group == target.group
    ]
    for job, number in changes:
        group = job.change.group
        if as_json:
            echo_json({"sn": job.sn, "group": group, "persons_to_go": number if job.change.is_of_persons else None})
        else:
            what = counted(number, "person") if job.change.is_of_persons else "everything"
            click.echo(f"{store.title(job.sn)} has yet to follow a change of group {group}: {what} to go")
    return len(changes)


def _concerns(change: MembershipJob, target: TransferTarget) -> bool:
    return change.sn in target.sns or (target.group is not None and target.group in change.left | change.joined)


def _membership_change(change: MembershipJob) -> str:
    parts = (("leaving", change.left), ("joining", change.joined))
    return " and ".join(f"{verb} {', '.join(sorted(groups))}" for verb, groups in parts if groups)


async def _entries(database: Database, sn: str) -> AsyncIterator[Sequence[PersonEntry]]:
    """Yield the entries of a terminal, the removal of everyone first."""
    everyone = await database.read(stored_entry, sn, None)
    if everyone is not None:
        yield [everyone]
    async for entries in pages(database, sn, _PAGE_ROWS):
        yield entries


def _shown_id(entry: PersonEntry) -> str:
    return entry.person_id or "everyone"
