"""Applies the differences between a file and the stored persons."""

from collections.abc import Sequence
from functools import partial

from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS
from bridge.import_export.checking import CheckedPerson, RowFault
from bridge.import_export.context import Progress, TransferContext, TransferTarget
from bridge.import_export.differences import Differences
from bridge.import_export.photo_spool import PhotoSpool
from bridge.model.person_entry import OWN_SCOPE
from bridge.persons import changes
from bridge.persons.member_checks import SetResult
from bridge.persons.preparation import PreparedPerson
from bridge.persons.transactions import PersonTransaction


async def apply_import(
    context: TransferContext,
    persons: Sequence[CheckedPerson],
    differences: Differences,
    spool: PhotoSpool,
    progress: Progress,
) -> Sequence[RowFault]:
    """Set the persons that differ and remove those that must go, in short transactions.

    With a group, what the group keeps changes before its members.

    Each person is compared again in the transaction that changes it. An import that was interrupted is continued by
    running it again.

    Returns:
        Rows that have become wrong since they were checked, because the person was changed meanwhile.

    Raises:
        UnavailableError: the store is full, locked or unreachable; what was changed before stays.
    """
    target = TransferTarget(differences.sns, None if differences.group is None else differences.group.name)
    changed_ids = differences.changed_ids
    to_set = [person for person in persons if person.patch.id in changed_ids]
    batch_size = context.batch_size(target)
    removals: list[tuple[TransferTarget, Sequence[str]]]
    if differences.group is not None:
        removals = [(target, differences.group.removed)]
    else:
        removals = [(TransferTarget([sn]), person_ids) for sn, person_ids in differences.removed().items()]
    total = max(len(to_set) + sum(len(ids) for _, ids in removals), 1)
    faults: list[RowFault] = []
    done = 0
    for start in range(0, len(to_set), batch_size):
        batch = to_set[start : start + batch_size]
        faults += await _set(context, batch, target, differences, spool)
        done += len(batch)
        progress("importing", done, done / total)
    for place, person_ids in removals:
        batch_size = context.batch_size(place)
        for start in range(0, len(person_ids), batch_size):
            removed_ids = person_ids[start : start + batch_size]
            await _remove(context, place, removed_ids)
            done += len(removed_ids)
            progress("removing", done, done / total)
    return faults


async def _remove(context: TransferContext, target: TransferTarget, person_ids: Sequence[str]) -> None:
    request = context.request(REMOVE_PERSONS.name)
    if target.group is not None:
        # The group comes first: a terminal that joins it meanwhile must not get these persons.
        removed = partial(changes.remove_kept_persons, group=target.group, person_ids=person_ids)
        context.publish_changed_in_group(request, target, await context.change_kept(target.group, person_ids, removed))

    def remove(transaction: PersonTransaction, sn: str) -> None:
        changes.remove_persons(transaction, sn, person_ids, request)

    for sn in await context.on_terminals(target, person_ids, remove):
        context.publish_accepted(request, sn, person_ids)


async def _set(
    context: TransferContext,
    batch: Sequence[CheckedPerson],
    target: TransferTarget,
    differences: Differences,
    spool: PhotoSpool,
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
    group = differences.group
    request = context.request(SET_PERSONS.name)

    if group is not None:
        # The group comes first: a terminal that joins it meanwhile must get the new state.
        keep = partial(changes.set_kept_persons, group=group.name, persons=prepared, differing_only=True)
        checked, kept = await context.change_kept(group.name, [person.patch.id for person in batch], keep)
        prepared = list(checked)
        context.publish_changed_in_group(request, target, kept)
    scope = OWN_SCOPE if group is None else group.name

    def set_(transaction: PersonTransaction, sn: str) -> list[SetResult]:
        return changes.set_persons(transaction, sn, prepared, request, scope=scope, differing_only=True)

    faults: list[RowFault] = []
    person_ids = [person.patch.id for person in batch]
    for sn, results in (await context.on_terminals(target, person_ids, set_)).items():
        for result, row in zip(results, batch, strict=True):
            if group is None or sn not in group.absent.get(row.patch.id, ()):
                faults += [RowFault(row=row.row, fault=fault, places=(sn,)) for fault in result.faults]
        changed = [result.person_id for result in results if result.changed and result.person_id is not None]
        context.publish_accepted(request, sn, changed)
    return faults
