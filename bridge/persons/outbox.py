"""Final replies on their way to the broker."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bridge.model.person_entry import FinalReply
from bridge.persons.effects import Committed
from bridge.store import person_queries as queries
from bridge.store.database import Database

_MAX_RECENT = 1000
"""Committed entries that are kept in memory until they are handed out, some 1 MB. Further ones are read from the store.
To read one takes 1 ms of processor time: a third of what an answer takes."""

_DELETION_SECONDS = 0.05
"""Time that the deletion of published entries may wait for another transaction. After a kill in this time, the broker
gets the final reply again."""


class Outbox:
    """Final replies that the broker has not acknowledged yet; the store keeps them over restarts.

    A final reply is stored in the transaction of the change that it reports.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handed_out = 0
        self._announced = 0
        # Committed entries of consecutive ids; those up to `_handed_out` are not needed any more.
        self._recent: deque[FinalReply] = deque()
        self._grown = asyncio.Event()

    async def load(self) -> None:
        """Find the entries that an earlier process left. Raises UnavailableError."""
        self._announce(await self._database.read(queries.last_final_reply_id))

    def committed(self, committed: Committed) -> None:
        """Release the final replies of a transaction; before this, they could overtake its `accepted` replies."""
        if not committed.are_totals:
            self._keep(committed.final_replies, committed.last_final_reply_id)
        self._announce(committed.last_final_reply_id)

    async def next_entries(self, limit: int) -> Sequence[FinalReply]:
        """Wait until there are entries that were not handed out since `rewind`; return up to `limit`, oldest first.

        Raises:
            UnavailableError: the store cannot be read; the next call begins where this one did.
        """
        while True:
            while self._handed_out >= self._announced:
                self._grown.clear()
                await self._grown.wait()
            entries = self._next_recent(limit)
            if not entries:
                after, up_to = self._handed_out, self._announced
                entries = await self._database.read(queries.final_replies, after, up_to, limit)
                if self._handed_out != after:
                    # `rewind` was called meanwhile: there are older entries now.
                    continue
                self._handed_out = up_to
            if entries:
                self._handed_out = entries[-1].id
                return entries

    def published(self, ids: Sequence[int]) -> "asyncio.Future[None]":
        """Delete the entries that the broker has acknowledged.

        Returns:
            None after the commit; or UnavailableError.
        """
        return self._database.submit_deferred(partial(queries.drop_final_replies, ids=ids), _DELETION_SECONDS)

    def rewind(self) -> None:
        """Hand out again, from the oldest, the entries that were handed out but not reported as published."""
        self._handed_out = 0
        self._grown.set()

    def _announce(self, last_id: int) -> None:
        self._announced = max(self._announced, last_id)
        self._grown.set()

    def _keep(self, final_replies: Sequence[FinalReply], last_id: int) -> None:
        """Keep the entries of a transaction in memory; their ids are consecutive, as only one transaction writes."""
        first_id = last_id - len(final_replies) + 1
        if self._recent and self._recent[-1].id != first_id - 1:
            # Another program has added entries in between, or there was no room for some.
            self._recent.clear()
        if len(self._recent) + len(final_replies) <= _MAX_RECENT:
            self._recent.extend(replace(one, id=number) for number, one in enumerate(final_replies, first_id))

    def _next_recent(self, limit: int) -> Sequence[FinalReply]:
        """Return the next entries if they are in memory, without a gap since the last one that was handed out."""
        recent = self._recent
        while recent and recent[0].id <= self._handed_out:
            recent.popleft()
        if not recent or recent[0].id != self._handed_out + 1:
            return ()
        return [recent.popleft() for _ in range(min(limit, len(recent)))]
