"""The persons that groups keep, and unfinished changes of memberships, as one transaction reads and writes them."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from bridge.model.person_entry import GroupPerson, MembershipJob
from bridge.store import group_queries as queries
from bridge.store.person_names import PersonName, name_of_person


class KeptPersons:
    """The part of a `PersonTransaction` that belongs to groups.

    Attributes:
        sizes: what the transaction adds to the number of persons of each group.
        released_photos: photos that groups may have referred to for the last time.
        released_names: names that groups may have had for the last time.
    """

    def __init__(self, connection: Connection, *, may_have_jobs: bool) -> None:
        """Begin with nothing read.

        Args:
            connection: a connection.
            may_have_jobs: whether there is any unfinished change of memberships; nearly always there is none.
        """
        self._connection = connection
        self._unwritten: dict[tuple[str, str], GroupPerson | None] = {}
        # By terminal, oldest first: those that were read, or all of them.
        self._jobs: dict[str, list[MembershipJob]] = {}
        self._has_all_jobs = not may_have_jobs
        # Whether groups keep persons; only for transactions that do not change these persons.
        self._keeping: dict[str, bool] = {}
        # The membership job that runs next, and the revision up to which its progress covers joined persons.
        self._running: tuple[int, int] | None = None
        # Jobs and persons to which this transaction has applied them before their turn.
        self._applied_early: set[tuple[int, str]] = set()
        self.sizes: defaultdict[str, int] = defaultdict(int)
        self.released_photos: set[str] = set()
        self.released_names: set[PersonName] = set()

    def persons(self, group: str, person_ids: Collection[str]) -> dict[str, GroupPerson]:
        """Return those of the persons that a group keeps, including the changes of this transaction."""
        found = queries.kept_persons(self._connection, group, person_ids)
        for person_id in person_ids:
            if (group, person_id) in self._unwritten:
                found.pop(person_id, None)
                if (unwritten := self._unwritten[group, person_id]) is not None:
                    found[person_id] = unwritten
        return found

    def replace(self, group: str, before: GroupPerson | None, after: GroupPerson | None) -> None:
        """Replace a person of a group by another state of the person; None stands for no person."""
        person = after or before
        if person is None:
            return
        self._unwritten[group, person.person.id] = after
        self.sizes[group] += int(after is not None) - int(before is not None)
        if before is not None and (after is None or after.person.photo != before.person.photo):
            self.released_photos.add(before.person.photo)
        if before is not None and (after is None or name_of_person(after.person) != name_of_person(before.person)):
            self.released_names.add(name_of_person(before.person))

    def write(self) -> None:
        """Write what is collected; the photos must be stored."""
        unwritten, self._unwritten = self._unwritten, {}
        queries.put_kept(self._connection, [one for one in unwritten.values() if one is not None])
        dropped: defaultdict[str, list[str]] = defaultdict(list)
        for (group, person_id), one in unwritten.items():
            if one is None:
                dropped[group].append(person_id)
        for group, person_ids in dropped.items():
            queries.drop_kept(self._connection, group, person_ids)

    def remove_everyone(self, group: str, below: int) -> None:
        """Remove all persons of a group whose revision is lower; their rows are deleted in batches.

        Everything that is collected must be written.
        """
        removed = queries.group_sizes(self._connection, [group]).get(group, 0)
        if removed:
            self.sizes[group] -= removed
            queries.add_group_removal(self._connection, group, below)

    def drop_removed(self, limit: int) -> bool:
        """Delete up to `limit` rows of removed persons; return whether there may be more."""
        for group, below in queries.group_removals(self._connection):
            if any(group in job.joined and job.id < below for job in self.all_jobs()):
                # A terminal that joined before the removal, and has left since, gets these persons for that time.
                continue
            removed = queries.drop_removed(self._connection, group, below, limit)
            self.released_photos.update(person.photo for person in removed)
            self.released_names.update(name_of_person(person) for person in removed)
            if len(removed) < limit:
                queries.drop_group_removal(self._connection, group, below)
            return True
        return False

    def memberships(self, sns: Collection[str]) -> dict[str, set[str]]:
        """Return the stored groups of terminals."""
        return queries.memberships(self._connection, sns)

    def members(self, group: str) -> list[str]:
        """Return the terminals of a group, as the bridge has stored them."""
        return queries.members(self._connection, group)

    def change_memberships(self, job: MembershipJob, *, has_jobs: bool) -> bool:
        """Store that a terminal left and joined groups; return whether that can change its persons.

        Args:
            job: the change.
            has_jobs: whether the terminal has unfinished jobs, which may give it persons.
        """
        queries.change_memberships(self._connection, job.sn, job.left, job.joined)
        gains = any(self._keeps_persons(group) for group in job.joined)
        if gains or has_jobs or (job.left and queries.has_group_access(self._connection, job.sn)):
            self._jobs[job.sn] = [*self.jobs(job.sn), job]
            queries.add_membership_job(self._connection, job)
            return True
        return False

    def _keeps_persons(self, group: str) -> bool:
        # At a start, many terminals may have joined the same groups.
        if group not in self._keeping:
            self._keeping[group] = queries.keeps_persons(self._connection, group)
        return self._keeping[group]

    def forget_memberships(self, sn: str) -> None:
        """Delete the groups of a terminal."""
        queries.change_memberships(self._connection, sn, self.memberships([sn]).get(sn, ()), ())

    def jobs(self, sn: str) -> Sequence[MembershipJob]:
        """Return the unfinished changes of a terminal's memberships, oldest first."""
        self.read_jobs([sn])
        return self._jobs.get(sn, ())

    def all_jobs(self) -> Sequence[MembershipJob]:
        """Return the unfinished changes of all memberships, oldest first."""
        if not self._has_all_jobs:
            self._add_jobs(queries.membership_jobs(self._connection))
            self._has_all_jobs = True
        return sorted((job for jobs in self._jobs.values() for job in jobs), key=lambda job: job.id)

    def read_jobs(self, sns: Collection[str]) -> None:
        """Read the changes of these terminals' memberships in one query, for `jobs`."""
        if not self._has_all_jobs and (unread := [sn for sn in sns if sn not in self._jobs]):
            self._jobs.update((sn, []) for sn in unread)
            self._add_jobs(queries.membership_jobs(self._connection, unread))

    def _add_jobs(self, jobs: Collection[MembershipJob]) -> None:
        for job in jobs:
            known = self._jobs.setdefault(job.sn, [])
            if all(one.id != job.id for one in known):
                known.append(job)

    def put_progress(self, job: MembershipJob) -> None:
        """Store how far a change of memberships is applied."""
        queries.put_membership_progress(self._connection, job)
        self._jobs[job.sn] = [job if one.id == job.id else one for one in self.jobs(job.sn)]

    def drop_jobs(self, jobs: Collection[MembershipJob]) -> None:
        """Delete changes of memberships that are applied to every person, or no longer needed."""
        ids = {job.id for job in jobs}
        if ids:
            queries.drop_membership_jobs(self._connection, ids)
            for sn in {job.sn for job in jobs}:
                self._jobs[sn] = [one for one in self.jobs(sn) if one.id not in ids]

    def to_join(self, job: MembershipJob, person_ids: Collection[str]) -> Mapping[str, Sequence[GroupPerson]]:
        """Return, for those of the persons that the terminal has yet to get, what the joined groups keep of them."""
        if not job.joined:
            return {}
        # What this transaction has changed in these groups is newer than the job.
        return queries.joining(self._connection, job, person_ids)

    def next_leaving(self, job: MembershipJob, limit: int) -> list[str]:
        """Return the next persons that the terminal may hold through the groups that it left, by id."""
        return queries.to_leave(self._connection, job, limit) if job.left else []

    def next_joining(self, job: MembershipJob, limit: int) -> dict[str, int]:
        """Return the next persons of the joined groups, with the revisions of their last change, in this order."""
        return dict(queries.to_join(self._connection, job, limit)) if job.joined else {}

    def done(self, job: MembershipJob, person_ids: Collection[str]) -> set[str]:
        """Return those of the persons to which a change of memberships was applied before their turn."""
        return queries.done(self._connection, job, person_ids)

    def note_done(self, job: MembershipJob, person_ids: Collection[str]) -> None:
        """Note that a change of memberships was applied to persons before their turn."""
        queries.add_done(self._connection, job, person_ids)

    def start(self, job: MembershipJob, joined_after: int) -> None:
        """Let it be the turn of a job until `end`; afterwards its progress covers persons up to this revision."""
        self._running = (job.id, joined_after)

    def end(self) -> None:
        """End the turn of what `start` started."""
        self._running = None

    def is_running(self, job: MembershipJob) -> bool:
        """Return whether it is the turn of a job."""
        return self._running is not None and self._running[0] == job.id

    def joined_after(self, job: MembershipJob) -> int:
        """Return the revision up to which the progress of a job covers joined persons, the next ones included."""
        return self._running[1] if self._running is not None and self.is_running(job) else job.joined_after

    def not_applied_early(self, job: MembershipJob, person_ids: Sequence[str]) -> Sequence[str]:
        """Leave out the persons to which this transaction has applied a job before their turn."""
        return [one for one in person_ids if self.is_running(job) or (job.id, one) not in self._applied_early]

    def note_applied(self, job: MembershipJob, person_ids: Collection[str]) -> None:
        """Note that a job is applied to persons."""
        if not self.is_running(job):
            self._applied_early.update((job.id, person_id) for person_id in person_ids)
