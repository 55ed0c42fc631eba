"""Changes what a file differs in."""

from collections.abc import Sequence

from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS
from bridge.import_export.checking import CheckedPerson, RowFault
from bridge.import_export.context import ROWS_AT_ONCE, TransferContext
from bridge.import_export.differences import Differences
from bridge.import_export.photo_spool import PhotoSpool
from bridge.import_export.ports import Progress
from bridge.persons import changes
from bridge.persons.preparation import PreparedPerson
from bridge.persons.transaction import Transaction

_PERSONS_AT_ONCE = 100
"""Persons of one transaction at most: with their photos some ten megabytes."""


async def apply_import(
    context: TransferContext,
    persons: Sequence[CheckedPerson],
    differences: Differences,
    spool: PhotoSpool,
    progress: Progress,
) -> Sequence[RowFault]:
    """Set the persons that differ and remove those that are to go, in transactions that let the bridge's pass.

    Each person is compared again in the transaction that changes them. An import that breaks off is gone on with by
    starting it again.

    Returns:
        Rows that have become wrong since they were checked, as somebody changed the person meanwhile.

    Raises:
        UnavailableError: the store is full, locked or gone; what was changed before stays.
    """
    different = {difference.person_id for difference in differences.terminals}
    to_set = [person for person in persons if person.patch.id in different]
    at_once = max(min(ROWS_AT_ONCE // max(len(differences.sns), 1), _PERSONS_AT_ONCE), 1)
    removed = differences.removed()
    total = max(len(to_set) + sum(len(ids) for ids in removed.values()), 1)
    faults: list[RowFault] = []
    done = 0
    for start in range(0, len(to_set), at_once):
        batch = to_set[start : start + at_once]
        faults += await _set(context, batch, differences.sns, spool)
        done += len(batch)
        progress("importing", done, done / total)
        await context.give_way()
    for sn, person_ids in removed.items():
        for start in range(0, len(person_ids), ROWS_AT_ONCE):
            gone = person_ids[start : start + ROWS_AT_ONCE]
            await remove(context, sn, gone)
            done += len(gone)
            progress("removing", done, done / total)
            await context.give_way()
    return faults


async def remove(context: TransferContext, sn: str, person_ids: Sequence[str]) -> None:
    """Remove persons from a terminal. Raises UnavailableError."""
    asked = context.asked(REMOVE_PERSONS.name, sn)
    await context.commits.run(lambda ledger: changes.remove_persons(ledger, sn, person_ids, context.kept(asked)))
    context.tell_accepted(asked, person_ids)


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
    asked = {sn: context.asked(SET_PERSONS.name, sn) for sn in sns}
    changed: dict[str, list[str]] = {sn: [] for sn in sns}
    faults: list[RowFault] = []

    async def work(ledger: Transaction) -> None:
        for sn in sns:
            rows = iter(batch)
            async for results in changes.set_persons(
                ledger, sn, prepared, context.kept(asked[sn]), differing_only=True
            ):
                for result, row in zip(results, rows, strict=False):
                    faults.extend(RowFault(row=row.row, fault=fault, sns=(sn,)) for fault in result.faults)
                    if result.changed and result.person_id is not None:
                        changed[sn].append(result.person_id)

    await context.commits.run(work)
    for sn, person_ids in changed.items():
        context.tell_accepted(asked[sn], person_ids)
    return faults
