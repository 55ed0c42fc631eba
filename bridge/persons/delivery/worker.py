"""Delivers to one terminal the changes that it has not confirmed yet, one frame at a time."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridge.core.ports import Connection, ConnectionLostError
from bridge.core.registry import KnownTerminal
from bridge.model.faults import UnavailableError
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.persons.delivery.frames import FrameWriter, UnsendableError
from bridge.persons.delivery.plan import Attempts, Send, Wait, is_finished, next_start, next_step, repeat_seconds
from bridge.persons.effects import TerminalAnswer
from bridge.persons.transaction_runner import TransactionRunner
from bridge.protocol.replies import TerminalReply
from bridge.store import person_queries as queries

_LOGGER = logging.getLogger(__name__)

WINDOW = 64
"""Removals of one terminal that are read together, and other changes. Answered and slow ones move the window on."""

_MAX_MSGIDS = 8
"""Attempts of one change whose late answers still count: at the longest interval this is more than an hour."""

_JITTER = 0.2
"""Share by which a repeat is delayed at random, so that terminals that fell silent together get it at different
times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTimes:
    """How long to wait, in seconds.

    Attributes:
        first_repeat: without an answer, before a frame is repeated and before another one is sent (docs/protocol.md).
        longest_repeat: between two repeats; each interval is twice the one before.
        store_retry: before a store that failed is tried again.
        failure_pause: after an unexpected exception, before the delivery to the terminal continues.
    """

    first_repeat: float = 20.0
    longest_repeat: float = 600.0
    store_retry: float = 5.0
    failure_pause: float = 30.0


DEFAULT_TIMES = DeliveryTimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryContext:
    """What all delivery workers share.

    Attributes:
        transactions: gives the state of terminals, the store and the clock.
        frames: encodes frames.
        record: stores an answer.
        new_msgid: returns an id that was never used before.
        random: returns a number from 0 up to 1, for the jitter.
        times: how long to wait.
    """

    transactions: TransactionRunner
    frames: FrameWriter
    record: Callable[[TerminalAnswer], None]
    new_msgid: Callable[[], str]
    random: Callable[[], float]
    times: DeliveryTimes


@dataclass(slots=True)
class _Sent:
    person_id: str | None
    is_removal: bool
    attempts: Attempts
    msgids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """The removals of the window, or its other changes.

    Attributes:
        entries: the entries by revision.
        start: the revision after which they begin.
        has_more: whether there are more in the store.
    """

    entries: Sequence[PersonEntry] = ()
    start: int = -1
    has_more: bool = False


class DeliveryWorker:
    """Sends the pending changes of one terminal.

    It outlives connections, so that a late answer still counts, and ends when nothing is pending.
    """

    def __init__(self, known: KnownTerminal, context: DeliveryContext) -> None:
        self._known = known
        self._sn = known.terminal.sn
        self._context = context
        self._clock = context.transactions.context.clock
        self._wake = asyncio.Event()
        self._removals = _Part()
        self._others = _Part()
        self._frames_since_slow = 0
        self._stale = True
        self._is_reading = False
        self._recorded = False
        self._answered: set[int] = set()
        self._sent: dict[int, _Sent] = {}
        self._expected: dict[str, Callable[[], None]] = {}
        self._connection: Connection | None = None
        self._in_flight: str | None = None
        self._busy_until = 0.0

    def wake(
        self,
        *,
        changed: bool = False,
        recorded: bool = False,
        entries: Mapping[str | None, PersonEntry | None] | None = None,
    ) -> None:
        """Check again what to do.

        Args:
            changed: there may be something new to send.
            recorded: answers were stored.
            entries: by person the entries that changed, None for a deleted one; None if others may have changed, too.
        """
        if entries is None or not self._apply(entries):
            self._stale |= changed
            self._recorded |= recorded
        self._wake.set()

    def close(self) -> None:
        """Wait for no further answer."""
        for forget in self._expected.values():
            forget()
        self._expected.clear()

    async def run(self) -> bool:
        """Send until the terminal is disconnected (return False) or nothing is pending (return True)."""
        while (connection := self._known.connection) is not None:
            self._wake.clear()
            if connection is not self._connection:
                self._reconnected(connection)
            if self._in_flight is not None and self._clock.boottime() >= self._busy_until:
                self._stop_waiting()
            if self._context.transactions.is_uncertain(self._sn):
                # What is pending is unknown after a failed COMMIT; the worker is woken when it is known.
                await self._pause(None)
                continue
            if self._in_flight is None and not self._context.transactions.counts(self._sn).pending:
                return True
            if (self._stale or self._is_used_up()) and not await self._read():
                continue
            if self._in_flight is not None:
                await self._pause(self._busy_until)
                continue
            step = self._next_step()
            if isinstance(step, Send):
                await self._send(connection, step.revision)
            elif self._recorded:
                # Stored answers make room in the window.
                self._stale = True
            else:
                await self._pause(step.until)
        return False

    @property
    def _attempts(self) -> Mapping[int, Attempts]:
        return {revision: sent.attempts for revision, sent in self._sent.items()}

    def _next_step(self) -> Send | Wait:
        window = [*self._removals.entries, *self._others.entries]
        return next_step(window, self._answered, self._attempts, self._frames_since_slow, self._clock.boottime())

    def _is_used_up(self) -> bool:
        """Return whether the next part of the window must be read.

        Not before an answer is stored: this bounds the answers that wait while the store cannot be written.
        """
        if self._answered and not self._recorded:
            return False
        attempts = self._attempts
        return any(
            part.has_more and all(is_finished(entry, self._answered, attempts) for entry in part.entries)
            for part in (self._removals, self._others)
        )

    async def _read(self) -> bool:
        """Read the window; return False if it is out of date already or the store failed."""
        self._stale = self._recorded = False
        self._is_reading = True
        attempts = self._attempts
        for part in (self._removals, self._others):
            part.start = next_start(part.entries, part.start, self._answered, attempts)
        try:
            removals, others = await self._context.transactions.context.database.read(
                queries.pending_window, self._sn, self._removals.start, self._others.start, WINDOW
            )
        except UnavailableError as error:
            await self._store_failed("persons", error)
            return False
        finally:
            self._is_reading = False
        for part, entries in ((self._removals, removals), (self._others, others)):
            part.entries = entries
            part.has_more = len(entries) == WINDOW
        self._forget_finished()
        return not self._stale

    def _apply(self, changed: Mapping[str | None, PersonEntry | None]) -> bool:
        """Change the window as the store was changed; return False if it must be read.

        To read it takes 1 ms of processor time. It is not necessary if the window contains every pending change.
        """
        if self._is_reading or (not self._stale and (self._removals.has_more or self._others.has_more)):
            return False
        for part, held in ((self._removals, False), (self._others, True)):
            new = [
                one
                for one in changed.values()
                if one is not None and one.delivery is DeliveryState.PENDING and one.held == held
            ]
            old = [one for one in part.entries if not self._stale and one.person_id not in changed]
            part.entries = sorted((*old, *new), key=lambda one: one.revision)
        known = len(self._removals.entries) + len(self._others.entries)
        if known > WINDOW or known != self._context.transactions.counts(self._sn).pending:
            # A first window, for example, without the changes before.
            self._stale = True
            return False
        for part in (self._removals, self._others):
            part.start, part.has_more = -1, False
        self._stale = self._recorded = False
        self._forget_finished()
        return True

    def _forget_finished(self) -> None:
        """Forget answers and attempts of changes that are not pending any more."""
        revisions = {entry.revision for entry in (*self._removals.entries, *self._others.entries)}
        self._answered &= revisions
        for revision, sent in list(self._sent.items()):
            start = (self._removals if sent.is_removal else self._others).start
            # Slow entries before the window are looked up when their turn comes.
            if revision not in revisions and not (sent.attempts.is_slow and revision <= start):
                self._give_up(revision)

    async def _find(self, revision: int) -> PersonEntry | None:
        """Return a pending entry, which may be before the window; None if a later change has replaced it."""
        for entry in (*self._removals.entries, *self._others.entries):
            if entry.revision == revision:
                return entry
        person_id = self._sent[revision].person_id
        assert person_id is not None, "the removal of everyone stays in the window"
        found = await self._context.transactions.context.database.read(queries.entry, self._sn, person_id)
        if found is not None and found.revision == revision and found.delivery is DeliveryState.PENDING:
            return found
        self._give_up(revision)
        return None

    async def _send(self, connection: Connection, revision: int) -> None:
        msgid = self._context.new_msgid()
        entry: PersonEntry | None = None
        try:
            entry = await self._find(revision)
            if entry is None:
                return
            frame = await self._context.frames.write(entry, msgid=msgid, key=self._known.terminal.key)
        except UnavailableError as error:
            await self._store_failed("a person", error)
            return
        except UnsendableError as error:
            assert entry is not None
            _LOGGER.warning(
                "a person cannot be sent: %s", error, extra={"sn": self._sn, "person_id": entry.person_id or "everyone"}
            )
            self._settle(entry, status=None, message=str(error), msgid=None)
            return
        if self._stale or not self._is_pending(entry) or self._known.connection is not connection:
            return
        _LOGGER.debug(
            "a person goes to terminal %s",
            self._sn,
            extra={"sn": self._sn, "msgid": msgid, "person_id": entry.person_id or "everyone"},
        )
        self._note_attempt(entry, msgid)
        self._expected[msgid] = self._known.expect(
            msgid, connection, on_reply=lambda reply: self._received(entry, msgid, reply)
        )
        try:
            await connection.send(frame)
        except ConnectionLostError:
            # The registry is about to report it too, and the event wakes this worker.
            return

    def _is_pending(self, entry: PersonEntry) -> bool:
        """Return whether a change is still to be sent, as far as the worker knows."""
        # Slow entries before the window have been sent before.
        return entry.revision in self._sent or any(
            one.revision == entry.revision for one in (*self._removals.entries, *self._others.entries)
        )

    def _note_attempt(self, entry: PersonEntry, msgid: str) -> None:
        times = self._context.times
        now = self._clock.boottime()
        sent = self._sent.get(entry.revision)
        count = sent.attempts.count + 1 if sent is not None else 1
        interval = repeat_seconds(count, times.first_repeat, times.longest_repeat)
        if count > 1:
            interval *= 1 + _JITTER * self._context.random()
        attempts = Attempts(count, now + interval)
        if sent is None:
            sent = self._sent[entry.revision] = _Sent(entry.person_id, not entry.held, attempts)
        self._frames_since_slow = 0 if sent.attempts.is_slow else self._frames_since_slow + 1
        sent.attempts = attempts
        sent.msgids.append(msgid)
        if len(sent.msgids) > _MAX_MSGIDS:
            self._forget(sent.msgids.pop(0))
        self._in_flight = msgid
        self._busy_until = now + times.first_repeat

    def _received(self, entry: PersonEntry, msgid: str, reply: TerminalReply) -> None:
        self._expected.pop(msgid, None)
        if msgid == self._in_flight:
            self._in_flight = None
        if entry.revision in self._sent:
            self._settle(entry, status=reply.status, message=reply.message, msgid=msgid)
        self._wake.set()

    def _settle(self, entry: PersonEntry, *, status: int | None, message: str, msgid: str | None) -> None:
        self._answered.add(entry.revision)
        self._give_up(entry.revision)
        self._context.record(
            TerminalAnswer(
                sn=self._sn,
                person_id=entry.person_id,
                revision=entry.revision,
                status=status,
                message=message,
                msgid=msgid,
            )
        )

    def _give_up(self, revision: int) -> None:
        """Ignore further answers to a change; one to the frame in flight still shows that the terminal is free."""
        sent = self._sent.pop(revision, None)
        if sent is not None:
            for msgid in sent.msgids:
                if msgid != self._in_flight:
                    self._forget(msgid)

    def _stop_waiting(self) -> None:
        """Stop waiting for the frame in flight; a late answer counts as long as its change is still pending."""
        msgid, self._in_flight = self._in_flight, None
        if msgid is not None and not any(msgid in sent.msgids for sent in self._sent.values()):
            self._forget(msgid)

    def _forget(self, msgid: str) -> None:
        forget = self._expected.pop(msgid, None)
        if forget is not None:
            forget()

    def _reconnected(self, connection: Connection) -> None:
        self._connection = connection
        self._stop_waiting()
        now = self._clock.boottime()
        for sent in self._sent.values():
            sent.attempts = replace(sent.attempts, due=now)

    async def _pause(self, until: float | None) -> None:
        """Sleep until that time or until `wake` is called."""
        if until is None:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(max(until - self._clock.boottime(), 0)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _store_failed(self, what: str, error: UnavailableError) -> None:
        _LOGGER.warning("%s for terminal %s cannot be read: %s", what, self._sn, error, extra={"sn": self._sn})
        self._stale = True
        await asyncio.sleep(self._context.times.store_retry)
