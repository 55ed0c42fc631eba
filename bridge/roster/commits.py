"""Every change to the roster goes through here: one transaction, and what the world hears of it once it is stored."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from bridge.hub.clock import Clock
from bridge.hub.event_bus import EventBus
from bridge.model.events import PersonsChanged, PersonSettled
from bridge.model.terminal import PersonCounts
from bridge.roster.ledger import Committed, Ledger, added
from bridge.roster.ports import PersonStore

_T = TypeVar("_T")

_NOTHING = PersonCounts()


class Commits:
    """Runs transactions, keeps the counts, and tells of what was committed, in this order."""

    def __init__(self, store: PersonStore, events: EventBus, clock: Clock, boot_id: str) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._boot_id = boot_id
        self._counts: dict[str, PersonCounts] = {}
        self._listeners: list[Callable[[Committed], None]] = []

    @property
    def counts(self) -> Mapping[str, PersonCounts]:
        """How far each terminal with persons is."""
        return self._counts

    async def load(self) -> None:
        """Read the counts from the store. Raises UnavailableError."""
        self._counts = dict(await self._store.counts())

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Call `listener` after each commit, before the events; it must not block."""
        self._listeners.append(listener)

    async def run(self, work: Callable[[Ledger], Awaitable[_T]]) -> _T:
        """Do `work` in one transaction and return what it returned, once it is on the disk.

        Raises:
            UnavailableError: the store is full, locked or gone; nothing was changed.
        """
        async with self._store.transaction() as transaction:
            ledger = Ledger(transaction, self._clock, self._boot_id)
            result = await work(ledger)
            committed = await ledger.finish()
        for sn, change in committed.counts.items():
            counts = added(self._counts.get(sn, _NOTHING), change)
            if counts == _NOTHING:
                self._counts.pop(sn, None)
            else:
                self._counts[sn] = counts
        # Whoever called hears first: `accepted` is told before the last word on the same change can be.
        asyncio.get_running_loop().call_soon(self._announce, committed)
        return result

    def _announce(self, committed: Committed) -> None:
        for listener in self._listeners:
            listener(committed)
        now = self._clock.now()
        for sn in committed.counts:
            self._events.publish(PersonsChanged(at=now, sn=sn))
        for word in committed.words:
            self._events.publish(PersonSettled(at=word.reply.at, reply=word.reply))
