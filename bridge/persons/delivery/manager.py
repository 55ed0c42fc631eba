"""Runs a delivery worker for every connected terminal with pending changes, and stores the terminals' answers."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeGuard

from bridge.core.registry import TerminalRegistry
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import (
    PhotoDamaged,
    StorePartDamaged,
    TerminalConnected,
    TerminalDisconnected,
    TerminalForgotten,
)
from bridge.model.faults import UnavailableError
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.persons.delivery.frames import FrameWriter
from bridge.persons.delivery.worker import DeliveryContext, DeliveryTimes, DeliveryWorker
from bridge.persons.effects import Committed, TerminalAnswer
from bridge.persons.transaction_runner import TransactionRunner
from bridge.persons.transactions import PersonTransaction
from bridge.store.errors import DamagedPartError, PhotoDamagedError, PhotoKeyError
from bridge.store.photos import read_intact_photo

_LOGGER = logging.getLogger(__name__)

_MAX_ANSWERS = 100
"""Answers in one transaction: more than arrive during a commit, and few enough not to delay a change: some 30 ms."""


class AnswerRecorder:
    """Stores answers in their order; if the store fails, it tries again.

    The number of waiting answers is bounded by the workers: each stops while too many of its answers are not stored.
    """

    def __init__(self, transactions: TransactionRunner, retry_seconds: float) -> None:
        self._transactions = transactions
        self._retry_seconds = retry_seconds
        self._waiting: deque[TerminalAnswer] = deque()
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()

    def record(self, answer: TerminalAnswer) -> None:
        """Queue an answer; one to a change that has been superseded is ignored."""
        self._waiting.append(answer)
        self._arrived.set()

    async def run(self) -> None:
        """Store answers until `stop` is called."""
        while True:
            await self._arrived.wait()
            try:
                await self._flush()
            except UnavailableError as error:
                _LOGGER.warning("answers of terminals cannot be stored, trying again: %s", error)
                await self._pause()
            except Exception:
                # Without the recorder, no terminal would get anything more.
                _LOGGER.exception("storing answers of terminals failed, trying again")
                await self._pause()
            if self._stopping.is_set():
                return

    def stop(self) -> None:
        """Let `run` end after one attempt to store the waiting answers.

        An answer that is not stored has the same effect as a missing one: the change is sent to the terminal again.
        """
        self._stopping.set()
        self._arrived.set()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._retry_seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _flush(self) -> None:
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), _MAX_ANSWERS))]
            await self._store(batch)
            for _ in batch:
                self._waiting.popleft()
        self._arrived.clear()

    async def _store(self, batch: Sequence[TerminalAnswer]) -> None:
        """Store answers together, or one by one, without those that a damaged part of the store cannot take."""
        try:
            await self._transactions.run(partial(_store_answers, answers=batch))
        except DamagedPartError as error:
            if len(batch) > 1:
                for answer in batch:
                    await self._store([answer])
                return
            # The answers of all terminals wait behind it. Without its answer, a change is sent again.
            _LOGGER.error(  # noqa: TRY400  the traceback would show only where SQLite noticed the damage
                "the answer of a terminal is lost: %s",
                error,
                extra={"sn": batch[0].sn, "person_id": batch[0].person_id or "everyone"},
            )
            context = self._transactions.context
            context.events.publish(StorePartDamaged(at=context.clock.now()))


class DeliveryManager:
    """Starts workers for terminals with pending changes; a terminal without any costs nothing."""

    def __init__(
        self,
        registry: TerminalRegistry,
        transactions: TransactionRunner,
        times: DeliveryTimes,
        new_msgid: Callable[[], str],
        random: Callable[[], float],
    ) -> None:
        """Subscribe to the events of terminals and to commits.

        Args:
            registry: the terminals.
            transactions: reports commits and the state of terminals.
            times: how long to wait.
            new_msgid: returns an id that was never used before.
            random: returns a number from 0 up to 1, for the jitter of repeats.
        """
        self._registry = registry
        self._transactions = transactions
        self._recorder = AnswerRecorder(transactions, times.store_retry)
        context = transactions.context
        self._context = DeliveryContext(
            transactions=transactions,
            frames=FrameWriter(self._load_photo),
            record=self._recorder.record,
            new_msgid=new_msgid,
            random=random,
            times=times,
        )
        self._workers: dict[str, DeliveryWorker] = {}
        self._running: set[DeliveryWorker] = set()
        self._tasks = BackgroundTasks()
        self._recorder_tasks = BackgroundTasks()
        self._recording: asyncio.Task[None] | None = None
        self._is_stopped = False
        events = context.events
        events.subscribe(TerminalConnected, lambda event: self._check(event.sn), name="delivery of persons")
        events.subscribe(TerminalDisconnected, lambda event: self._check(event.sn), name="delivery of persons")
        events.subscribe(TerminalForgotten, self._forgotten, name="delivery of persons")
        transactions.listen(self._committed)

    @property
    def workers(self) -> int:
        """The number of terminals whose worker waits for answers or for a connection."""
        return len(self._workers)

    @property
    def running(self) -> int:
        """The number of workers that run: those of connected terminals."""
        return len(self._tasks)

    def remember_photo(self, sha256: str, jpeg: bytes) -> None:
        """Keep a photo that is stored now, for terminals that get it at once."""
        self._context.frames.remember(sha256, jpeg)

    def start(self) -> None:
        """Begin with the terminals that are connected already."""
        self._recording = self._recorder_tasks.start(self._recorder.run(), name="answer recorder")
        for known in self._registry:
            self._check(known.terminal.sn)

    async def stop(self) -> None:
        """Stop sending, wait for no further answer, and try to store those that came in."""
        self._is_stopped = True
        await self._tasks.stop()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        self._recorder.stop()
        if self._recording is not None:
            await asyncio.wait((self._recording,))

    async def _load_photo(self, sha256: str) -> bytes | None:
        """Return a stored photo; None if it is missing or damaged. Raises UnavailableError."""
        context = self._transactions.context
        try:
            return await context.database.read(read_intact_photo, context.cipher, sha256)
        except PhotoKeyError as error:
            _LOGGER.warning("a photo cannot be read: %s", error)
        except PhotoDamagedError:
            context.events.publish(PhotoDamaged(at=context.clock.now(), sha256=sha256))
        return None

    def _committed(self, committed: Committed) -> None:
        for sn in committed.counts:
            self._check(sn, changed=sn in committed.changed, recorded=True, entries=committed.entries.get(sn))

    def _check(
        self,
        sn: str,
        *,
        changed: bool = False,
        recorded: bool = False,
        entries: Mapping[str | None, PersonEntry | None] | None = None,
    ) -> None:
        known = self._registry.get(sn)
        if known is None or self._is_stopped:
            return
        worker = self._workers.get(sn)
        if worker is None:
            if known.connection is None or not self._transactions.counts(sn).pending:
                return
            worker = self._workers[sn] = DeliveryWorker(known, self._context)
        worker.wake(changed=changed, recorded=recorded, entries=entries)
        if worker not in self._running and known.connection is not None:
            self._running.add(worker)
            self._tasks.start(self._run(sn, worker), name=f"delivery to terminal {sn}")

    async def _run(self, sn: str, worker: DeliveryWorker) -> None:
        done = False
        try:
            done = await self._run_repeatedly(sn, worker)
        finally:
            self._running.discard(worker)
            if done:
                self._drop(sn, worker)

    async def _run_repeatedly(self, sn: str, worker: DeliveryWorker) -> bool:
        """Run a worker; after an unexpected exception again, so that the terminal still gets its persons."""
        pause = self._context.times.failure_pause
        while True:
            try:
                return await worker.run()
            except Exception:
                _LOGGER.exception("delivery to terminal %s failed, trying again in %g s", sn, pause, extra={"sn": sn})
                await asyncio.sleep(pause)
                worker.wake(changed=True)

    def _forgotten(self, event: TerminalForgotten) -> None:
        worker = self._workers.get(event.sn)
        if worker is not None:
            self._drop(event.sn, worker)
            worker.wake(changed=True)

    def _drop(self, sn: str, worker: DeliveryWorker) -> None:
        worker.close()
        if self._workers.get(sn) is worker:
            del self._workers[sn]


def _store_answers(transaction: PersonTransaction, answers: Sequence[TerminalAnswer]) -> None:
    by_terminal: defaultdict[str, list[TerminalAnswer]] = defaultdict(list)
    for answer in answers:
        by_terminal[answer.sn].append(answer)
    for sn, of_terminal in by_terminal.items():
        entries = transaction.entries(sn, {answer.person_id for answer in of_terminal})
        for answer in of_terminal:
            entry = entries.get(answer.person_id)
            if _is_current(entry, answer):
                # A second answer to the same change is ignored.
                del entries[answer.person_id]
                transaction.answer(entry, answer)


def _is_current(entry: PersonEntry | None, answer: TerminalAnswer) -> TypeGuard[PersonEntry]:
    return entry is not None and entry.revision == answer.revision and entry.delivery is DeliveryState.PENDING
