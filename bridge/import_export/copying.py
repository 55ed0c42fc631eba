"""Copies persons of a terminal or a group to another terminal, or lets a group keep them."""

from collections.abc import Sequence
from functools import partial

from bridge.core.commands import SET_PERSONS
from bridge.import_export.context import ROWS_PER_TRANSACTION, Progress, TransferContext, TransferTarget
from bridge.model.person_entry import OWN_SCOPE
from bridge.persons import changes
from bridge.persons.changes import CopySource
from bridge.persons.transactions import PersonTransaction
from bridge.store.database import Database
from bridge.store.group_queries import kept_pages
from bridge.store.person_queries import pages


async def find_persons(database: Database, source: CopySource) -> list[str]:
    """Return the ids of the persons that a terminal should hold or that a group keeps.

    Raises:
        UnavailableError: the store cannot be read.
    """
    found: list[str] = []
    if source.group is not None:
        async for kept in kept_pages(database, source.group, ROWS_PER_TRANSACTION):
            found += [one.person.id for one in kept]
    elif source.sn is not None:
        async for entries in pages(database, source.sn, ROWS_PER_TRANSACTION):
            found += [entry.person.id for entry in entries if entry.person is not None]
    return found


async def copy_persons(
    context: TransferContext, source: CopySource, person_ids: Sequence[str], target: TransferTarget, progress: Progress
) -> int:
    """Copy persons to terminals or to a group with its members, those that make a difference there.

    Args:
        context: the store and the requester.
        source: the terminal or the group to copy from.
        person_ids: the persons.
        target: the terminals or the group to copy to.
        progress: called after each transaction.

    Returns:
        The number of persons that made a difference.

    Raises:
        UnavailableError: the store is full, locked or unreachable; what was changed before stays.
    """
    batch_size = context.batch_size(target)
    done = changed = 0
    for start in range(0, len(person_ids), batch_size):
        batch = person_ids[start : start + batch_size]
        changed += len(await _copy(context, source, batch, target))
        done += len(batch)
        progress("copying", done, done / len(person_ids))
    return changed


async def _copy(
    context: TransferContext, source: CopySource, person_ids: Sequence[str], target: TransferTarget
) -> set[str]:
    """Copy some persons; return those that made a difference."""
    request = context.request(SET_PERSONS.name)
    group = target.group
    changed: set[str] = set()
    if group is not None:
        # The group comes first: a terminal that joins it meanwhile must get the new state.
        keep = partial(changes.copy_kept_persons, source=source, group=group, person_ids=person_ids)
        kept = await context.change_kept(group, person_ids, keep)
        context.publish_changed_in_group(request, target, kept)
        changed |= set(kept)

    def copy(transaction: PersonTransaction, sn: str) -> list[str]:
        scope = OWN_SCOPE if group is None else group
        return changes.copy_persons(transaction, source, sn, person_ids, request, scope=scope)

    for sn, on_terminal in (await context.on_terminals(target, person_ids, copy)).items():
        context.publish_accepted(request, sn, on_terminal)
        changed |= set(on_terminal)
    return changed
