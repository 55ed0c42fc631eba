"""Last words until the broker has them."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from bridge.model.person_entry import FinalReply
from bridge.store.database import Database
from bridge.store.records import read_word
from bridge.store.tables import OUTBOX


class StoredOutbox:
    """The rows behind the roster's outbox; they are written together with the change they are the last word on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_id(self) -> int:
        """Return the newest one's id, 0 where there is none. Raises UnavailableError."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(func.max(OUTBOX.c.id)))).scalar() or 0

    async def between(self, after: int, up_to: int, limit: int) -> Sequence[FinalReply]:
        """Return those with ids above `after` and not above `up_to`, oldest first. Raises UnavailableError."""
        query = select(OUTBOX).where(OUTBOX.c.id > after, OUTBOX.c.id <= up_to).order_by(OUTBOX.c.id).limit(limit)
        async with self._database.reading() as connection:
            return [read_word(row) for row in (await connection.execute(query)).mappings()]

    async def drop(self, ids: Sequence[int]) -> None:
        """Drop those that were published. Raises UnavailableError."""
        async with self._database.writing() as connection:
            await connection.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))
