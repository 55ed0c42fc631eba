"""Accepted changes of groups that are not applied to every member yet, as one transaction reads and writes them."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from bridge.model.person_entry import ChangedPerson, GroupChange, MemberJob
from bridge.store import group_change_queries as queries


class GroupChanges:
    """The part of a `PersonTransaction` that belongs to unfinished changes of groups.

    Attributes:
        released_photos: photos that changes may have referred to for the last time.
    """

    def __init__(self, connection: Connection, *, may_exist: bool) -> None:
        """Begin with nothing read.

        Args:
            connection: a connection.
            may_exist: whether there is any unfinished change; nearly always there is none.
        """
        self._connection = connection
        # None: not known any more.
        self._may_exist: bool | None = may_exist
        self._has_whole: bool | None = None
        # By terminal the job whose turn it is, with the persons whose turn it is.
        self._running: dict[str, tuple[MemberJob, Sequence[ChangedPerson]]] = {}
        self._done: dict[int, set[str]] = {}
        # Jobs and persons to which this transaction has applied them before their turn.
        self._applied_early: set[tuple[int, str]] = set()
        self.released_photos: set[str] = set()

    @property
    def may_exist(self) -> bool:
        """Whether there may be an unfinished change."""
        if self._may_exist is None:
            self._may_exist = queries.has_changes(self._connection)
        return self._may_exist

    def add(self, change: GroupChange, persons: Sequence[ChangedPerson], jobs: Sequence[MemberJob]) -> None:
        """Store an accepted change; the photos of its persons must be stored already."""
        queries.add_change(self._connection, change, persons, jobs)
        self._may_exist = True
        self._has_whole = None if change.is_of_persons else True

    def has_jobs(self, sn: str) -> bool:
        """Return whether a change is still to be applied to a terminal."""
        return self.may_exist and queries.has_jobs(self._connection, sn)

    def jobs(self, sn: str) -> Sequence[MemberJob]:
        """Return what is still to be applied to a terminal, oldest first."""
        return queries.jobs(self._connection, sn) if self.may_exist else ()

    def whole_jobs(self, sn: str) -> Sequence[MemberJob]:
        """Return those of the jobs of a terminal that are about everything on it, oldest first."""
        if not self.may_exist:
            return ()
        if self._has_whole is None:
            self._has_whole = queries.has_whole_changes(self._connection)
        return queries.whole_jobs(self._connection, sn) if self._has_whole else ()

    def jobs_with(self, sn: str, person_ids: Collection[str]) -> Sequence[tuple[MemberJob, Sequence[ChangedPerson]]]:
        """Return the jobs of a terminal that are about persons, oldest first, with what they say about these."""
        if sn in self._running:
            return [self._running[sn]]
        return queries.jobs_with(self._connection, sn, person_ids) if self.may_exist and person_ids else ()

    def newest_of(self, person_ids: Collection[str]) -> int | None:
        """Return the last unfinished change of any of these persons, or of everything on its members."""
        return queries.newest_change_of(self._connection, person_ids) if self.may_exist else None

    def start(self, jobs: Sequence[MemberJob], persons: Sequence[ChangedPerson]) -> None:
        """Let it be the turn of these persons in these jobs, which are the oldest of their terminals, until `end`."""
        self._running = {job.sn: (job, persons) for job in jobs}
        found = queries.done(self._connection, [job.id for job in jobs], {one.person_id for one in persons})
        self._done = {job.id: found.get(job.id, set()) for job in jobs}

    def end(self) -> None:
        """End the turn of what `start` started."""
        self._running, self._done = {}, {}

    def oldest(self) -> GroupChange | None:
        """Return the unfinished change that was accepted first."""
        return queries.oldest_change(self._connection) if self.may_exist else None

    def next_jobs(self, change: GroupChange, limit: int) -> list[MemberJob]:
        """Return the next members to which a change is to be applied."""
        return queries.next_jobs(self._connection, change.id, limit)

    def persons_after(self, change: GroupChange, position: int, limit: int) -> Sequence[ChangedPerson]:
        """Return the next persons of a change."""
        return queries.persons_after(self._connection, change.id, position, limit)

    def done(self, job: MemberJob, person_ids: Collection[str]) -> set[str]:
        """Return those of the persons to which a job was applied before their turn."""
        if job.id in self._done:
            return self._done[job.id]
        return queries.done(self._connection, [job.id], person_ids).get(job.id, set())

    def not_applied_early(self, job: MemberJob, persons: Sequence[ChangedPerson]) -> Sequence[ChangedPerson]:
        """Leave out the persons to which this transaction has applied a job before their turn."""
        is_running = job.sn in self._running
        return [one for one in persons if is_running or (job.id, one.person_id) not in self._applied_early]

    def note_applied(self, job: MemberJob, person_ids: Collection[str]) -> None:
        """Note that a job is applied to persons, and store it if their turn is yet to come."""
        if job.sn not in self._running:
            queries.add_done(self._connection, job.id, person_ids)
            self._applied_early.update((job.id, person_id) for person_id in person_ids)

    def put_applied(self, jobs: Collection[MemberJob], applied: int) -> None:
        """Store up to which person jobs are applied."""
        queries.put_applied(self._connection, [job.id for job in jobs], applied)

    def drop_jobs(self, jobs: Collection[MemberJob]) -> None:
        """Delete jobs that are applied."""
        if jobs:
            queries.drop_jobs(self._connection, [job.id for job in jobs])

    def drop(self, change: GroupChange) -> None:
        """Delete a change that is applied to every member."""
        self.released_photos |= queries.drop_change(self._connection, change.id)
        self._may_exist = self._has_whole = None
