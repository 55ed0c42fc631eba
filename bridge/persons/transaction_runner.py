"""Every change to the roster goes through here: one transaction, and what the world hears of it once it is stored."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import PersonsChanged, PersonSettled
from bridge.model.faults import UnavailableError
from bridge.model.terminal import PersonCounts
from bridge.persons.ports import PersonStore
from bridge.persons.transaction import Committed, Transaction, added

_T = TypeVar("_T")

_NOTHING = PersonCounts()


class TransactionRunner:
    """Runs transactions, keeps the counts, and tells of what was committed, in this order."""

    def __init__(
        self, store: PersonStore, events: EventBus, clock: Clock, boot_id: str, *, beside_a_bridge: bool = False
    ) -> None:
        """Begin with no counts; `load` reads them.

        Args:
            store: where persons are kept.
            events: told of what was committed.
            clock: the time.
            boot_id: what `read_boot_id` returns.
            beside_a_bridge: this program is not the bridge, which is to look at what is changed.
        """
        self._beside_a_bridge = beside_a_bridge
        self._store = store
        self._events = events
        self._clock = clock
        self._boot_id = boot_id
        self._counts: dict[str, PersonCounts] = {}
        self._listeners: list[Callable[[Committed], None]] = []
        self._tasks = BackgroundTasks()
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def counts(self) -> Mapping[str, PersonCounts]:
        """How far each terminal with persons is."""
        return self._counts

    async def load(self) -> None:
        """Read the counts from the store. Raises UnavailableError."""
        self._counts = dict(await self._store.counts())

    async def take_outside_changes(self) -> None:
        """Count, send and tell what another program has changed. Raises UnavailableError."""
        async with self._store.transaction() as transaction:
            sns = await transaction.take_outside_changes()
            counts = await transaction.counts(sns)
            last_word_id = await transaction.last_word_id()
        for sn in sns:
            self._count(sn, counts.get(sn, _NOTHING))
        self._announce(
            Committed(
                counts=dict.fromkeys(sns, _NOTHING),
                changed=sns,
                words=(),
                last_word_id=last_word_id,
                # What the other program has deleted is in a log that only the last one to close the store clears.
                photos_dropped=True,
            )
        )

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Call `listener` after each commit, before the events; it must not block."""
        self._listeners.append(listener)

    async def run(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """Do `work` in one transaction and return what it returned, once it is on the disk.

        The transaction goes on when the caller is cancelled: nobody could tell then whether it was stored, and what
        was stored must be counted, sent and told all the same.

        Raises:
            UnavailableError: the store is full, locked or gone; nothing was changed.
        """
        task = self._tasks.start(self._commit(work), name="roster commit")
        self._running.add(task)
        ended = asyncio.shield(task)
        # After the shield's own callback, so that the caller is woken first: it tells `accepted`, which the last word
        # on the same change must not overtake.
        task.add_done_callback(self._ended)
        outcome = await ended
        if isinstance(outcome, UnavailableError):
            raise outcome
        return outcome[0]

    async def stop(self) -> None:
        """Wait for the transactions that are under way."""
        while self._running:
            await asyncio.wait(self._running)

    async def _commit(self, work: Callable[[Transaction], Awaitable[_T]]) -> tuple[_T, Committed] | UnavailableError:
        try:
            async with self._store.transaction() as transaction:
                ledger = Transaction(transaction, self._clock, self._boot_id)
                result = await work(ledger)
                committed = await ledger.finish()
                if self._beside_a_bridge:
                    await transaction.note_outside_changes(committed.counts)
        except UnavailableError as error:
            return error
        for sn, change in committed.counts.items():
            self._count(sn, added(self._counts.get(sn, _NOTHING), change))
        return result, committed

    def _count(self, sn: str, counts: PersonCounts) -> None:
        if counts == _NOTHING:
            self._counts.pop(sn, None)
        else:
            self._counts[sn] = counts

    def _ended(self, task: asyncio.Task[tuple[Any, Committed] | UnavailableError]) -> None:
        self._running.discard(task)
        if task.cancelled() or task.exception() is not None:
            return
        outcome = task.result()
        if not isinstance(outcome, UnavailableError):
            asyncio.get_running_loop().call_soon(self._announce, outcome[1])

    def _announce(self, committed: Committed) -> None:
        for listener in self._listeners:
            listener(committed)
        now = self._clock.now()
        for sn in committed.counts:
            self._events.publish(PersonsChanged(at=now, sn=sn))
        for word in committed.words:
            self._events.publish(PersonSettled(at=word.reply.at, reply=word.reply, origin=word.origin))
