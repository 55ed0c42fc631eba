"""Jobs of accepted changes of groups: each member's persons are changed in batches.

Each access to a member's entries applies its jobs first (`PersonTransaction.entries`), so a job runs by reading.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.model.faults import InvalidError
from bridge.model.person_entry import (
    ChangedPerson,
    GroupChange,
    GroupChangeKind,
    MemberJob,
    PersonEntry,
    RequestContext,
)
from bridge.persons import whole_terminal
from bridge.persons.entry_changes import ChangeOrder, granted, pending_entry
from bridge.persons.entry_transaction import BATCH
from bridge.persons.preparation import PreparedPhoto
from bridge.persons.schema import PersonPatch

if TYPE_CHECKING:
    # A transaction applies the jobs.
    from bridge.persons.transactions import PersonTransaction


def add(
    transaction: "PersonTransaction",
    group: str,
    kind: GroupChangeKind,
    sns: Sequence[str],
    request: RequestContext,
    persons: Sequence[tuple[ChangedPerson, PreparedPhoto | None]] = (),
) -> None:
    """Accept a change of a group's members, and leave it to a job.

    Args:
        transaction: the transaction.
        group: the group.
        kind: what the change does.
        sns: the members.
        request: the request.
        persons: the persons, each with the photo if one is set.
    """
    transaction.store_photos([photo for _, photo in persons])
    first = transaction.next_revisions(1 + len(sns))
    change = GroupChange(id=first, group=group, kind=kind, request=request)
    jobs = [MemberJob(id=number, sn=sn, change=change) for number, sn in enumerate(sns, first + 1)]
    transaction.changes.add(change, [person for person, _ in persons], jobs)
    transaction.note_jobs()


def advance(transaction: "PersonTransaction", rows: int) -> bool:
    """Apply the oldest change of a group to the next members, to `rows` entries; return False if there is none."""
    transaction.write()
    change = transaction.changes.oldest()
    if change is None:
        return False
    transaction.note_jobs()
    jobs = transaction.changes.next_jobs(change, rows)
    if not jobs:
        transaction.changes.drop(change)
        return True
    if not change.is_of_persons:
        for job in jobs[: max(1, rows // whole_terminal.ROWS)]:
            apply_whole_changes(transaction, job.sn, job.id + 1)
        return True
    # Members that have got the same persons get the next ones together.
    after = jobs[0].applied
    persons = transaction.changes.persons_after(change, after, min(BATCH, rows))
    jobs = [job for job in jobs if job.applied == after][: max(1, rows // max(len(persons), 1))]
    if persons:
        ids = list({one.person_id for one in persons})
        transaction.read_ahead([job.sn for job in jobs], ids)
        transaction.changes.start(jobs, persons)
        for job in jobs:
            transaction.entries(job.sn, ids, before_job=job.id + 1)
        transaction.changes.end()
        transaction.changes.put_applied(jobs, persons[-1].position)
    if len(persons) < min(BATCH, rows):
        transaction.changes.drop_jobs(jobs)
    return True


def apply_whole_changes(transaction: "PersonTransaction", sn: str, before_job: int | None) -> None:
    """Apply the unfinished changes of groups that are about everything on a terminal; they are short."""
    for job in transaction.changes.whole_jobs(sn):
        if before_job is not None and job.id >= before_job:
            break
        transaction.changes.drop_jobs([job])
        whole_terminal.change(transaction, sn, job.change.kind, job.change.request, before_job=job.id)


def apply(
    transaction: "PersonTransaction",
    job: MemberJob,
    persons: Sequence[ChangedPerson],
    found: dict[str | None, PersonEntry],
) -> None:
    """Apply a change of a group to persons of a member; `found` has their entries before and after."""
    persons = transaction.changes.not_applied_early(job, persons)
    if not persons:
        return
    person_ids = {one.person_id for one in persons}
    done = transaction.changes.done(job, person_ids)
    order = ChangeOrder(now=transaction.now(), request=job.change.request)
    for one in persons:
        if one.person_id in done:
            continue
        before = found.get(one.person_id)
        held = None
        if job.change.kind is GroupChangeKind.SET:
            patch = PersonPatch(id=one.person_id, changes=one.fields)
            try:
                held = granted(before, patch, one.photo, job.change.group if one.is_complete else None)
            except InvalidError:
                # The reply to the request says so: no change comes between its acceptance and this moment.
                continue
        transaction.supersede(before)
        after = pending_entry((job.sn, one.person_id), before, transaction.next_revisions(1), order, held)
        transaction.replace(before, after)
        found[one.person_id] = after
    transaction.changes.note_applied(job, person_ids)
