"""Transactions on persons: what a change reads and writes, and what follows once it is committed.

`PersonTransaction` runs on the store's writer thread, `TransactionRunner` on the event loop.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import PersonsChanged, PersonSettled
from bridge.model.outcome import Outcome
from bridge.model.person_entry import DeliveryState, FinalReply, OpenSync, PersonEntry, RequestContext
from bridge.model.reply import Reply
from bridge.model.terminal import PersonCounts
from bridge.persons.photos.preparation import PreparedPhoto
from bridge.store import person_queries as queries
from bridge.store.database import Database
from bridge.store.errors import CommitUnknownError
from bridge.store.photos import PhotoCipher, add_photos, drop_unused_photos

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

BATCH = 100
"""Entries that are read, changed and written together: few enough for the memory, enough to share the cost."""

_RECOUNT_SECONDS = 1.0
"""Pause after which the state of terminals is read again that a failed COMMIT has left unknown."""

_NOTHING = PersonCounts()


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
    """

    counts: Mapping[str, PersonCounts]
    are_totals: bool = False
    changed: Collection[str]
    final_replies: Sequence[FinalReply] = ()
    last_final_reply_id: int = 0
    photos_dropped: bool = False


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
    """One transaction: collects changes, writes them in batches, and derives counts, photos and final replies."""

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
        return found

    def scan(self, sn: str, before: int) -> Iterator[Sequence[PersonEntry]]:
        """Yield a terminal's entries of revisions below `before`, by revision, in batches."""
        self._write()
        for entries in queries.scan(self._connection, sn, before=before, limit=BATCH):
            yield entries
            self._write()

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
        photos_dropped = drop_unused_photos(self._connection, self._released_photos)
        if self._reserved_revisions:
            queries.next_revisions(self._connection, self._reserved_revisions)
        return Committed(
            counts=self._counts,
            changed=self._changed,
            final_replies=self._final_replies,
            last_final_reply_id=queries.last_final_reply_id(self._connection) if self._final_replies else 0,
            photos_dropped=photos_dropped,
        )

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
        gained = after.counts if after is not None else _NOTHING
        lost = before.counts if before is not None else _NOTHING
        self._counts[changed.sn] = added(self._counts[changed.sn], gained, lost)

    def _end_syncs(self) -> None:
        ended: list[int] = []
        first_pending: dict[str, int | None] = {}
        for sync in queries.syncs(self._connection, self._counts):
            if sync.sn not in first_pending:
                first_pending[sync.sn] = queries.first_pending(self._connection, sync.sn)
            first = first_pending[sync.sn]
            if first is None or first > sync.revision:
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
        final_reply = FinalReply(reply=reply, origin=request.origin)
        self._unwritten.final_replies.append(final_reply)
        self._final_replies.append(final_reply)


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
        return self._counts.get(sn, _NOTHING)

    def is_uncertain(self, sn: str) -> bool:
        """Return whether the state of a terminal is unknown after a failed COMMIT."""
        return sn in self._uncertain

    async def load(self) -> None:
        """Read the counts from the store. Raises UnavailableError."""
        self._counts = await self.context.database.read(queries.counts)

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
        """Count, send and report the changes that another program made. Raises UnavailableError."""
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
                self._counts[sn] = added(self._counts.get(sn, _NOTHING), counts)
            if self._counts.get(sn) == _NOTHING:
                del self._counts[sn]

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


def added(counts: PersonCounts, gained: PersonCounts = _NOTHING, lost: PersonCounts = _NOTHING) -> PersonCounts:
    """Return `counts` plus one entry's share minus another's."""
    return PersonCounts(
        desired=counts.desired + gained.desired - lost.desired,
        confirmed=counts.confirmed + gained.confirmed - lost.confirmed,
        pending=counts.pending + gained.pending - lost.pending,
        refused=counts.refused + gained.refused - lost.refused,
    )


def _run(
    context: PersonContext, work: Callable[[PersonTransaction], _T], connection: Connection, *, is_external: bool
) -> tuple[_T, Committed]:
    transaction = PersonTransaction(connection, context.cipher, context.clock, context.boot_id)
    result = work(transaction)
    committed = transaction.finish()
    if is_external:
        queries.note_external_changes(connection, committed.counts)
    return result, committed


def _take_external_changes(connection: Connection) -> tuple[None, Committed]:
    sns = queries.take_external_changes(connection)
    return None, _state(connection, sns)


def _read_state(unknown: Committed, connection: Connection) -> Committed:
    """Return the present state of the terminals of a transaction whose COMMIT failed."""
    count = len(unknown.final_replies)
    last = unknown.last_final_reply_id
    stored = queries.final_replies(connection, last - count, last, count)
    # Ids that were rolled back are given to the final replies of a later transaction.
    is_stored = [one.reply.as_json() for one in stored] == [one.reply.as_json() for one in unknown.final_replies]
    return replace(_state(connection, unknown.counts), final_replies=unknown.final_replies if is_stored else ())


def _state(connection: Connection, sns: Collection[str]) -> Committed:
    counts = queries.counts(connection, sns)
    return Committed(
        counts={sn: counts.get(sn, _NOTHING) for sn in sns},
        are_totals=True,
        changed=sns,
        last_final_reply_id=queries.last_final_reply_id(connection),
        # Another program's deletions are in a log that only the last one that closes the store clears.
        photos_dropped=True,
    )


def _touched(sns: Collection[str]) -> Committed:
    """Return the effects of a transaction of which only the terminals are known."""
    return Committed(counts=dict.fromkeys(sns, _NOTHING), changed=sns)


def _set_exception(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
