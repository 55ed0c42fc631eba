"""A transaction on persons: what a change reads and writes; it runs on the store's writer thread."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from bridge.core.clock import Clock
from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS
from bridge.model.faults import InvalidError
from bridge.model.origin import Origin
from bridge.model.person_entry import (
    ChangedPerson,
    DeliveryState,
    FinalReply,
    GroupChange,
    GroupChangeKind,
    GroupPerson,
    MemberJob,
    MembershipJob,
    OpenSync,
    PersonEntry,
    PersonJob,
    RequestContext,
)
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts
from bridge.persons import whole_terminal
from bridge.persons.effects import NO_PERSONS, Committed, TerminalAnswer, added
from bridge.persons.entry_changes import ChangeOrder, granted, pending_entry
from bridge.persons.group_changes import GroupChanges
from bridge.persons.kept_persons import KeptPersons
from bridge.persons.membership import GrantedPerson, after_membership_change
from bridge.persons.message_log import MessageLog
from bridge.persons.preparation import PreparedPhoto
from bridge.persons.schema import PersonPatch, added_again
from bridge.persons.whole_terminal import SUPERSEDED
from bridge.store import person_queries as queries
from bridge.store.group_change_queries import validity_on
from bridge.store.person_names import PersonName, drop_unused_names
from bridge.store.photos import PhotoCipher, add_photos, drop_unused_photos

BATCH = 100
"""Entries that are read, changed and written together: few enough for the memory, enough to share the cost."""

DIRECT_ROWS = 100
"""Entries of group members that one transaction changes when it accepts changes: some 20 ms. A change of more entries
becomes a job (`bridge.persons.batches`)."""


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
        kept: the persons that groups keep.
        changes: the changes of groups that are not applied to every member yet.
        finished_joins: the changes of memberships for which an earlier transaction did what `finish_joins` does.
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
        # The part of the written photos that the store did not have, or only damaged.
        self._new_photos: set[str] = set()
        self._released_photos: set[str] = set()
        self._released_names: set[PersonName] = set()
        self._final_replies: list[FinalReply] = []
        self._jobs: dict[str, PersonJob] | None = None
        # What is stored, with None for no entry.
        self._read_ahead: dict[tuple[str, str | None], PersonEntry | None] = {}
        self._has_jobs = False
        self._job_rows = whole_terminal.JOB_ROWS
        self._direct_rows = DIRECT_ROWS
        self.messages = MessageLog(connection, clock.now)
        self.kept = KeptPersons(connection)
        self.changes = GroupChanges(connection)
        self.finished_joins: Collection[int] = ()
        # The membership job whose turn it is, and the revision up to which its progress covers joined persons.
        self._running_job: tuple[int, int] | None = None
        # Jobs and persons to which this transaction has applied them before their turn.
        self._applied_early: set[tuple[int, str]] = set()

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

    def entries(
        self, sn: str, person_ids: Collection[str | None], *, before_job: int | None = None
    ) -> dict[str | None, PersonEntry]:
        """Return a terminal's entries, including the changes of this transaction.

        Unfinished jobs of the terminal are applied to these persons first.

        Args:
            sn: the terminal.
            person_ids: the persons; None for the removal of everyone.
            before_job: only jobs with lower ids are applied; None: all.
        """
        self._apply_whole_changes(sn, before_job)
        if self._unwritten.length >= BATCH:
            self._write()
        found = self._stored_entries(sn, person_ids)
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
        ids = [one for one in person_ids if one is not None]
        changes = dict(self.changes.jobs_with(sn, ids))
        jobs: list[MembershipJob | MemberJob] = [*self.kept.jobs(sn), *changes]
        for one in sorted(jobs, key=lambda one: one.id):
            if before_job is not None and one.id >= before_job:
                break
            if isinstance(one, MembershipJob):
                self._change_membership(one, ids, found)
            else:
                self._change_member(one, changes[one], found)
        return found

    def has_jobs(self, sn: str) -> bool:
        """Return whether a terminal has unfinished jobs."""
        return bool(self.kept.jobs(sn)) or self.changes.has_jobs(sn)

    def read_ahead(self, sns: Collection[str], person_ids: Collection[str]) -> None:
        """Read the entries of these persons on many terminals in one query, for the calls of `entries` that follow.

        A query for each terminal takes as long as the writing of 20 entries.
        """
        self._write()
        self._read_ahead = {(sn, person_id): None for sn in sns for person_id in person_ids}
        for entry in queries.entries_on(self._connection, sns, person_ids):
            assert entry.person_id is not None
            self._read_ahead[entry.sn, entry.person_id] = entry
        self.kept.read_jobs(sns)

    def _stored_entries(self, sn: str, person_ids: Collection[str | None]) -> dict[str | None, PersonEntry]:
        keys = [(sn, person_id) for person_id in person_ids]
        if all(key in self._read_ahead for key in keys):
            ahead = (self._read_ahead[key] for key in keys)
            return {entry.person_id: entry for entry in ahead if entry is not None}
        return {entry.person_id: entry for entry in queries.entries(self._connection, sn, person_ids)}

    def start_membership(self, job: MembershipJob) -> bool:
        """Store that a terminal left and joined groups; return whether a job must change its persons."""
        has_job = self.kept.change_memberships(job, has_jobs=self.has_jobs(job.sn))
        self._has_jobs |= has_job
        return has_job

    def continue_membership(self, job: MembershipJob, limit: int) -> MembershipJob | None:
        """Apply a change of memberships to the next persons; return the job as it is then, None if it is done.

        Every access to a terminal's entries applies its jobs first, so to read the entries is enough.
        """
        self._write()
        self._has_jobs = True
        if job.left_after is not None:
            leaving = self.kept.next_leaving(job, limit)
            self._running_job = (job.id, job.joined_after)
            self.entries(job.sn, leaving)
            self._running_job = None
            job = replace(job, left_after=leaving[-1] if leaving and job.left else None)
        else:
            joining = self.kept.next_joining(job, limit)
            if not joining:
                self.kept.drop_jobs([job])
                return None
            last = max(joining.values())
            self._running_job = (job.id, last)
            self.entries(job.sn, list(joining))
            self._running_job = None
            job = replace(job, joined_after=last)
        self.kept.put_progress(job)
        return job

    def has_room(self, rows: int) -> bool:
        """Return whether an accepting transaction may change so many more entries of members at once, and count them.

        If not, `add_change` leaves them to a job.
        """
        if rows > self._direct_rows:
            return False
        self._direct_rows -= rows
        return True

    def add_change(
        self,
        group: str,
        kind: GroupChangeKind,
        sns: Sequence[str],
        request: RequestContext,
        persons: Sequence[tuple[ChangedPerson, PreparedPhoto | None]] = (),
    ) -> None:
        """Accept a change of a group's members, and leave it to a job.

        Args:
            group: the group.
            kind: what the change does.
            sns: the members.
            request: the request.
            persons: the persons, each with the photo if one is set.
        """
        for _, photo in persons:
            self._add_photo(photo)
        self._write()
        first = self.next_revisions(1 + len(sns))
        change = GroupChange(id=first, group=group, kind=kind, request=request)
        jobs = [MemberJob(id=number, sn=sn, change=change) for number, sn in enumerate(sns, first + 1)]
        self.changes.add(change, [person for person, _ in persons], jobs)
        self._has_jobs = True

    def continue_change(self, rows: int) -> bool:
        """Apply the oldest change of a group to the next members, to `rows` entries; return False if there is none."""
        self._write()
        change = self.changes.oldest()
        if change is None:
            return False
        self._has_jobs = True
        jobs = self.changes.next_jobs(change, rows)
        if not jobs:
            self.changes.drop(change)
            return True
        if not change.is_of_persons:
            for job in jobs[: max(1, rows // whole_terminal.ROWS)]:
                self._apply_whole_changes(job.sn, job.id + 1)
            return True
        # Members that have got the same persons get the next ones together.
        after = jobs[0].applied
        persons = self.changes.persons_after(change, after, min(BATCH, rows))
        jobs = [job for job in jobs if job.applied == after][: max(1, rows // max(len(persons), 1))]
        if persons:
            ids = list({one.person_id for one in persons})
            self.read_ahead([job.sn for job in jobs], ids)
            self.changes.start(jobs, persons)
            for job in jobs:
                self.entries(job.sn, ids, before_job=job.id + 1)
            self.changes.end()
            self.changes.put_applied(jobs, persons[-1].position)
        if len(persons) < min(BATCH, rows):
            self.changes.drop_jobs(jobs)
        return True

    def finish_changes(self, sn: str, *, before_job: int | None = None) -> None:
        """Apply the unfinished changes of groups that name persons to all of these on a terminal."""
        for job in self.changes.jobs(sn):
            if not job.change.is_of_persons or (before_job is not None and job.id >= before_job):
                continue
            after = job.applied
            while persons := self.changes.persons_after(job.change, after, BATCH):
                after = persons[-1].position
                self.entries(sn, list({one.person_id for one in persons}), before_job=job.id + 1)
            self.changes.drop_jobs([job])

    def _apply_whole_changes(self, sn: str, before_job: int | None) -> None:
        """Apply the unfinished changes of groups that are about everything on a terminal; they are short."""
        for job in self.changes.whole_jobs(sn):
            if before_job is not None and job.id >= before_job:
                break
            self.changes.drop_jobs([job])
            whole_terminal.change(self, sn, job.change.kind, job.change.request, before_job=job.id)

    def drop_removed_from_groups(self, limit: int) -> None:
        """Delete up to `limit` rows of persons who were removed from a group together."""
        self._has_jobs |= self.kept.drop_removed(limit)

    def replace_kept(
        self, group: str, before: GroupPerson | None, after: GroupPerson | None, photo: PreparedPhoto | None = None
    ) -> None:
        """Replace a person of a group, as `replace` does for a terminal."""
        self._add_photo(photo)
        self.kept.replace(group, before, after)

    def finish_joins(self, group: str, person_ids: Sequence[str]) -> None:
        """Let terminals that are joining a group get persons as the group keeps them now, before that changes.

        This includes those that have left the group since.
        """
        for job in self.joining(group) if person_ids else ():
            if job.id not in self.finished_joins:
                self.entries(job.sn, person_ids)

    def joining(self, group: str) -> list[MembershipJob]:
        """Return the unfinished changes of memberships that let a terminal join a group."""
        return [job for job in self.kept.all_jobs() if group in job.joined]

    def validity_on(
        self, sns: Sequence[str], person_ids: Collection[str]
    ) -> Mapping[tuple[str, str], tuple[str | None, str | None]]:
        """Return by SN and person which persons terminals should hold, with the stored times of the validity."""
        self._write()
        return validity_on(self._connection, sns, person_ids)

    def remove_everyone_from_group(self, group: str) -> None:
        """Remove all persons that a group keeps."""
        self._write()
        self.kept.remove_everyone(group, self.next_revisions(1))
        self._has_jobs = True

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

    def retry(self, sn: str, person_ids: Sequence[str | None]) -> None:
        """Mark the refused changes of these persons as pending."""
        first = self.next_revisions(len(person_ids))
        entries = self.entries(sn, person_ids)
        for revision, person_id in enumerate(person_ids, first):
            entry = entries.get(person_id)
            # A job of the terminal may have changed or removed it a moment ago.
            if entry is not None and entry.delivery is DeliveryState.REFUSED:
                again = replace(entry, revision=revision, delivery=DeliveryState.PENDING, status=None, message=None)
                self.replace(entry, again)

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
        self._read_ahead.clear()
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
        self._add_photo(photo)
        self._put(before, after)

    def grant(self, entry: PersonEntry, access: tuple[str, ...]) -> None:
        """Change the scopes through which a terminal holds a person; nothing is sent."""
        self._put(entry, replace(entry, access=access))

    def supersede(self, before: PersonEntry | None, message: str = SUPERSEDED) -> None:
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
        self._send_repaired_photos()
        self._end_syncs()
        self._write()
        self.messages.finish()
        drop_unused_names(self._connection, self._released_names | self.kept.released_names)
        photos_dropped = drop_unused_photos(
            self._connection, self._released_photos | self.kept.released_photos | self.changes.released_photos
        )
        if self._reserved_revisions:
            queries.next_revisions(self._connection, self._reserved_revisions)
        return Committed(
            counts=self._counts,
            group_sizes=self.kept.sizes,
            changed=self._changed,
            final_replies=self._final_replies,
            last_final_reply_id=queries.last_final_reply_id(self._connection) if self._final_replies else 0,
            photos_dropped=photos_dropped,
            has_jobs=self._has_jobs,
        )

    def _change_membership(
        self, job: MembershipJob, person_ids: Sequence[str], found: dict[str | None, PersonEntry]
    ) -> None:
        """Apply a change of memberships to persons; `found` has their entries before and after."""
        is_running = self._running_job is not None and self._running_job[0] == job.id
        person_ids = [one for one in person_ids if is_running or (job.id, one) not in self._applied_early]
        if not person_ids:
            return
        done = self.kept.done(job, person_ids)
        joining = self.kept.to_join(job, person_ids)
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
                self.grant(entry, after.access)
                found[person_id] = replace(entry, access=after.access)
                continue
            self.supersede(entry)
            person = None if after is None else after.person
            if person is not None and entry is not None and entry.person is None:
                person = added_again(person)
            changed = PersonEntry(
                sn=job.sn,
                person_id=person_id,
                revision=self.next_revisions(1),
                person=person,
                changed_at=self.now(),
                confirmed_revision=None if entry is None else entry.confirmed_revision,
                request=self._membership_request(job, joined),
                access=() if after is None else after.access,
            )
            self.replace(entry, changed)
            found[person_id] = changed
        covered = job.joined_after if self._running_job is None or not is_running else self._running_job[1]
        early = [
            person_id
            for person_id in person_ids
            if (not is_running and not job.has_left(person_id))
            or any(one.revision > covered for one in joining.get(person_id, ()))
        ]
        self.kept.note_done(job, early)
        if not is_running:
            self._applied_early.update((job.id, person_id) for person_id in person_ids)

    def _change_member(
        self, job: MemberJob, persons: Sequence[ChangedPerson], found: dict[str | None, PersonEntry]
    ) -> None:
        """Apply a change of a group to persons of a member; `found` has their entries before and after."""
        is_running = self.changes.is_running(job)
        if not is_running:
            persons = [one for one in persons if (job.id, one.person_id) not in self._applied_early]
        if not persons:
            return
        person_ids = {one.person_id for one in persons}
        done = self.changes.done(job, person_ids)
        order = ChangeOrder(now=self.now(), request=job.change.request)
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
            self.supersede(before)
            after = pending_entry((job.sn, one.person_id), before, self.next_revisions(1), order, held)
            self.replace(before, after)
            found[one.person_id] = after
        if not is_running:
            self.changes.note_done(job, person_ids)
            self._applied_early.update((job.id, person_id) for person_id in person_ids)

    def _membership_request(self, job: MembershipJob, joined: Sequence[GroupPerson]) -> RequestContext:
        groups = sorted({kept.group for kept in joined} or job.left)
        names = f"group{'' if len(groups) == 1 else 's'} {', '.join(groups)}"
        return RequestContext(
            command=(SET_PERSONS if joined else REMOVE_PERSONS).name,
            request_id=None,
            origin=Origin(source=f"membership of {names}"),
            received_at=self._clock.boottime(),
            boot_id=self._boot_id,
            note=f"{'joined' if joined else 'left'} {names}",
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

    def _add_photo(self, photo: PreparedPhoto | None) -> None:
        # One photo may be for many terminals.
        if photo is not None and photo.sha256 not in self._written_photos:
            self._unwritten.photos[photo.sha256] = photo.jpeg

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
        if before is not None and (after is None or queries.name_of(after) != queries.name_of(before)):
            self._released_names.add(queries.name_of(before))
        gained = after.counts if after is not None else NO_PERSONS
        lost = before.counts if before is not None else NO_PERSONS
        self._counts[changed.sn] = added(self._counts[changed.sn], gained, lost)

    def _send_repaired_photos(self) -> None:
        """Mark changes as pending that the bridge refused to send because their photo was missing or damaged."""
        for sn, person_ids in queries.unsent_with_photos(self._connection, self._new_photos).items():
            self.retry(sn, person_ids)
        self._write()

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
        self._new_photos.update(add_photos(self._connection, self._cipher, unwritten.photos))
        self._written_photos |= unwritten.photos.keys()
        for key, entry in unwritten.put.items():
            if key in self._read_ahead:
                self._read_ahead[key] = entry
        for key in unwritten.drop:
            if key in self._read_ahead:
                self._read_ahead[key] = None
        queries.put_entries(self._connection, list(unwritten.put.values()))
        queries.drop_entries(self._connection, list(unwritten.drop.values()))
        self.kept.write()
        queries.add_final_replies(self._connection, unwritten.final_replies)

    def _reply(self, sn: str, person_id: str | None, request: RequestContext, outcome: Outcome, **details: Any) -> None:
        is_same_boot = request.boot_id == self._boot_id
        if request.note is not None:
            details["message"] = ": ".join(part for part in (request.note, details.get("message")) if part)
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
