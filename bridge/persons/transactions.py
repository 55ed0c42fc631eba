"""A transaction on persons: what a change reads and writes; it runs on the store's writer thread."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from bridge.core.clock import Clock
from bridge.model.person_entry import DeliveryState, GroupPerson, MemberJob, MembershipJob, PersonEntry, PersonJob
from bridge.model.reply import Outcome
from bridge.persons import group_change_jobs, membership_jobs
from bridge.persons.effects import Committed, TerminalAnswer, added
from bridge.persons.entry_transaction import BATCH, EntryTransaction
from bridge.persons.group_changes import GroupChanges
from bridge.persons.kept_persons import KeptPersons
from bridge.persons.preparation import PreparedPhoto
from bridge.store import person_queries as queries
from bridge.store.group_change_queries import changed_since, validity_on
from bridge.store.person_names import drop_unused_names
from bridge.store.photos import PhotoCipher, drop_unused_photos

DIRECT_ROWS = 100
"""Entries of group members that one transaction changes when it accepts changes: some 20 ms. A change of more entries
becomes a job (`bridge.persons.batches`)."""

JOB_ROWS = 50
"""Entries of a terminal that the transaction changes at once which accepts a sync or a removal of everyone. SQLite
overwrites the photo of each removed person: some five megabytes."""


class PersonTransaction(EntryTransaction):
    """A transaction that applies the unfinished jobs of a terminal to its entries before it returns them.

    Attributes:
        kept: the persons that groups keep, and unfinished changes of memberships.
        changes: the changes of groups that are not applied to every member yet.
        finished_joins: the changes of memberships for which an earlier transaction did what `finish_joins` does.
    """

    def __init__(self, connection: Connection, cipher: PhotoCipher, clock: Clock, boot_id: str) -> None:
        super().__init__(connection, cipher, clock, boot_id)
        self._jobs: dict[str, PersonJob] | None = None if self._state.has_jobs else {}
        self._has_jobs = False
        self._repaired_photos: set[str] = set()
        self._job_rows = JOB_ROWS
        self._direct_rows = DIRECT_ROWS
        self.kept = KeptPersons(connection, may_have_jobs=self._state.has_membership_jobs)
        self.changes = GroupChanges(connection, may_exist=self._state.has_group_changes)
        self.finished_joins: Collection[int] = ()

    @property
    def boot_id(self) -> str:
        """The id of this start of the machine."""
        return self._boot_id

    def note_jobs(self) -> None:
        """Note that the transaction leaves something to `bridge.persons.batches`."""
        self._has_jobs = True

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
        group_change_jobs.apply_whole_changes(self, sn, before_job)
        found = self._present_entries(sn, person_ids)
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
                membership_jobs.apply(self, one, ids, found)
            else:
                group_change_jobs.apply(self, one, changes[one], found)
        return found

    def has_jobs(self, sn: str) -> bool:
        """Return whether a terminal has unfinished jobs."""
        return bool(self.kept.jobs(sn)) or self.changes.has_jobs(sn)

    def read_ahead(self, sns: Collection[str], person_ids: Collection[str]) -> None:
        """Read the entries of these persons on many terminals in one query, for the calls of `entries` that follow."""
        super().read_ahead(sns, person_ids)
        self.kept.read_jobs(sns)

    def write(self) -> None:
        """Write what is collected: the next statement reads or refers to it."""
        self._write()

    def store_photos(self, photos: Sequence[PreparedPhoto | None]) -> None:
        """Store photos that rows refer to which are written next."""
        for photo in photos:
            self._add_photo(photo)
        self._write()

    def has_room(self, rows: int) -> bool:
        """Return whether an accepting transaction may change so many more entries of members at once, and count them.

        If not, `group_change_jobs.add` leaves them to a job.
        """
        if rows > self._direct_rows:
            return False
        self._direct_rows -= rows
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

    def changed_since(self, sns: Sequence[str], person_ids: Collection[str], revision: int) -> set[str]:
        """Return the terminals on which one of the persons has changed after a revision."""
        self._write()
        return changed_since(self._connection, sns, person_ids, revision)

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
            self._unreported.add(job.sn)
            self._counts[job.sn] = added(self._counts[job.sn])
        self._has_jobs |= job != PersonJob(sn=job.sn)

    def reserve_rows(self) -> int:
        """Return how many more entries this transaction may change at once for a sync or a removal of everyone."""
        granted, self._job_rows = self._job_rows, 0
        return granted

    def retry_unsent(self, photos: Collection[str], limit: int) -> bool:
        """Mark changes as pending that the bridge refused to send because of their photo; return whether more may be.

        Args:
            photos: photos that are intact again.
            limit: the maximum number of changes.
        """
        self._write()
        found = queries.unsent_with_photos(self._connection, photos, limit)
        for sn, person_ids in found.items():
            self.retry(sn, person_ids)
        self._write()
        return sum(map(len, found.values())) == limit

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
            entries={sn: entries for sn, entries in self._changed_entries.items() if sn not in self._unreported},
            final_replies=self._final_replies,
            last_final_reply_id=self._last_final_reply_id,
            photos_dropped=photos_dropped,
            repaired_photos=self._repaired_photos,
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

    def _send_repaired_photos(self) -> None:
        """Mark changes as pending that the bridge refused to send because their photo was missing or damaged.

        If there are many, `bridge.persons.batches` marks the others.
        """
        if self._new_photos and self.retry_unsent(self._new_photos, BATCH):
            self._repaired_photos |= self._new_photos
            self._has_jobs = True

    def _end_syncs(self) -> None:
        ended: list[int] = []
        first_pending: dict[str, int | None] = {}
        for sync in queries.syncs(self._connection, self._counts) if self._may_have_syncs else ():
            if sync.sn not in first_pending:
                first_pending[sync.sn] = queries.first_pending(self._connection, sync.sn)
            first = first_pending[sync.sn]
            is_marked = self.job(sync.sn).send_below is None
            if is_marked and (first is None or first > sync.revision):
                self._reply(sync.sn, None, sync.request, Outcome.OK)
                ended.append(sync.id)
        queries.drop_syncs(self._connection, ended)

    def _write(self) -> None:
        super()._write()
        self.kept.write()
