"""A transaction on persons: what a change reads and writes; it runs on the store's writer thread."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from bridge.core.clock import Clock
from bridge.model.person_entry import DeliveryState, FinalReply, OpenSync, PersonEntry, PersonJob, RequestContext
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts
from bridge.persons.message_log import MessageLog
from bridge.persons.preparation import PreparedPhoto
from bridge.store import person_queries as queries
from bridge.store.photos import PhotoCipher, add_photos, drop_unused_photos

BATCH = 100
"""Entries that are read, changed and written together: few enough for the memory, enough to share the cost."""

NO_PERSONS = PersonCounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAnswer:
    """A terminal's answer to a change.

    Attributes:
        sn: the terminal.
        person_id: the person; None for everyone.
        revision: the change's.
        status: the terminal's, 0 for success; None if the change could not even be sent.
        message: its text.
        msgid: of the frame that it answers.
    """

    sn: str
    person_id: str | None
    revision: int
    status: int | None
    message: str
    msgid: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the terminal carried out the change."""
        return self.status == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The effects of a transaction.

    Attributes:
        counts: what it adds to the counts of each terminal that it touched, or their new totals.
        are_totals: whether `counts` are totals.
        changed: the terminals that must be sent something else than before.
        final_replies: those that it added to the outbox.
        last_final_reply_id: the newest id in the outbox; 0 if it added none.
        photos_dropped: whether a photo was deleted.
        has_jobs: whether it left something to `bridge.persons.batches`.
    """

    counts: Mapping[str, PersonCounts]
    are_totals: bool = False
    changed: Collection[str]
    final_replies: Sequence[FinalReply] = ()
    last_final_reply_id: int = 0
    photos_dropped: bool = False
    has_jobs: bool = False


@dataclass(slots=True)
class _Unwritten:
    put: dict[tuple[str, str | None], PersonEntry] = field(default_factory=dict)
    drop: dict[tuple[str, str | None], PersonEntry] = field(default_factory=dict)
    photos: dict[str, bytes] = field(default_factory=dict)
    final_replies: list[FinalReply] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.put) + len(self.drop) + len(self.final_replies)


class PersonTransaction:
    """One transaction: collects changes, writes them in batches, and derives counts, photos and final replies.

    Attributes:
        messages: the messages whose changes are stored.
    """

    def __init__(self, connection: Connection, cipher: PhotoCipher, clock: Clock, boot_id: str) -> None:
        self._connection = connection
        self._cipher = cipher
        self._clock = clock
        self._boot_id = boot_id
        self._unwritten = _Unwritten()
        self._first_revision: int | None = None
        self._reserved_revisions = 0
        self._counts: defaultdict[str, PersonCounts] = defaultdict(PersonCounts)
        self._changed: set[str] = set()
        self._written_photos: set[str] = set()
        self._released_photos: set[str] = set()
        self._final_replies: list[FinalReply] = []
        self._jobs: dict[str, PersonJob] | None = None
        self._has_jobs = False
        self._job_rows = BATCH
        self.messages = MessageLog(connection, clock.now)

    def now(self) -> datetime:
        """Return the time for what is recorded."""
        return self._clock.now()

    def next_revisions(self, count: int) -> int:
        """Reserve `count` consecutive revisions and return the first; 0 returns the one that comes next."""
        if self._first_revision is None:
            # No other transaction reserves any before this one has ended.
            self._first_revision = queries.next_revisions(self._connection, 0)
        first = self._first_revision + self._reserved_revisions
        self._reserved_revisions += count
        return first

    def entries(self, sn: str, person_ids: Collection[str | None]) -> dict[str | None, PersonEntry]:
        """Return a terminal's entries, including the changes of this transaction."""
        if self._unwritten.length >= BATCH:
            self._write()
        found = {entry.person_id: entry for entry in queries.entries(self._connection, sn, person_ids)}
        # A change of a person for a group is an entry for each member: to write these one by one, before each read,
        # would cost several times as much.
        for person_id in person_ids:
            key = (sn, person_id)
            if key in self._unwritten.put:
                found[person_id] = self._unwritten.put[key]
            elif key in self._unwritten.drop:
                found.pop(person_id, None)
        job = self.job(sn)
        if job.drop_below is not None:
            # They are removed already, only not deleted yet.
            for entry in [entry for entry in found.values() if entry.revision < job.drop_below]:
                self._drop(entry, job.drop_message or "")
                del found[entry.person_id]
        return found

    def job(self, sn: str) -> PersonJob:
        """Return a terminal's job; one without anything to do if there is none."""
        if self._jobs is None:
            self._jobs = {job.sn: job for job in queries.jobs(self._connection)}
        return self._jobs.get(sn) or PersonJob(sn=sn)

    def put_job(self, job: PersonJob) -> None:
        """Replace a terminal's job."""
        if job != self.job(job.sn):
            queries.put_job(self._connection, job)
            assert self._jobs is not None
            self._jobs[job.sn] = job
            self._counts[job.sn] = added(self._counts[job.sn])
        self._has_jobs |= job != PersonJob(sn=job.sn)

    def reserve_rows(self, count: int) -> int:
        """Return how many of `count` more entries this transaction may change at once for jobs."""
        granted = min(count, self._job_rows)
        self._job_rows -= granted
        return granted

    def refused_removals(self, sn: str, limit: int) -> list[str | None]:
        """Return the persons (None: everyone) whose removal the terminal has refused, oldest first."""
        self._write()
        return queries.refused_removals(self._connection, sn, limit)

    def drop_below(self, sn: str, revision: int, message: str, limit: int) -> int:
        """Delete up to `limit` entries of lower revisions; requests that wait get the final reply `superseded`.

        Returns:
            The number of deleted entries.
        """
        self._write()
        dropped = queries.entries_below(self._connection, sn, revision, limit)
        for entry in dropped:
            self._drop(entry, message)
        return len(dropped)

    def send_again(self, job: PersonJob, limit: int) -> int | None:
        """Mark up to `limit` entries of a sync as pending.

        Returns:
            The revision up to which that is done; None if nothing is left.
        """
        self._write()
        # The number of those that are marked is known later; a gap in the revisions does no harm.
        first = self.next_revisions(limit)
        marked = queries.mark_to_send(self._connection, job, first, limit)
        if marked.marked:
            self._changed.add(job.sn)
            queries.extend_syncs(self._connection, job.sn, first + marked.marked - 1)
        lost = PersonCounts(confirmed=marked.confirmed, refused=marked.refused)
        gained = PersonCounts(pending=marked.confirmed + marked.refused)
        self._counts[job.sn] = added(self._counts[job.sn], gained, lost)
        return marked.next_after

    def replace(
        self, before: PersonEntry | None, after: PersonEntry | None, photo: PreparedPhoto | None = None
    ) -> None:
        """Replace an entry by another; None stands for no entry.

        Args:
            before: the entry that is stored, or that this transaction put there.
            after: the new entry, of the same terminal and person.
            photo: of the person in `after`, if the store may not have it.
        """
        for entry in (before, after):
            if entry is not None:
                self._changed.add(entry.sn)
        # One photo may be for many terminals.
        if photo is not None and photo.sha256 not in self._written_photos:
            self._unwritten.photos[photo.sha256] = photo.jpeg
        self._put(before, after)

    def supersede(self, before: PersonEntry | None, message: str) -> None:
        """Send the final reply `superseded` for `before`, if its request still waits for one."""
        if before is not None and before.request is not None and before.delivery is DeliveryState.PENDING:
            self._reply(before.sn, before.person_id, before.request, Outcome.SUPERSEDED, message=message)

    def answer(self, entry: PersonEntry, answer: TerminalAnswer) -> None:
        """Store the terminal's answer to `entry`, and send the final reply."""
        if entry.request is not None:
            self._reply(
                entry.sn,
                entry.person_id,
                entry.request,
                Outcome.OK if answer.is_success else Outcome.REFUSED,
                msgid=answer.msgid,
                status=answer.status,
                message=answer.message,
                delivered=answer.msgid is not None,
            )
        if answer.is_success and entry.person is None:
            # A confirmed removal leaves nothing to keep or to show.
            self._put(entry, None)
            if entry.person_id is None:
                self._removed_everyone(entry.sn)
            return
        answered = replace(
            entry,
            delivery=DeliveryState.CONFIRMED if answer.is_success else DeliveryState.REFUSED,
            confirmed_revision=entry.revision if answer.is_success else entry.confirmed_revision,
            status=answer.status,
            message=answer.message,
            changed_at=self.now(),
            request=None,
        )
        self._put(entry, answered)

    def add_sync(self, sync: OpenSync) -> None:
        """Store a sync until it is finished, perhaps at once; the terminal's earlier syncs end with it."""
        self._counts[sync.sn] = added(self._counts[sync.sn])
        queries.extend_syncs(self._connection, sync.sn, sync.revision)
        queries.add_sync(self._connection, sync)

    def drop_syncs(self, sn: str, message: str) -> None:
        """Delete a terminal's syncs, and send their final replies."""
        syncs = queries.syncs(self._connection, [sn])
        for sync in syncs:
            self._reply(sn, None, sync.request, Outcome.SUPERSEDED, message=message)
        queries.drop_syncs(self._connection, [sync.id for sync in syncs])

    def finish(self) -> Committed:
        """Write all that is left, and return the effects; nothing may be changed afterwards."""
        self._write()
        self._end_syncs()
        self._write()
        self.messages.finish()
        photos_dropped = drop_unused_photos(self._connection, self._released_photos)
        if self._reserved_revisions:
            queries.next_revisions(self._connection, self._reserved_revisions)
        return Committed(
            counts=self._counts,
            changed=self._changed,
            final_replies=self._final_replies,
            last_final_reply_id=queries.last_final_reply_id(self._connection) if self._final_replies else 0,
            photos_dropped=photos_dropped,
            has_jobs=self._has_jobs,
        )

    def _removed_everyone(self, sn: str) -> None:
        """Send again the persons that the terminal confirmed before it removed everyone.

        There are some if it had refused the removal at first.
        """
        job = self.job(sn)
        self._write()
        if job.send_below is None and queries.has_confirmed(self._connection, sn):
            self.put_job(replace(job, send_below=self.next_revisions(1)))

    def _drop(self, entry: PersonEntry, message: str) -> None:
        self.supersede(entry, message)
        self.replace(entry, None)

    def _put(self, before: PersonEntry | None, after: PersonEntry | None) -> None:
        changed = after or before
        if changed is None:
            return
        key = (changed.sn, changed.person_id)
        self._unwritten.put.pop(key, None)
        self._unwritten.drop.pop(key, None)
        (self._unwritten.drop if after is None else self._unwritten.put)[key] = changed
        if before is not None and before.person is not None:
            person = after.person if after is not None else None
            if person is None or person.photo != before.person.photo:
                self._released_photos.add(before.person.photo)
        gained = after.counts if after is not None else NO_PERSONS
        lost = before.counts if before is not None else NO_PERSONS
        self._counts[changed.sn] = added(self._counts[changed.sn], gained, lost)

    def _end_syncs(self) -> None:
        ended: list[int] = []
        first_pending: dict[str, int | None] = {}
        for sync in queries.syncs(self._connection, self._counts):
            if sync.sn not in first_pending:
                first_pending[sync.sn] = queries.first_pending(self._connection, sync.sn)
            first = first_pending[sync.sn]
            is_marked = self.job(sync.sn).send_below is None
            if is_marked and (first is None or first > sync.revision):
                self._reply(sync.sn, None, sync.request, Outcome.OK)
                ended.append(sync.id)
        queries.drop_syncs(self._connection, ended)

    def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, _Unwritten()
        add_photos(self._connection, self._cipher, unwritten.photos)
        self._written_photos |= unwritten.photos.keys()
        queries.put_entries(self._connection, list(unwritten.put.values()))
        queries.drop_entries(self._connection, list(unwritten.drop.values()))
        queries.add_final_replies(self._connection, unwritten.final_replies)

    def _reply(self, sn: str, person_id: str | None, request: RequestContext, outcome: Outcome, **details: Any) -> None:
        is_same_boot = request.boot_id == self._boot_id
        reply = Reply(
            command=request.command,
            request_id=request.request_id,
            sn=sn,
            person_id=person_id,
            outcome=outcome,
            at=self.now(),
            duration_ms=(self._clock.boottime() - request.received_at) * 1000 if is_same_boot else None,
            **details,
        )
        if request.message_id is not None:
            self.messages.note_final_reply(request.message_id, reply)
        final_reply = FinalReply(reply=reply, origin=request.origin)
        self._unwritten.final_replies.append(final_reply)
        self._final_replies.append(final_reply)


def added(counts: PersonCounts, gained: PersonCounts = NO_PERSONS, lost: PersonCounts = NO_PERSONS) -> PersonCounts:
    """Return `counts` plus one entry's share minus another's."""
    return PersonCounts(
        desired=counts.desired + gained.desired - lost.desired,
        confirmed=counts.confirmed + gained.confirmed - lost.confirmed,
        pending=counts.pending + gained.pending - lost.pending,
        refused=counts.refused + gained.refused - lost.refused,
    )
