"""Removes a person from every terminal and group, and shows which terminals have confirmed that."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from bridge.core.commands import REMOVE_PERSONS
from bridge.import_export.context import TransferContext, TransferTarget
from bridge.model.person_entry import PersonEntry
from bridge.persons import changes
from bridge.persons.transactions import PersonTransaction
from bridge.store.database import Database
from bridge.store.group_queries import groups_of_person, memberships
from bridge.store.person_queries import entries_everywhere


@dataclass(frozen=True, slots=True)
class Purge:
    """A removal that is stored.

    Attributes:
        sns: the terminals that must confirm it.
        groups: the groups that kept the person.
        dropped: terminals that are no longer known; their entry was deleted, and the device gets no removal.
    """

    sns: Sequence[str]
    groups: Sequence[str]
    dropped: Sequence[str]


async def purge(context: TransferContext, person_id: str, known: Collection[str]) -> Purge:
    """Remove a person from every group and every known terminal.

    Terminals without an entry are included: the device may hold the person.

    Raises:
        UnavailableError: the store is full, locked or unreachable; call it again.
    """
    # The groups come first: a terminal that joins one during the removal must not get the person.
    groups = await _remove_from_groups(context, person_id)
    if context.bridge_running:
        # A terminal may have joined since the command began.
        known = {*known, *await context.database.read(memberships)}
    entries = await context.database.read(entries_everywhere, person_id)
    unknown = [entry.sn for entry in entries if entry.sn not in known]
    sns = sorted(known)
    await _remove(context, person_id, sns)
    if unknown:
        await context.transactions.run(partial(_forget_person, person_id=person_id, sns=unknown))
    return Purge(sns, groups, unknown)


async def is_unknown(database: Database, person_id: str) -> bool:
    """Return whether no terminal and no group has a person. Raises UnavailableError."""
    if await database.read(groups_of_person, person_id):
        return False
    return all(entry.person is None for entry in await database.read(entries_everywhere, person_id))


async def unconfirmed(database: Database, purge: Purge, person_id: str) -> Sequence[PersonEntry]:
    """Return the removals that are not confirmed or were refused, by SN. Raises UnavailableError."""
    entries = await database.read(entries_everywhere, person_id)
    return [entry for entry in entries if entry.sn in purge.sns and entry.person is None]


async def _remove_from_groups(context: TransferContext, person_id: str) -> list[str]:
    """Remove a person from the groups that keep them; return these groups."""
    groups = [one.group for one in await context.database.read(groups_of_person, person_id)]
    request = context.request(REMOVE_PERSONS.name)

    for group in groups:
        remove = partial(changes.remove_kept_persons, group=group, person_ids=[person_id])
        if await context.change_kept(group, [person_id], remove):
            context.publish_changed_in_group(request, TransferTarget((), group), [person_id])
        await context.let_bridge_write()
    return groups


async def _remove(context: TransferContext, person_id: str, sns: Sequence[str]) -> None:
    request = context.request(REMOVE_PERSONS.name)

    def remove(transaction: PersonTransaction, sn: str) -> None:
        changes.remove_persons(transaction, sn, [person_id], request)

    for sn in await context.on_terminals(TransferTarget(sns), [person_id], remove):
        context.publish_accepted(request, sn, [person_id])


def _forget_person(transaction: PersonTransaction, person_id: str, sns: Sequence[str]) -> None:
    for sn in sns:
        changes.forget_person(transaction, sn, person_id)
