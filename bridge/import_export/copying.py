"""Lets a terminal hold what others should: an exchanged device, or one that joins a group."""

from collections.abc import Sequence

from bridge.core.commands import SET_PERSONS
from bridge.import_export.context import ROWS_AT_ONCE, TransferContext
from bridge.import_export.ports import Progress, TransferStore
from bridge.persons import changes
from bridge.persons.pages import pages
from bridge.persons.transaction import Transaction


async def find_persons(store: TransferStore, sources: Sequence[str]) -> dict[str, list[str]]:
    """Return by terminal whom it should hold; a person of several only at the one with the newest change.

    Raises:
        UnavailableError: the store cannot be read.
    """
    newest: dict[str, tuple[int, str]] = {}
    for sn in sources:
        async for entries in pages(store, sn, ROWS_AT_ONCE):
            for entry in entries:
                if entry.person is not None:
                    newest[entry.person.id] = max(newest.get(entry.person.id, (-1, "")), (entry.revision, sn))
    found: dict[str, list[str]] = {sn: [] for sn in sources}
    for person_id, (_, sn) in newest.items():
        found[sn].append(person_id)
    return found


async def copy_persons(context: TransferContext, persons: dict[str, list[str]], sn: str, progress: Progress) -> int:
    """Let a terminal hold these persons of others, where that makes a difference to it.

    Args:
        context: the store and in whose name.
        persons: by terminal whom.
        sn: the terminal that is to hold them.
        progress: told of each transaction.

    Returns:
        For how many it makes a difference.

    Raises:
        UnavailableError: the store is full, locked or gone; what was changed before stays.
    """
    total = max(sum(len(person_ids) for person_ids in persons.values()), 1)
    done = changed = 0
    for source, person_ids in persons.items():
        for start in range(0, len(person_ids), ROWS_AT_ONCE):
            batch = person_ids[start : start + ROWS_AT_ONCE]
            asked = context.asked(SET_PERSONS.name, sn)

            async def work(ledger: Transaction, source: str = source, batch: Sequence[str] = batch) -> list[str]:
                return await changes.copy_persons(ledger, source, sn, batch, context.kept(asked))  # noqa: B023  run at once

            different = await context.commits.run(work)
            context.tell_accepted(asked, different)
            done += len(batch)
            changed += len(different)
            progress("copying", done, done / total)
            await context.give_way()
    return changed
