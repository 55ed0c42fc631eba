"""Final replies on their way to the broker."""

import asyncio
from collections.abc import Sequence

from bridge.model.person_entry import FinalReply
from bridge.persons.effects import Committed
from bridge.store import person_queries as queries
from bridge.store.database import Database


class Outbox:
    """Final replies that the broker has not acknowledged yet; the store keeps them over restarts.

    A final reply is stored in the transaction of the change that it reports.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handed_out = 0
        self._announced = 0
        self._grown = asyncio.Event()

    async def load(self) -> None:
        """Find the entries that an earlier process left. Raises UnavailableError."""
        self._announce(await self._database.read(queries.last_final_reply_id))

    def committed(self, committed: Committed) -> None:
        """Release the final replies of a transaction; before this, they could overtake its `accepted` replies."""
        self._announce(committed.last_final_reply_id)

    async def next_entries(self, limit: int) -> Sequence[FinalReply]:
        """Wait until there are entries that were not handed out since `rewind`; return up to `limit`, oldest first.

        Raises:
            UnavailableError: the store cannot be read; the next call begins where this one did.
        """
        while True:
            if self._handed_out >= self._announced:
                self._grown.clear()
                await self._grown.wait()
            after, up_to = self._handed_out, self._announced
            entries = await self._database.read(queries.final_replies, after, up_to, limit)
            if self._handed_out != after:
                # `rewind` was called meanwhile: there are older entries now.
                continue
            self._handed_out = entries[-1].id if entries else up_to
            if entries:
                return entries

    async def published(self, ids: Sequence[int]) -> None:
        """Delete the entries that the broker has acknowledged. Raises UnavailableError."""
        if ids:
            await self._database.write(queries.drop_final_replies, ids)

    def rewind(self) -> None:
        """Hand out again, from the oldest, the entries that were handed out but not reported as published."""
        self._handed_out = 0
        self._grown.set()

    def _announce(self, last_id: int) -> None:
        self._announced = max(self._announced, last_id)
        self._grown.set()
