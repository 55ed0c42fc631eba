"""Last words on their way to whoever asked."""

import asyncio
from collections.abc import Sequence

from bridge.core.ports import OutboxEntry
from bridge.persons.ports import OutboxStore
from bridge.persons.transaction import Committed


class PersonOutbox:
    """The hub's `Outbox`, on what the store keeps."""

    def __init__(self, store: OutboxStore) -> None:
        self._store = store
        self._handed_out = 0
        self._announced = 0
        self._grown = asyncio.Event()

    async def load(self) -> None:
        """Find what waits from before. Raises UnavailableError."""
        self._announce(await self._store.last_id())

    def committed(self, committed: Committed) -> None:
        """Let the last words of a transaction go out; not before, lest they overtake the `accepted` they belong to."""
        self._announce(committed.last_word_id)

    async def next_entries(self, limit: int) -> Sequence[OutboxEntry]:
        """Wait until there are entries that were not handed out since `rewind`; return up to `limit`, oldest first.

        Raises:
            UnavailableError: the store cannot be read; the next call begins where this one did.
        """
        while True:
            if self._handed_out >= self._announced:
                self._grown.clear()
                await self._grown.wait()
            after, up_to = self._handed_out, self._announced
            words = await self._store.between(after, up_to, limit)
            if self._handed_out != after:
                # Rewound meanwhile: there are older ones now.
                continue
            self._handed_out = words[-1].id if words else up_to
            if words:
                return [OutboxEntry(id=word.id, reply=word.reply, origin=word.origin) for word in words]

    async def published(self, ids: Sequence[int]) -> None:
        """Drop the entries that the broker has acknowledged. Raises UnavailableError."""
        if ids:
            await self._store.drop(ids)

    def rewind(self) -> None:
        """Hand out again, from the oldest, what was handed out but not reported as published."""
        self._handed_out = 0
        self._grown.set()

    def _announce(self, last_id: int) -> None:
        self._announced = max(self._announced, last_id)
        self._grown.set()
