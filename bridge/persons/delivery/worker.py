"""Brings one terminal what it has yet to confirm, one frame at a time."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bridge.core.clock import Clock
from bridge.core.ports import Connection, ConnectionLostError
from bridge.core.registry import KnownTerminal
from bridge.model.faults import UnavailableError
from bridge.model.person_entry import PersonEntry
from bridge.persons.delivery.frames import FrameWriter, UnsendableError
from bridge.persons.delivery.plan import Send, Tries, next_step, repeat_after
from bridge.persons.ports import PersonStore
from bridge.persons.transaction import TerminalAnswer
from bridge.protocol.replies import TerminalReply

_LOGGER = logging.getLogger(__name__)

WINDOW = 64
"""Changes of one terminal that are looked at together. A terminal that answers moves the window on; one that leaves so
many without an answer is not helped by more."""

_MAXIMUM_MSGIDS = 8
"""Tries of one change whose late answers still count: at the longest interval an hour's worth."""

_JITTER = 0.2
"""Share by which a repeat is put off at random, so that terminals that fell silent together are not called together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTimes:
    """How long to wait, in seconds.

    Attributes:
        first_repeat: without an answer before a frame is repeated, and before another may go out (PROTOCOL).
        longest_repeat: between two repeats; each interval is double the one before.
        store_retry: before a store that failed is asked again.
    """

    first_repeat: float = 20.0
    longest_repeat: float = 600.0
    store_retry: float = 5.0


DEFAULT_TIMES = DeliveryTimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryContext:
    """What all couriers share.

    Attributes:
        store: of the persons.
        frames: writes what is sent.
        record: stores an answer.
        clock: the time.
        new_msgid: makes an id that was never used before.
        random: returns a number from 0 up to 1, for the jitter.
        times: how long to wait.
    """

    store: PersonStore
    frames: FrameWriter
    record: Callable[[TerminalAnswer], None]
    clock: Clock
    new_msgid: Callable[[], str]
    random: Callable[[], float]
    times: DeliveryTimes


@dataclass(slots=True)
class _Tried:
    tries: Tries
    msgids: list[str] = field(default_factory=list)


class DeliveryWorker:
    """Outlives connections, so that an answer that comes late still counts; ends once nothing is pending."""

    def __init__(self, known: KnownTerminal, means: DeliveryContext, pending: Callable[[], bool]) -> None:
        """Take the terminal, the means, and what tells whether the store holds anything pending for it."""
        self._known = known
        self._pending = pending
        self._sn = known.terminal.sn
        self._means = means
        self._wake = asyncio.Event()
        self._window: list[PersonEntry] = []
        self._stale = True
        self._recorded = False
        self._answered: set[int] = set()
        self._tried: dict[int, _Tried] = {}
        self._expected: dict[str, Callable[[], None]] = {}
        self._connection: Connection | None = None
        self._in_flight: str | None = None
        self._busy_until = 0.0

    def wake(self, *, changed: bool = False, recorded: bool = False) -> None:
        """Look again.

        Args:
            changed: there may be something new to send.
            recorded: answers were stored.
        """
        self._stale |= changed
        self._recorded |= recorded
        self._wake.set()

    def close(self) -> None:
        """Wait for no answer any more."""
        for forget in self._expected.values():
            forget()
        self._expected.clear()

    async def run(self) -> bool:
        """Send until the terminal is gone (False) or nothing is pending (True)."""
        while (connection := self._known.connection) is not None:
            self._wake.clear()
            if connection is not self._connection:
                self._reconnected(connection)
            if self._in_flight is not None and self._means.clock.boottime() >= self._busy_until:
                self._land()
            if self._in_flight is None and not self._pending():
                return True
            if self._stale and not await self._read():
                continue
            step = next_step(
                self._window,
                self._answered,
                {revision: tried.tries for revision, tried in self._tried.items()},
                self._busy_until if self._in_flight is not None else None,
                self._means.clock.boottime(),
            )
            if isinstance(step, Send):
                await self._send(connection, step.entry)
            elif self._in_flight is not None:
                await self._pause(self._busy_until)
            elif self._recorded:
                # Answers have made room in the window.
                self._stale = True
            else:
                await self._pause(step.until)
        return False

    async def _read(self) -> bool:
        """Read the window; return False where it is out of date already, or the store failed."""
        self._stale = self._recorded = False
        try:
            self._window = list(await self._means.store.pending(self._sn, WINDOW))
        except UnavailableError as error:
            _LOGGER.warning("persons for terminal %s cannot be read: %s", self._sn, error, extra={"sn": self._sn})
            await self._pause_for_store()
            return False
        revisions = {entry.revision for entry in self._window}
        self._answered &= revisions
        for revision in self._tried.keys() - revisions:
            self._give_up(revision)
        return not self._stale

    async def _send(self, connection: Connection, entry: PersonEntry) -> None:
        msgid = self._means.new_msgid()
        try:
            frame = await self._means.frames.write(entry, msgid=msgid, key=self._known.terminal.key)
        except UnavailableError as error:
            _LOGGER.warning("a person for terminal %s cannot be read: %s", self._sn, error, extra={"sn": self._sn})
            await self._pause_for_store()
            return
        except UnsendableError as error:
            _LOGGER.warning(
                "a person cannot be sent: %s", error, extra={"sn": self._sn, "person_id": entry.person_id or "everyone"}
            )
            self._settle(entry, status=None, message=str(error), msgid=None)
            return
        if self._stale or self._known.connection is not connection:
            return
        _LOGGER.debug(
            "a person goes to terminal %s",
            self._sn,
            extra={"sn": self._sn, "msgid": msgid, "person_id": entry.person_id or "everyone"},
        )
        self._note_try(entry, msgid)
        self._expected[msgid] = self._known.expect(
            msgid, connection, on_reply=lambda reply: self._received(entry, msgid, reply)
        )
        try:
            await connection.send(frame)
        except ConnectionLostError:
            # The registry is about to hear of it too, and wakes us.
            return

    def _note_try(self, entry: PersonEntry, msgid: str) -> None:
        times = self._means.times
        now = self._means.clock.boottime()
        tried = self._tried.get(entry.revision)
        count = tried.tries.count + 1 if tried is not None else 1
        interval = repeat_after(count, times.first_repeat, times.longest_repeat)
        if count > 1:
            interval *= 1 + _JITTER * self._means.random()
        tries = Tries(count, now + interval)
        if tried is None:
            tried = self._tried[entry.revision] = _Tried(tries)
        tried.tries = tries
        tried.msgids.append(msgid)
        if len(tried.msgids) > _MAXIMUM_MSGIDS:
            self._forget(tried.msgids.pop(0))
        self._in_flight = msgid
        self._busy_until = now + times.first_repeat

    def _received(self, entry: PersonEntry, msgid: str, reply: TerminalReply) -> None:
        self._expected.pop(msgid, None)
        if msgid == self._in_flight:
            self._in_flight = None
        if entry.revision in self._tried:
            self._settle(entry, status=reply.status, message=reply.message, msgid=msgid)
        self._wake.set()

    def _settle(self, entry: PersonEntry, *, status: int | None, message: str, msgid: str | None) -> None:
        self._answered.add(entry.revision)
        self._give_up(entry.revision)
        self._means.record(
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
        """Let no further answer to a change count; one to the frame in flight still tells that it has landed."""
        tried = self._tried.pop(revision, None)
        if tried is not None:
            for msgid in tried.msgids:
                if msgid != self._in_flight:
                    self._forget(msgid)

    def _land(self) -> None:
        """Stop waiting for the frame in flight; a late answer counts as long as its change is still wanted."""
        msgid, self._in_flight = self._in_flight, None
        if msgid is not None and not any(msgid in tried.msgids for tried in self._tried.values()):
            self._forget(msgid)

    def _forget(self, msgid: str) -> None:
        forget = self._expected.pop(msgid, None)
        if forget is not None:
            forget()

    def _reconnected(self, connection: Connection) -> None:
        self._connection = connection
        self._land()
        now = self._means.clock.boottime()
        for tried in self._tried.values():
            tried.tries = replace(tried.tries, due=now)

    async def _pause(self, until: float | None) -> None:
        """Sleep until the time has come or somebody wakes us."""
        timeout = None if until is None else max(until - self._means.clock.boottime(), 0)
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _pause_for_store(self) -> None:
        self._stale = True
        await asyncio.sleep(self._means.times.store_retry)
