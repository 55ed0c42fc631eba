"""The audit: who asked for what when, and how it ended."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from datetime import timedelta

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.ports import AuditStore
from bridge.core.tasks import BackgroundTasks
from bridge.model.audit import AuditRecord
from bridge.model.events import CommandReplied, PersonSettled
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import Reply

_LOGGER = logging.getLogger(__name__)

_MAXIMUM_WAITING = 50_000
"""Records that may wait for the store: a large roster's import, some 20 MB; what is more is counted and left out."""

_BATCH = 500
"""Records in one transaction: a few milliseconds, in which a person change waits for its own."""

_PAUSE = 5.0
"""Seconds before a store that failed is asked again."""

_CLEANING_INTERVAL = 3600.0
"""Seconds between two looks for what is too old: days are what is counted."""

MAXIMUM_RECORDS = 2_000_000
"""That are kept, however young: some 400 MB, so that a flood of commands cannot fill the disk that persons need."""


class AuditRecorder:
    """Writes down every command's outcome, behind what the command itself is about: no press waits for the disk."""

    def __init__(self, store: AuditStore, events: EventBus, clock: Clock, keep_days: int) -> None:
        """Begin to take down what is replied; it is written once it was started.

        Args:
            store: where records are kept.
            events: that tell of replies.
            clock: the time.
            keep_days: days after which a record is dropped.
        """
        self._store = store
        self._clock = clock
        self._kept = timedelta(days=keep_days)
        self._waiting: deque[AuditRecord] = deque()
        self._left_out = 0
        self._store_fails = False
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks = BackgroundTasks()
        self._writing: asyncio.Task[None] | None = None
        events.subscribe(CommandReplied, lambda event: self._note(event.reply, event.origin), name="audit")
        events.subscribe(PersonSettled, lambda event: self._note(event.reply, event.origin), name="audit")

    @property
    def waiting(self) -> int:
        """Records that are not yet written."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to write, and to drop what is too old."""
        self._writing = self._tasks.start(self._run(), name="audit")
        self._tasks.start(self._clean(), name="cleaning of the audit")

    async def stop(self) -> None:
        """Write what is left, if that is possible, and end."""
        self._stopping.set()
        self._arrived.set()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self._tasks.stop()

    async def _run(self) -> None:
        while not self._stopping.is_set() or (self._waiting and not self._store_fails):
            await self._arrived.wait()
            try:
                await self._write()
                self._store_fails = False
            except UnavailableError as error:
                _LOGGER.warning("the audit cannot be written now: %s", error)
                self._store_fails = True
                await self._pause()

    async def _clean(self) -> None:
        while True:
            try:
                await self._store.drop(before=self._clock.now() - self._kept, keep=MAXIMUM_RECORDS)
            except UnavailableError as error:
                _LOGGER.warning("old records of the audit cannot be dropped now: %s", error)
            await asyncio.sleep(_CLEANING_INTERVAL)

    def _note(self, reply: Reply, origin: Origin) -> None:
        if self._store_fails and reply.outcome is Outcome.UNAVAILABLE:
            # The same trouble, told again each time a change is tried again; it ends `accepted`.
            return
        if len(self._waiting) >= _MAXIMUM_WAITING:
            if self._left_out == 0:
                _LOGGER.warning("the audit cannot keep up: records are left out")
            self._left_out += 1
            return
        self._waiting.append(AuditRecord.of(reply, origin))
        self._arrived.set()

    async def _write(self) -> None:
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), _BATCH))]
            await self._store.add(batch)
            for _ in batch:
                self._waiting.popleft()
        if self._left_out:
            _LOGGER.warning("the audit lacks %s records", self._left_out)
            self._left_out = 0
        self._arrived.clear()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await self._stopping.wait()
