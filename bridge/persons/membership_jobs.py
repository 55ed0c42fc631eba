"""Jobs of memberships: a terminal left and joined groups, and its persons follow person by person.

Each access to a terminal's entries applies its jobs first (`PersonTransaction.entries`), so a job runs by reading.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS
from bridge.model.origin import Origin
from bridge.model.person_entry import DeliveryState, GroupPerson, MembershipJob, PersonEntry, RequestContext
from bridge.persons.membership import GrantedPerson, after_membership_change
from bridge.persons.schema import added_again

if TYPE_CHECKING:
    # A transaction applies the jobs.
    from bridge.persons.transactions import PersonTransaction


def start(transaction: "PersonTransaction", job: MembershipJob) -> bool:
    """Store that a terminal left and joined groups; return whether a job must change its persons."""
    has_job = transaction.kept.change_memberships(job, has_jobs=transaction.has_jobs(job.sn))
    if has_job:
        transaction.note_jobs()
    return has_job


def advance(transaction: "PersonTransaction", job: MembershipJob, limit: int) -> MembershipJob | None:
    """Apply a change of memberships to the next persons; return the job as it is then, None if it is done.

    Every access to a terminal's entries applies its jobs first, so to read the entries is enough.
    """
    transaction.write()
    transaction.note_jobs()
    if job.left_after is not None:
        leaving = transaction.kept.next_leaving(job, limit)
        transaction.kept.start(job, job.joined_after)
        transaction.entries(job.sn, leaving)
        transaction.kept.end()
        job = replace(job, left_after=leaving[-1] if leaving and job.left else None)
    else:
        joining = transaction.kept.next_joining(job, limit)
        if not joining:
            transaction.kept.drop_jobs([job])
            return None
        last = max(joining.values())
        transaction.kept.start(job, last)
        transaction.entries(job.sn, list(joining))
        transaction.kept.end()
        job = replace(job, joined_after=last)
    transaction.kept.put_progress(job)
    return job


def apply(
    transaction: "PersonTransaction",
    job: MembershipJob,
    person_ids: Sequence[str],
    found: dict[str | None, PersonEntry],
) -> None:
    """Apply a change of memberships to persons; `found` has their entries before and after."""
    is_running = transaction.kept.is_running(job)
    person_ids = transaction.kept.not_applied_early(job, person_ids)
    if not person_ids:
        return
    done = transaction.kept.done(job, person_ids)
    joining = transaction.kept.to_join(job, person_ids)
    for person_id in person_ids:
        if person_id in done:
            continue
        # Leaving is not repeated: a later job may have joined the group again.
        left = () if job.has_left(person_id) else job.left
        entry, joined = found.get(person_id), joining.get(person_id, ())
        before = None if entry is None or entry.person is None else GrantedPerson(entry.person, entry.access)
        after = after_membership_change(before, left, joined)
        if after == before:
            continue
        has_same_value = before is not None and after is not None and before.person == after.person
        if entry is not None and has_same_value and entry.delivery is not DeliveryState.REFUSED:
            assert after is not None
            transaction.grant(entry, after.access)
            found[person_id] = replace(entry, access=after.access)
            continue
        transaction.supersede(entry)
        person = None if after is None else after.person
        if person is not None and entry is not None and entry.person is None:
            person = added_again(person)
        changed = PersonEntry(
            sn=job.sn,
            person_id=person_id,
            revision=transaction.next_revisions(1),
            person=person,
            changed_at=transaction.now(),
            confirmed_revision=None if entry is None else entry.confirmed_revision,
            request=_request(transaction, job, joined),
            access=() if after is None else after.access,
        )
        transaction.replace(entry, changed)
        found[person_id] = changed
    covered = transaction.kept.joined_after(job)
    early = [
        person_id
        for person_id in person_ids
        if (not is_running and not job.has_left(person_id))
        or any(one.revision > covered for one in joining.get(person_id, ()))
    ]
    transaction.kept.note_done(job, early)
    transaction.kept.note_applied(job, person_ids)


def _request(transaction: "PersonTransaction", job: MembershipJob, joined: Sequence[GroupPerson]) -> RequestContext:
    groups = sorted({kept.group for kept in joined} or job.left)
    names = f"group{'' if len(groups) == 1 else 's'} {', '.join(groups)}"
    return RequestContext(
        command=(SET_PERSONS if joined else REMOVE_PERSONS).name,
        request_id=None,
        origin=Origin(source=f"membership of {names}"),
        received_at=transaction.boottime(),
        boot_id=transaction.boot_id,
        note=f"{'joined' if joined else 'left'} {names}",
    )
