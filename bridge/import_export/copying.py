"""Copies persons from terminals to a terminal: for an exchanged device, or one that joins a group."""

from collections.abc import Sequence
from functools import partial

from bridge.core.commands import SET_PERSONS
from bridge.import_export.context import ROWS_PER_TRANSACTION, Progress, TransferContext
from bridge.persons import changes
from bridge.store.database import Database
from bridge.store.person_queries import pages


async def find_persons(database: Database, sources: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids of the persons of some terminals, by terminal.

    A person of several terminals is listed only for the one with the newest change.

    Raises:
        UnavailableError: the store cannot be read.
    """
    newest: dict[str, tuple[int, str]] = {}
    for sn in sources:
        async for entries in pages(database, sn, ROWS_PER_TRANSACTION):
            for entry in entries:
                if entry.person is not None:
                    newest[entry.person.id] = max(newest.get(entry.person.id, (-1, "")), (entry.revision, sn))
    found: dict[str, list[str]] = {sn: [] for sn in sources}
    for person_id, (_, sn) in newest.items():
        found[sn].append(person_id)
    return found


async def copy_persons(context: TransferContext, persons: dict[str, list[str]], sn: str, progress: Progress) -> int:
    """Copy persons to a terminal, those that make a difference to it.

    Args:
        context: the store and the requester.
        persons: by source terminal the ids of the persons.
        sn: the target terminal.
        progress: called after each transaction.

    Returns:
        The number of persons that made a difference.

    Raises:
        UnavailableError: the store is full, locked or unreachable; what was changed before stays.
    """
    total = max(sum(len(person_ids) for person_ids in persons.values()), 1)
    done = changed = 0
    for source, person_ids in persons.items():
        for start in range(0, len(person_ids), ROWS_PER_TRANSACTION):
            batch = person_ids[start : start + ROWS_PER_TRANSACTION]
            replies = context.reply_builder(SET_PERSONS.name, sn)
            different = await context.transactions.run(
                partial(changes.copy_persons, source=source, sn=sn, person_ids=batch, request=context.request(replies))
            )
            context.publish_accepted(replies, different)
            done += len(batch)
            changed += len(different)
            progress("copying", done, done / total)
            await context.let_bridge_write()
    return changed
