"""Changes of groups and memberships, removals of everyone, syncs: accepted in a short transaction, done in batches.

100,000 entries in one transaction would hold up every other change for a minute. The accepting transaction therefore
stores a `PersonJob`, with the revision below which the change applies. Entries that are removed but not deleted yet are
neither listed nor sent, and a transaction that reads one deletes it. The job is deleted with its last batch, so an
interrupted one continues after a restart.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TypeVar

from sqlalchemy import Connection

from bridge.core.registry import TerminalRegistry
from bridge.model.events import TerminalConnected
from bridge.model.faults import UnavailableError
from bridge.model.person_entry import MembershipJob
from bridge.persons import group_change_jobs, membership_jobs
from bridge.persons.effects import Committed
from bridge.persons.entry_transaction import BATCH
from bridge.persons.membership import describe_memberships
from bridge.persons.transaction_runner import TransactionRunner
from bridge.persons.transactions import PersonTransaction
from bridge.persons.whole_terminal import mark_again
from bridge.store import group_change_queries, group_queries
from bridge.store import person_queries as queries
from bridge.store.errors import DamagedPartError

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

MEMBERSHIP_ROWS = 25
"""Persons between two looks at the clock. Joining and leaving costs some 0.2 ms a person."""

CHANGE_ROWS = 50
"""Entries of members between two looks at the clock. A change of a group costs some 0.2 ms an entry."""

_DROPPED_ROWS = 10
"""Entries that are deleted between two looks at the clock. SQLite overwrites a photo with each: some 1 MB."""

BATCH_SECONDS = 0.02
"""Time after which a transaction ends."""

LEAST_PAUSE_SECONDS = 0.005
"""Pause between two batches, in which other programs get the writer's lock. It is at least as long as the batch took,
so that a job takes at most half of the writer's time."""

PROGRESS_SECONDS = 30.0
"""Interval of the log lines of changes of memberships that take long."""

_DAY_SECONDS = 86400.0

_RETRY_SECONDS = 5.0
"""Pause after which a store that failed is tried again."""


def advance(transaction: PersonTransaction, sn: str) -> None:
    """Apply the next batch of a terminal's job."""
    job = transaction.job(sn)
    if job.drop_below is not None:
        dropped, until = _DROPPED_ROWS, perf_counter() + BATCH_SECONDS
        while dropped == _DROPPED_ROWS:
            dropped = transaction.drop_below(sn, job.drop_below, job.drop_message or "", _DROPPED_ROWS)
            if perf_counter() >= until:
                break
        if dropped < _DROPPED_ROWS:
            job = replace(job, drop_below=None, drop_message=None)
    else:
        until = perf_counter() + BATCH_SECONDS
        while job.send_below is not None:
            job = mark_again(transaction, job, BATCH)
            if perf_counter() >= until:
                break
    transaction.put_job(job)


def follow_groups(transaction: PersonTransaction, memberships: Mapping[str, Collection[str]]) -> list[MembershipJob]:
    """Let the persons of terminals follow their groups: compare these with the stored ones, and store them.

    Args:
        transaction: the transaction; jobs change the persons afterwards.
        memberships: by terminal all groups that it is in now, `all` included.

    Returns:
        The changes that can change a terminal's persons.
    """
    stored = transaction.kept.memberships(memberships)
    changed = {sn: groups for sn, groups in memberships.items() if stored.get(sn, set()) != set(groups)}
    if not changed:
        return []
    jobs: list[MembershipJob] = []
    for job_id, (sn, groups) in enumerate(changed.items(), start=transaction.next_revisions(len(changed))):
        before, now = frozenset(stored.get(sn, ())), frozenset(groups)
        job = MembershipJob(id=job_id, sn=sn, left=before - now, joined=now - before)
        if membership_jobs.start(transaction, job):
            jobs.append(job)
    return jobs


def advance_membership(transaction: PersonTransaction, sn: str, job_id: int) -> None:
    """Apply the next batch of a change of memberships: leaving first, then joining in the order of the last changes."""
    job = next((one for one in transaction.kept.jobs(sn) if one.id == job_id), None)
    if job is not None and any(one.id < job.id for one in transaction.changes.jobs(sn)):
        # The terminal must hold the persons of an earlier change before it can leave the group.
        return
    until = perf_counter() + BATCH_SECONDS
    while job is not None:
        job = membership_jobs.advance(transaction, job, MEMBERSHIP_ROWS)
        if perf_counter() >= until:
            return


def advance_changes(transaction: PersonTransaction) -> None:
    """Apply the next batch of changes of groups, oldest first."""
    until = perf_counter() + BATCH_SECONDS
    while group_change_jobs.advance(transaction, CHANGE_ROWS) and perf_counter() < until:
        pass


def advance_group_removal(transaction: PersonTransaction) -> None:
    """Delete the next rows of persons who were removed from a group together."""
    transaction.drop_removed_from_groups(_DROPPED_ROWS)


class PersonJobs:
    """Runs the jobs batch by batch, one terminal after the other in turn, and a change of a group after each batch."""

    def __init__(self, transactions: TransactionRunner) -> None:
        self._transactions = transactions
        self._added = asyncio.Event()
        self._running: dict[int, MembershipJob] = {}
        self._next_progress = 0.0
        # After a `kill -9`, the changes that are left stay refused until the picture is set again.
        self._repaired_photos: set[str] = set()
        self._is_idle = False

    @property
    def is_idle(self) -> bool:
        """Whether there is no unfinished job."""
        return self._is_idle

    def committed(self, committed: Committed) -> None:
        """Note whether a transaction left something to do."""
        self._repaired_photos.update(committed.repaired_photos)
        if committed.has_jobs:
            self._is_idle = False
            self._added.set()

    async def run(self) -> None:
        """Continue with what an earlier process left, then run the jobs of this one, until cancelled."""
        while True:
            self._added.clear()
            try:
                if not await self._run_batches():
                    self._is_idle = not self._added.is_set()
                    await self._added.wait()
            except UnavailableError as error:
                _LOGGER.warning("unfinished changes of persons cannot continue now, trying again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _run_batches(self) -> bool:
        """Run one batch for each terminal; return whether there was any."""
        batches, jobs = await self._transactions.context.database.read(_next_batches)
        self._log_memberships(jobs)
        photos = frozenset(self._repaired_photos)
        retry = partial(PersonTransaction.retry_unsent, photos=photos, limit=BATCH)
        if photos and not await self._run_batch(retry):
            self._repaired_photos -= photos
        failure: DamagedPartError | None = None
        has_changes = False
        for batch in [*batches, None]:
            try:
                if batch is not None:
                    await self._run_batch(batch)
                has_changes = await self._advance_changes()
            except DamagedPartError as error:
                # The jobs of other terminals may not need the damaged part.
                failure = error
        if failure is not None:
            raise failure
        return bool(batches) or has_changes or bool(self._repaired_photos)

    async def _advance_changes(self) -> bool:
        """Run one batch of the changes of groups, for which people wait; return whether there was any."""
        has_changes = await self._transactions.context.database.read(group_change_queries.has_changes)
        if has_changes:
            await self._run_batch(advance_changes)
        return has_changes

    async def _run_batch(self, batch: Callable[[PersonTransaction], _T]) -> _T:
        time = asyncio.get_running_loop().time
        since = time()
        try:
            return await self._transactions.run(batch)
        finally:
            await asyncio.sleep(max(time() - since, LEAST_PAUSE_SECONDS))

    def _log_memberships(self, jobs: Sequence[MembershipJob]) -> None:
        """Log which changes of memberships have ended, and from time to time which are still running."""
        running = {job.id: job for job in jobs}
        ended = [job for job_id, job in self._running.items() if job_id not in running]
        if ended:
            _LOGGER.info("all persons have followed changes of groups: %s", describe_memberships(ended))
        now = asyncio.get_running_loop().time()
        if not self._running or now >= self._next_progress:
            if self._running and running:
                _LOGGER.info("persons still follow changes of groups: %s", describe_memberships(jobs))
            self._next_progress = now + PROGRESS_SECONDS
        self._running = running


def _next_batches(
    connection: Connection,
) -> tuple[list[Callable[[PersonTransaction], None]], Sequence[MembershipJob]]:
    """Return the next batch of each terminal and of each kind of job, and all changes of memberships."""
    batches: list[Callable[[PersonTransaction], None]] = [
        partial(advance, sn=job.sn) for job in queries.jobs(connection)
    ]
    # A terminal's changes of memberships follow one another.
    oldest: dict[str, int] = {}
    memberships = group_queries.membership_jobs(connection)
    for job in memberships:
        oldest.setdefault(job.sn, job.id)
    batches += [partial(advance_membership, sn=sn, job_id=job_id) for sn, job_id in oldest.items()]
    if group_queries.group_removals(connection):
        batches.append(advance_group_removal)
    return batches, memberships


class RefusedRemovals:
    """Tries refused removals again: at each connection of the terminal, and once a day.

    A terminal may refuse a removal while it is busy, and a removal that is never tried again leaves a door open.
    Another refused change would be refused again.
    """

    def __init__(self, transactions: TransactionRunner, registry: TerminalRegistry) -> None:
        self._transactions = transactions
        self._registry = registry
        # Ordered, without duplicates.
        self._due: dict[str, None] = {}
        self._added = asyncio.Event()
        transactions.context.events.subscribe(TerminalConnected, self._connected, name="refused removals")

    async def run(self) -> None:
        """Try them until cancelled, those of connected terminals first at once."""
        while True:
            self._add(known.terminal.sn for known in self._registry if known.connection is not None)
            with suppress(TimeoutError):
                async with asyncio.timeout(_DAY_SECONDS):
                    while True:
                        await self._try_due()
                        await self._added.wait()

    def _connected(self, event: TerminalConnected) -> None:
        self._add([event.sn])

    def _add(self, sns: Iterable[str]) -> None:
        # Most terminals have none, and cost no query.
        self._due.update((sn, None) for sn in sns if self._transactions.counts(sn).refused)
        if self._due:
            self._added.set()

    async def _try_due(self) -> None:
        self._added.clear()
        while self._due:
            sn = next(iter(self._due))
            try:
                if await self._transactions.run(partial(retry_refused_removals, sn=sn)) < BATCH:
                    del self._due[sn]
                await asyncio.sleep(LEAST_PAUSE_SECONDS)
            except UnavailableError as error:
                _LOGGER.warning("refused removals cannot be tried again now: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)


def retry_refused_removals(transaction: PersonTransaction, sn: str) -> int:
    """Mark refused removals of a terminal as pending, those of disabled persons included.

    Returns:
        Their number; if it is `BATCH`, there may be more.
    """
    person_ids = transaction.refused_removals(sn, BATCH)
    transaction.retry(sn, person_ids)
    return len(person_ids)
