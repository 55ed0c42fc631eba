"""Checks a store's file in the background: opening a store of 4 GB took two minutes while it was read whole.

A bridge marks the store while it runs, and a clean end removes the mark. A store with the mark at the start was left by
a crash or a power cut, and is checked at once; any other store is checked every few weeks. The bridge serves meanwhile:
reads of a damaged part fail by themselves, and doors need no store.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, inspect, select, text

from bridge.model.faults import UnavailableError
from bridge.store.database import Database
from bridge.store.errors import PhotoKeyError, is_damage
from bridge.store.photos import PhotoCipher
from bridge.store.tables import COUNTER, PHOTO

_LOGGER = logging.getLogger(__name__)

UNCLEAN = "unclean"
DAMAGED = "damaged"
_CHECKED_AT = "checked_at"
"""Names of counters: 1 while a bridge runs, 1 after a check that failed, and when the last check was passed."""

_INTERVAL = timedelta(days=30)
"""Interval of checks after clean ends: they find errors of the disk before the last good backup is gone."""

_LOOK_SECONDS = 3600.0

_PHOTOS = 10
"""Photos that one query reads: one megabyte, so that a short read waits some milliseconds at most."""

_BYTES_PER_SECOND = 20_000_000
"""Rate at which photos are read: a fraction of what a slow disk gives. 4 GB take four minutes."""

_DAMAGED = (
    "the integrity check of the store failed (%s): restore a backup (`facebridge restore FILE`); doors can be opened"
    " meanwhile, person changes may fail"
)


class IntegrityCheck:
    """Marks the store while the bridge runs, and checks it."""

    def __init__(self, database: Database, cipher: PhotoCipher, now: Callable[[], datetime]) -> None:
        """Store the dependencies.

        Args:
            database: the store.
            cipher: decrypts photos.
            now: returns the time.
        """
        self._database = database
        self._cipher = cipher
        self._now = now
        self._is_due = False

    async def begin(self) -> None:
        """Find out how the store was left, and mark it. Raises UnavailableError if the store cannot be read."""
        was_unclean = await self._database.read(_was_unclean)
        try:
            await self._database.write(_put, UNCLEAN, 1)
        except UnavailableError as error:
            # Doors must open with a full disk too.
            _LOGGER.warning("the store cannot be marked as in use: %s", error)
        if was_unclean and self._is_needed:
            _LOGGER.warning("the store was not closed cleanly: it is checked in the background")
            self._is_due = True

    async def end(self) -> None:
        """Remove the mark; to be called when nothing else uses the store."""
        # A store that cannot be written to now is checked at the next start.
        with suppress(UnavailableError):
            await self._database.write(_put, UNCLEAN, None)

    async def run(self) -> None:
        """Check when it is due, until cancelled."""
        while self._is_needed:
            try:
                if self._is_due or await self._is_old():
                    await self.check()
            except UnavailableError as error:
                _LOGGER.warning("the store cannot be checked now: %s", error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def check(self) -> str | None:
        """Read the whole store once, and store the result.

        Returns:
            The damage; None if there is none.

        Raises:
            UnavailableError: the store cannot be read now.
        """
        damage = await self._damage()
        self._is_due = False
        if damage is None:
            _LOGGER.info("the integrity check of the store found no damage")
            await self._database.write(_passed, int(self._now().timestamp()))
        else:
            _LOGGER.error(_DAMAGED, damage)
            await self._database.write(_put, DAMAGED, 1)
        return damage

    @property
    def _is_needed(self) -> bool:
        """Whether the store is a file; a database server checks its own."""
        return self._database.engine.dialect.name == "sqlite"

    async def _is_old(self) -> bool:
        checked_at = await self._database.read(read_counter, _CHECKED_AT)
        if checked_at is None:
            await self._database.write(_put, _CHECKED_AT, int(self._now().timestamp()))
            return False
        return self._now().timestamp() - checked_at > _INTERVAL.total_seconds()

    async def _damage(self) -> str | None:
        try:
            for table in await self._database.read(_table_names):
                if (damage := await self._database.read(table_damage, table)) is not None:
                    return damage
            after: str | None = ""
            while after is not None:
                after, size, damaged = await self._database.read(_check_photos, self._cipher, after)
                if damaged is not None:
                    return damaged
                await asyncio.sleep(size / _BYTES_PER_SECOND)
        except UnavailableError as error:
            if is_damage(error.__cause__):
                return str(error)
            raise
        return None


def read_counter(connection: Connection, name: str) -> int | None:
    """Return the value of a counter; None if it is not set."""
    value: int | None = connection.execute(select(COUNTER.c.value).where(COUNTER.c.name == name)).scalar()
    return value


def table_damage(connection: Connection, table: str) -> str | None:
    """Check the structure of one table of SQLite and its indexes; return what is wrong."""
    result = connection.execute(text(f"PRAGMA quick_check({table})")).scalar_one()
    return None if result == "ok" else f"table {table}"


def _table_names(connection: Connection) -> list[str]:
    """Return the tables whose structure is checked in one go; photos are read a few at a time."""
    return [name for name in inspect(connection).get_table_names() if name != PHOTO.name]


def _check_photos(connection: Connection, cipher: PhotoCipher, after: str) -> tuple[str | None, int, str | None]:
    """Compare some photos with their digests.

    Returns:
        The last one (None: none is left), the number of bytes that were read, and the damage.
    """
    rows = connection.execute(select(PHOTO).where(PHOTO.c.sha256 > after).order_by(PHOTO.c.sha256).limit(_PHOTOS)).all()
    for row in rows:
        try:
            jpeg = cipher.decrypt(row.jpeg, row.key_id)
        except PhotoKeyError:
            return row.sha256, 0, f"photo {row.sha256[:12]} cannot be decrypted"
        if hashlib.sha256(jpeg).hexdigest() != row.sha256:
            return row.sha256, 0, f"photo {row.sha256[:12]} differs from its digest"
    return (rows[-1].sha256 if rows else None), sum(len(row.jpeg) for row in rows), None


def _was_unclean(connection: Connection) -> bool:
    return read_counter(connection, UNCLEAN) is not None or read_counter(connection, DAMAGED) is not None


def _passed(connection: Connection, now: int) -> None:
    _put(connection, DAMAGED, None)
    _put(connection, _CHECKED_AT, now)


def _put(connection: Connection, name: str, value: int | None) -> None:
    connection.execute(delete(COUNTER).where(COUNTER.c.name == name))
    if value is not None:
        connection.execute(insert(COUNTER).values(name=name, value=value))
