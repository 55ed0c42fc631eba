"""Changes of everything that a terminal holds: the removal of everyone, and the sync.

The accepting transaction applies the first entries and stores a `PersonJob` for the others, with the revision below
which the change applies (`bridge.persons.batches`).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.model.person_entry import GroupChangeKind, OpenSync, PersonJob, RequestContext
from bridge.persons.entry_changes import ChangeOrder, pending_entry
from bridge.persons.entry_transaction import SUPERSEDED

if TYPE_CHECKING:
    # A transaction applies these changes to members of groups.
    from bridge.persons.transactions import PersonTransaction

ROWS = 5
"""Entries that take as long to change as one of these changes takes to be accepted."""


def change(
    transaction: "PersonTransaction",
    sn: str,
    kind: GroupChangeKind,
    request: RequestContext,
    *,
    before_job: int | None = None,
) -> None:
    """Remove everyone from a terminal, or sync it.

    Args:
        transaction: the transaction.
        sn: the terminal.
        kind: `REMOVE_EVERYONE`, `SYNC` or `CLEAR`.
        request: the request.
        before_job: jobs of the terminal with this id and later ones come after the change; None: none does.
    """
    if kind is GroupChangeKind.REMOVE_EVERYONE:
        _remove_everyone(transaction, sn, request, before_job=before_job)
    else:
        _sync(transaction, sn, request, clear=kind is GroupChangeKind.CLEAR, before_job=before_job)


def _remove_everyone(
    transaction: "PersonTransaction", sn: str, request: RequestContext, *, before_job: int | None = None
) -> None:
    """Remove all entries of a terminal, and let it remove everyone."""
    transaction.finish_changes(sn, before_job=before_job)
    before = transaction.entries(sn, [None], before_job=before_job).get(None)
    transaction.supersede(before)
    revision = transaction.next_revisions(1)
    order = ChangeOrder(now=transaction.now(), request=request)
    transaction.replace(before, pending_entry((sn, None), before, revision, order))
    remove_below(transaction, sn, revision, SUPERSEDED, before_job=before_job)


def remove_below(
    transaction: "PersonTransaction", sn: str, revision: int, message: str, *, before_job: int | None = None
) -> None:
    """Remove a terminal's entries of lower revisions.

    Args:
        transaction: the transaction; it deletes the first entries, and a job the others.
        sn: the terminal.
        revision: the limit.
        message: of the final replies `superseded` to the requests of these entries.
        before_job: as in `change`.
    """
    transaction.finish_changes(sn, before_job=before_job)
    # What the terminal got by joining groups is removed, too.
    jobs = [job for job in transaction.kept.jobs(sn) if before_job is None or job.id < before_job]
    transaction.kept.drop_jobs(jobs)
    rows = transaction.reserve_rows()
    # Everything that a sync would send again is removed.
    job = replace(transaction.job(sn), send_below=None, send_after=-1, send_all=False)
    if rows and transaction.drop_below(sn, revision, message, rows) < rows:
        transaction.put_job(replace(job, drop_below=None, drop_message=None))
    else:
        transaction.put_job(replace(job, drop_below=revision, drop_message=message))


def _sync(
    transaction: "PersonTransaction",
    sn: str,
    request: RequestContext,
    *,
    clear: bool,
    before_job: int | None = None,
) -> None:
    """Mark everything to be sent again, refused changes included; with `clear` after the removal of everyone.

    Requests that wait for a pending change go on waiting: it is the same change, sent again.
    """
    below = transaction.next_revisions(1)
    if clear:
        removal = transaction.entries(sn, [None], before_job=before_job).get(None)
        waiting = removal.request if removal is not None else None
        order = ChangeOrder(now=transaction.now(), request=waiting)
        transaction.replace(removal, pending_entry((sn, None), removal, below, order))
    transaction.add_sync(OpenSync(sn=sn, revision=below, request=request))
    _send_again(transaction, sn, below, include_pending=clear)


def _send_again(transaction: "PersonTransaction", sn: str, below: int, *, include_pending: bool) -> None:
    """Mark a terminal's entries of lower revisions to be sent again, refused ones included.

    Args:
        transaction: the transaction; it marks the first entries, and a job the others.
        sn: the terminal.
        below: the limit.
        include_pending: whether pending entries get a new revision: after a removal of everyone.
    """
    before = transaction.job(sn)
    # An unfinished sync continues: those that it has marked are sent again anyway.
    after = -1 if include_pending else before.send_after
    job = replace(before, send_below=below, send_after=after, send_all=before.send_all or include_pending)
    rows = transaction.reserve_rows()
    if before.drop_below is None and before.send_below is None and rows:
        job = mark_again(transaction, job, rows)
    transaction.put_job(job)


def mark_again(transaction: "PersonTransaction", job: PersonJob, rows: int) -> PersonJob:
    """Mark the next entries of a sync; return the job as it is then."""
    after = transaction.send_again(job, rows)
    if after is None:
        return replace(job, send_below=None, send_after=-1, send_all=False)
    return replace(job, send_after=after)
