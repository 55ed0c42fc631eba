"""The key of the page's sessions, and the sessions that have ended before they expired."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from bridge.store.database import Database
from bridge.store.insertion import insert_for
from bridge.store.tables import ENDED_WEB_SESSION, WEB_SESSION_KEY


class StoredSessions:
    """Keeps key and ended sessions in the store. Backups do not contain them: a restored store has a new key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, new_key: bytes) -> tuple[bytes, Mapping[str, datetime]]:
        """Return the key (`new_key`, which is then stored, if there is none) and the ended sessions, with their expiry.

        Raises:
            UnavailableError: the store cannot be used.
        """
        key, ended = await self._database.read(_load)
        if key is None:
            # The instance lock keeps other bridges away meanwhile.
            await self._database.write(_replace_key, new_key)
        return key or new_key, ended

    async def end(self, session_id: str, expires_at: datetime, now: datetime) -> None:
        """Store that a session has ended, until it expires, and forget those that have. Raises UnavailableError."""
        await self._database.write(_end, session_id, expires_at, now)

    async def replace_key(self, new_key: bytes) -> None:
        """Replace the key, and forget the ended sessions: none of them is valid any more. Raises UnavailableError."""
        await self._database.write(_replace_key, new_key)


def _load(connection: Connection) -> tuple[bytes | None, dict[str, datetime]]:
    key = connection.execute(select(WEB_SESSION_KEY.c.key)).scalar()
    ended = connection.execute(select(ENDED_WEB_SESSION.c.id, ENDED_WEB_SESSION.c.expires_at))
    return key, {row.id: row.expires_at for row in ended}


def _end(connection: Connection, session_id: str, expires_at: datetime, now: datetime) -> None:
    connection.execute(delete(ENDED_WEB_SESSION).where(ENDED_WEB_SESSION.c.expires_at <= now))
    statement = insert_for(connection)(ENDED_WEB_SESSION).values(id=session_id, expires_at=expires_at)
    connection.execute(statement.on_conflict_do_nothing(index_elements=["id"]))


def _replace_key(connection: Connection, key: bytes) -> None:
    connection.execute(delete(ENDED_WEB_SESSION))
    connection.execute(delete(WEB_SESSION_KEY))
    connection.execute(insert(WEB_SESSION_KEY).values(key=key))
