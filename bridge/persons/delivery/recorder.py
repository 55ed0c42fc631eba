"""Writes down what the terminals answered: what has come in meanwhile goes into one transaction."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TypeGuard

from bridge.model.faults import UnavailableError
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.persons.transaction import TerminalAnswer, Transaction
from bridge.persons.transaction_runner import TransactionRunner

_LOGGER = logging.getLogger(__name__)

_BATCH = 500
"""Answers in one transaction: more than a disk's commit takes to come in, and few enough not to hold up a change."""


class AnswerRecorder:
    """Takes answers at once and stores them in their order; a store that fails is tried again.

    What waits here is bounded by the senders: each stops while so many of its answers are not stored.
    """

    def __init__(self, commits: TransactionRunner, retry: float) -> None:
        """Take where to write, and the seconds after which a store that failed is tried again."""
        self._commits = commits
        self._retry = retry
        self._waiting: deque[TerminalAnswer] = deque()
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()

    def record(self, answer: TerminalAnswer) -> None:
        """Have an answer stored; one to a change that was superseded meanwhile is left out."""
        self._waiting.append(answer)
        self._arrived.set()

    async def run(self) -> None:
        """Store what comes in, until `stop`."""
        while True:
            await self._arrived.wait()
            try:
                await self._flush()
            except UnavailableError as error:
                _LOGGER.warning("answers of terminals cannot be stored, trying again: %s", error)
                await self._sleep()
            if self._stopping.is_set():
                return

    def stop(self) -> None:
        """Let `run` end once it has tried to store what has come in.

        An answer that cannot be stored is as good as none: the terminal is sent the change again.
        """
        self._stopping.set()
        self._arrived.set()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(self._retry):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _flush(self) -> None:
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), _BATCH))]

            async def work(ledger: Transaction, batch: Sequence[TerminalAnswer] = batch) -> None:
                await _apply(ledger, batch)

            await self._commits.run(work)
            for _ in batch:
                self._waiting.popleft()
        self._arrived.clear()


async def _apply(ledger: Transaction, answers: Sequence[TerminalAnswer]) -> None:
    by_terminal: defaultdict[str, list[TerminalAnswer]] = defaultdict(list)
    for answer in answers:
        by_terminal[answer.sn].append(answer)
    for sn, of_terminal in by_terminal.items():
        entries = await ledger.entries(sn, {answer.person_id for answer in of_terminal})
        for answer in of_terminal:
            entry = entries.get(answer.person_id)
            if _is_current(entry, answer):
                # A second answer to the same change comes too late.
                del entries[answer.person_id]
                ledger.answer(entry, answer)


def _is_current(entry: PersonEntry | None, answer: TerminalAnswer) -> TypeGuard[PersonEntry]:
    return entry is not None and entry.revision == answer.revision and entry.delivery is DeliveryState.PENDING
