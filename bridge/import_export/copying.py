"""Copies persons of a terminal or a group to another terminal, or lets a group keep them."""

from collections.abc import Sequence

from bridge.core.commands import SET_PERSONS
from bridge.import_export.context import ROWS_PER_TRANSACTION, Progress, TransferContext, TransferTarget
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
    batch_size = max(ROWS_PER_TRANSACTION // max(target.places, 1), 1)
    done = changed = 0
    for start in range(0, len(person_ids), batch_size):
        batch = person_ids[start : start + batch_size]
        changed += len(await _copy(context, source, batch, target))
        done += len(batch)
        progress("copying", done, done / len(person_ids))
        await context.let_bridge_write()
    return changed


async def _copy(
    context: TransferContext, source: CopySource, person_ids: Sequence[str], target: TransferTarget
) -> set[str]:
    """Copy persons in one transaction; return those that made a difference."""
    request = context.request(SET_PERSONS.name)

    def copy(transaction: PersonTransaction) -> tuple[Sequence[str], dict[str, list[str]]]:
        sns = context.members(transaction, target)
        if target.group is not None:
            return changes.copy_persons_to_group(transaction, source, target.group, sns, person_ids, request)
        return (), {sn: changes.copy_persons(transaction, source, sn, person_ids, request) for sn in sns}

    in_group, on_terminals = await context.transactions.run(copy)
    for sn, changed in on_terminals.items():
        context.publish_accepted(request, sn, changed)
    return {*in_group, *(person_id for changed in on_terminals.values() for person_id in changed)}
