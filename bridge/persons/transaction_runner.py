"""Runs transactions on persons in the store, and lets the rest of the bridge know what they changed.

It runs on the event loop; the transactions run on the store's writer thread.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from sqlalchemy import Connection

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import PersonsChanged, PersonSettled
from bridge.model.terminal import PersonCounts
from bridge.persons.effects import NO_PERSONS, Committed, added
from bridge.persons.transactions import PersonTransaction
from bridge.store import person_queries as queries
from bridge.store.database import Database
from bridge.store.errors import CommitUnknownError
from bridge.store.group_queries import group_sizes
from bridge.store.photos import PhotoCipher

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_RECOUNT_SECONDS = 1.0
"""Pause after which the state of terminals is read again that a failed COMMIT has left unknown."""


_COUNTING_SECONDS = 0.02
"""Time after which a transaction counts the persons of no further terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonContext:
    """What all parts that change persons share.

    Attributes:
        database: the store.
        cipher: encrypts photos.
        events: gets the events after each commit.
        clock: the time.
        boot_id: of this start of the machine, as `read_boot_id` returns it.
    """

    database: Database
    cipher: PhotoCipher
    events: EventBus
    clock: Clock
    boot_id: str


class TransactionRunner:
    """Runs transactions; after each commit keeps the counts, wakes the caller, and publishes events, in this order.

    Commits take effect here in their order. After a COMMIT whose outcome is unknown, the terminals that it touched are
    uncertain: nothing is counted or sent for them until their state has been read from the store again.
    """

    def __init__(self, context: PersonContext, *, is_external: bool = False) -> None:
        """Begin with no counts; `load` reads them.

        Args:
            context: the store, and who gets the events.
            is_external: this program is not the bridge; a running bridge must notice its changes.
        """
        self.context = context
        self._is_external = is_external
        self._counts: dict[str, PersonCounts] = {}
        self._group_sizes: dict[str, int] = {}
        self._uncertain: set[str] = set()
        self._listeners: list[Callable[[Committed], None]] = []
        self._running: set[asyncio.Future[Any]] = set()
        self._recounts = BackgroundTasks()
        self._is_stopping = False

    @property
    def running(self) -> int:
        """The number of transactions that have not ended yet."""
        return len(self._running)

    def counts(self, sn: str) -> PersonCounts:
        """Return the counts of a terminal; all zero for one without persons."""
        return self._counts.get(sn, NO_PERSONS)

    @property
    def group_sizes(self) -> Mapping[str, int]:
        """The number of persons of each group that keeps any."""
        return self._group_sizes

    def is_uncertain(self, sn: str) -> bool:
        """Return whether the state of a terminal is unknown after a failed COMMIT."""
        return sn in self._uncertain

    async def load(self) -> None:
        """Read the counts from the store. Raises UnavailableError."""
        self._counts = await self.context.database.read(queries.counts)
        self._group_sizes = await self.context.database.read(group_sizes)

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Call `listener` after each commit, before the events are published; it must not block."""
        self._listeners.append(listener)

    def run(self, work: Callable[[PersonTransaction], _T]) -> "asyncio.Future[_T]":
        """Queue `work` for the store's writer thread, where it runs in a transaction.

        Transactions run in the order of the calls. One whose caller is cancelled still runs: its changes are counted,
        sent and reported as those of any other.

        Returns:
            What `work` returned, once it is on the disk; or UnavailableError if the store is full, locked or
            unreachable and nothing was changed; or CommitUnknownError if it is not known whether anything was changed.
        """
        return self._submit(partial(_run, self.context, work, is_external=self._is_external))

    async def take_external_changes(self) -> None:
        """Count, send and report what another program changed on some terminals. Raises UnavailableError."""
        await self._submit(_take_external_changes)

    async def stop(self) -> None:
        """Wait for the transactions that are running."""
        self._is_stopping = True
        await self._recounts.stop()
        while self._running:
            await asyncio.wait(self._running)

    def _submit(self, function: Callable[[Connection], tuple[_T, Committed]]) -> "asyncio.Future[_T]":
        caller: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._track(self.context.database.submit(function), partial(self._ended, caller))
        return caller

    def _track(self, ended: "asyncio.Future[Any]", callback: "Callable[[asyncio.Future[Any]], None]") -> None:
        self._running.add(ended)
        ended.add_done_callback(self._running.discard)
        # Callbacks of futures run in the order in which the futures were set: the order of the commits.
        ended.add_done_callback(callback)

    def _ended(self, caller: "asyncio.Future[Any]", ended: "asyncio.Future[tuple[Any, Committed]]") -> None:
        error = ended.exception()
        if isinstance(error, CommitUnknownError):
            _, committed = error.result
            self._uncertain.update(committed.counts)
            # Lets the workers of these terminals stop sending.
            self._call_listeners(_touched(committed.counts))
            self._recount(committed, caller, error)
        elif error is not None:
            _set_exception(caller, error)
        else:
            result, committed = ended.result()
            self._count(committed)
            if not caller.done():
                # Wakes the caller before the announcement: it publishes `accepted`, and the final reply to the same
                # change must not overtake that.
                caller.set_result(result)
            asyncio.get_running_loop().call_soon(self._announce, committed)

    def _recount(self, unknown: Committed, caller: "asyncio.Future[Any]", error: CommitUnknownError) -> None:
        """Read the state of the terminals that a failed COMMIT touched.

        This is a transaction of the writer: it gets the writer's lock, so the failed transaction has ended by then,
        also in a server that had not yet noticed the end of the connection.
        """
        ended = self.context.database.submit(partial(_read_state, unknown))
        self._track(ended, partial(self._recounted, unknown, caller, error))

    def _recounted(
        self,
        unknown: Committed,
        caller: "asyncio.Future[Any]",
        error: CommitUnknownError,
        ended: "asyncio.Future[Committed]",
    ) -> None:
        failure = ended.exception()
        if failure is None:
            committed = ended.result()
            self._count(committed)
            self._announce(committed)
        else:
            _LOGGER.warning("what a failed commit has changed cannot be read now, trying again: %s", failure)
            if not self._is_stopping:
                self._recounts.start(self._recount_later(unknown, caller, error), name="recount of persons")
        _set_exception(caller, error)

    async def _recount_later(
        self, unknown: Committed, caller: "asyncio.Future[Any]", error: CommitUnknownError
    ) -> None:
        await asyncio.sleep(_RECOUNT_SECONDS)
        self._recount(unknown, caller, error)

    def _count(self, committed: Committed) -> None:
        for sn, counts in committed.counts.items():
            if committed.are_totals:
                self._uncertain.discard(sn)
                self._counts[sn] = counts
            elif sn not in self._uncertain:
                # The totals of an uncertain terminal are read after this commit, so they will include it.
                self._counts[sn] = added(self._counts.get(sn, NO_PERSONS), counts)
            if self._counts.get(sn) == NO_PERSONS:
                del self._counts[sn]
        if committed.are_totals:
            self._group_sizes = dict(committed.group_sizes)
            return
        for group, number in committed.group_sizes.items():
            self._group_sizes[group] = self._group_sizes.get(group, 0) + number
            if not self._group_sizes[group]:
                del self._group_sizes[group]

    def _announce(self, committed: Committed) -> None:
        self._call_listeners(committed)
        now = self.context.clock.now()
        for sn in committed.counts:
            if sn not in self._uncertain:
                self.context.events.publish(PersonsChanged(at=now, sn=sn))
        for one in committed.final_replies:
            self.context.events.publish(PersonSettled(at=one.reply.at, reply=one.reply, origin=one.origin))

    def _call_listeners(self, committed: Committed) -> None:
        for listener in self._listeners:
            listener(committed)


def _run(
    context: PersonContext, work: Callable[[PersonTransaction], _T], connection: Connection, *, is_external: bool
) -> tuple[_T, Committed]:
    transaction = PersonTransaction(connection, context.cipher, context.clock, context.boot_id)
    result = work(transaction)
    committed = transaction.finish()
    if is_external:
        # A group without members changes no terminal's counts.
        queries.note_external_changes(connection, committed.counts or ([""] if committed.group_sizes else []))
    return result, committed


def _take_external_changes(connection: Connection) -> tuple[None, Committed]:
    """Count the next terminals that another program changed, at least one.

    To count the 100,000 persons of a terminal takes some 20 ms.
    """
    until = perf_counter() + _COUNTING_SECONDS
    counts: dict[str, PersonCounts] = {}
    taken: list[str] = []
    for sn in queries.external_changes(connection):
        taken.append(sn)
        if sn:
            counts[sn] = queries.counts(connection, [sn]).get(sn, NO_PERSONS)
        if perf_counter() >= until:
            break
    queries.drop_external_changes(connection, taken)
    return None, _state(connection, counts)


def _read_state(unknown: Committed, connection: Connection) -> Committed:
    """Return the present state of the terminals of a transaction whose COMMIT failed."""
    count = len(unknown.final_replies)
    last = unknown.last_final_reply_id
    stored = queries.final_replies(connection, last - count, last, count)
    # Ids that were rolled back are given to the final replies of a later transaction.
    is_stored = [one.reply.as_json() for one in stored] == [one.reply.as_json() for one in unknown.final_replies]
    counts = queries.counts(connection, unknown.counts)
    present = {sn: counts.get(sn, NO_PERSONS) for sn in unknown.counts}
    return replace(_state(connection, present), final_replies=unknown.final_replies if is_stored else ())


def _state(connection: Connection, counts: Mapping[str, PersonCounts]) -> Committed:
    return Committed(
        counts=counts,
        are_totals=True,
        group_sizes=group_sizes(connection),
        changed=counts.keys(),
        last_final_reply_id=queries.last_final_reply_id(connection),
        # Another program's deletions are in a log that only the last one that closes the store clears.
        photos_dropped=True,
        has_jobs=True,
    )


def _touched(sns: Collection[str]) -> Committed:
    """Return the effects of a transaction of which only the terminals are known."""
    return Committed(counts=dict.fromkeys(sns, NO_PERSONS), changed=sns)


def _set_exception(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
