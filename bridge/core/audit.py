"""The audit: who requested which command when, and its outcome."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from datetime import timedelta
from itertools import islice

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.ports import AuditStore
from bridge.core.tasks import BackgroundTasks
from bridge.model.audit import AuditRecord
from bridge.model.events import AuditWritten, CommandReplied, GroupPersonChanged, PersonSettled
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply

_LOGGER = logging.getLogger(__name__)

MAX_WAITING_RECORDS = 50_000
"""Records that may wait for the store: as many as a large import makes, some 20 MB. Further ones are only counted."""

_MAX_BATCH_RECORDS = 500
"""Records in one transaction: it takes a few milliseconds, for which a person change may have to wait."""

_GATHER_SECONDS = 0.25
"""Pause between two transactions. One for each press took half of the processor time of an open, and its thread held up
the event loop: with single presses the median of an open was a quarter longer (measured)."""

RETRY_SECONDS = 5.0
"""Pause after which a store that failed is tried again."""

_CLEANING_SECONDS = 3600.0
"""Interval of the search for old records; `audit.keep_days` counts days."""

MAX_STORED_RECORDS = 2_000_000
"""Records that are kept, however young: some 400 MB, so that a flood of commands cannot fill the persons' disk."""


class AuditRecorder:
    """Records the outcome of every command in the background: no press waits for the disk."""

    def __init__(
        self,
        store: AuditStore,
        events: EventBus,
        clock: Clock,
        keep_days: int,
        *,
        max_waiting: int = MAX_WAITING_RECORDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Begin to collect replies; `start` begins to write them.

        Args:
            store: stores the records.
            events: report the replies; `AuditWritten` is published on them.
            clock: the time.
            keep_days: days after which a record is deleted.
            max_waiting: records that may wait for the store.
            retry_seconds: pause after which a store that failed is tried again.
        """
        self._max_waiting = max_waiting
        self._retry_seconds = retry_seconds
        self._store = store
        self._events = events
        self._clock = clock
        self._kept = timedelta(days=keep_days)
        self._waiting: deque[AuditRecord] = deque()
        self._omitted = 0
        self._is_store_failing = False
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks = BackgroundTasks()
        self._writing: asyncio.Task[None] | None = None
        events.subscribe(CommandReplied, lambda event: self._note(event.reply, event.origin), name="audit")
        events.subscribe(PersonSettled, lambda event: self._note(event.reply, event.origin), name="audit")
        events.subscribe(GroupPersonChanged, lambda event: self._note(event.reply, event.origin), name="audit")

    @property
    def waiting(self) -> int:
        """The number of records that are not written yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to write records, and to delete old ones."""
        self._writing = self._tasks.start(self._run(), name="audit")
        self._tasks.start(self._clean(), name="deletion of old audit records")

    async def stop(self) -> None:
        """Write the waiting records, if that is possible, and end."""
        self._stopping.set()
        self._arrived.set()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self._tasks.stop()

    async def _run(self) -> None:
        while not self._stopping.is_set() or (self._waiting and not self._is_store_failing):
            await self._arrived.wait()
            try:
                await self._write()
                self._is_store_failing = False
                await self._pause(_GATHER_SECONDS)
            except UnavailableError as error:
                _LOGGER.warning("the audit cannot be written now: %s", error)
                self._is_store_failing = True
                await self._pause(self._retry_seconds)

    async def _clean(self) -> None:
        while True:
            try:
                await self._store.drop(before=self._clock.now() - self._kept, keep=MAX_STORED_RECORDS)
            except UnavailableError as error:
                _LOGGER.warning("old records of the audit cannot be deleted now: %s", error)
            await asyncio.sleep(_CLEANING_SECONDS)

    def _note(self, reply: Reply, origin: Origin) -> None:
        if self._is_store_failing and reply.outcome is Outcome.UNAVAILABLE:
            # The intake repeats the change until the store accepts it, and each attempt has this outcome.
            return
        if len(self._waiting) >= self._max_waiting:
            if self._omitted == 0:
                _LOGGER.warning("the audit cannot keep up: records are omitted")
            self._omitted += 1
            return
        self._waiting.append(AuditRecord.of(reply, origin))
        self._arrived.set()

    async def _write(self) -> None:
        """Write the records that wait now. Those that arrive meanwhile are written together after the pause."""
        number = len(self._waiting)
        while number:
            batch = list(islice(self._waiting, min(number, _MAX_BATCH_RECORDS)))
            await self._store.add(batch)
            for _ in batch:
                self._waiting.popleft()
            number -= len(batch)
            self._events.publish(AuditWritten(at=self._clock.now()))
        if self._omitted:
            _LOGGER.warning("the audit lacks %s records", self._omitted)
            self._omitted = 0
        if not self._waiting:
            self._arrived.clear()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
