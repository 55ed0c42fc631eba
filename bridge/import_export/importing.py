"""Applies the differences between a file and the stored persons."""

from collections.abc import Sequence
from functools import partial

from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS
from bridge.import_export.checking import CheckedPerson, RowFault
from bridge.import_export.context import ROWS_PER_TRANSACTION, Progress, TransferContext
from bridge.import_export.differences import Differences
from bridge.import_export.photo_spool import PhotoSpool
from bridge.model.person_entry import RequestContext
from bridge.persons import changes
from bridge.persons.changes import SetResult
from bridge.persons.preparation import PreparedPerson
from bridge.persons.transactions import PersonTransaction

_PERSONS_PER_TRANSACTION = 100
"""Persons that one transaction changes at most: with their photos some ten megabytes."""


async def apply_import(
    context: TransferContext,
    persons: Sequence[CheckedPerson],
    differences: Differences,
    spool: PhotoSpool,
    progress: Progress,
) -> Sequence[RowFault]:
    """Set the persons that differ and remove those that must go, in short transactions.

    Each person is compared again in the transaction that changes it. An import that was interrupted is continued by
    running it again.

    Returns:
        Rows that have become wrong since they were checked, because the person was changed meanwhile.

    Raises:
        UnavailableError: the store is full, locked or unreachable; what was changed before stays.
    """
    different = {difference.person_id for difference in differences.terminals}
    to_set = [person for person in persons if person.patch.id in different]
    batch_size = max(min(ROWS_PER_TRANSACTION // max(len(differences.sns), 1), _PERSONS_PER_TRANSACTION), 1)
    removed = differences.removed()
    total = max(len(to_set) + sum(len(ids) for ids in removed.values()), 1)
    faults: list[RowFault] = []
    done = 0
    for start in range(0, len(to_set), batch_size):
        batch = to_set[start : start + batch_size]
        faults += await _set(context, batch, differences.sns, spool)
        done += len(batch)
        progress("importing", done, done / total)
        await context.let_bridge_write()
    for sn, person_ids in removed.items():
        for start in range(0, len(person_ids), ROWS_PER_TRANSACTION):
            removed_ids = person_ids[start : start + ROWS_PER_TRANSACTION]
            await _remove(context, sn, removed_ids)
            done += len(removed_ids)
            progress("removing", done, done / total)
            await context.let_bridge_write()
    return faults


async def _remove(context: TransferContext, sn: str, person_ids: Sequence[str]) -> None:
    replies = context.reply_builder(REMOVE_PERSONS.name, sn)
    await context.transactions.run(
        partial(changes.remove_persons, sn=sn, person_ids=person_ids, request=context.request(replies))
    )
    context.publish_accepted(replies, person_ids)


async def _set(
    context: TransferContext, batch: Sequence[CheckedPerson], sns: Sequence[str], spool: PhotoSpool
) -> Sequence[RowFault]:
    prepared = [
        PreparedPerson(
            position=None,
            person_id=person.patch.id,
            patch=person.patch,
            photo=None if person.photo is None else spool.read(person.photo),
        )
        for person in batch
    ]
    replies = {sn: context.reply_builder(SET_PERSONS.name, sn) for sn in sns}
    requests = {sn: context.request(builder) for sn, builder in replies.items()}
    faults: list[RowFault] = []
    results = await context.transactions.run(partial(_set_on_terminals, prepared=prepared, requests=requests))
    for sn, of_terminal in results.items():
        for result, row in zip(of_terminal, batch, strict=True):
            faults += [RowFault(row=row.row, fault=fault, sns=(sn,)) for fault in result.faults]
        changed = [result.person_id for result in of_terminal if result.changed and result.person_id is not None]
        context.publish_accepted(replies[sn], changed)
    return faults


def _set_on_terminals(
    transaction: PersonTransaction, prepared: Sequence[PreparedPerson], requests: dict[str, RequestContext]
) -> dict[str, list[SetResult]]:
    return {
        sn: changes.set_persons(transaction, sn, prepared, request, differing_only=True)
        for sn, request in requests.items()
    }
