"""The connection to the database: opening, checking, reading, and one writer at a time."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event, func, make_url, select, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bridge.model.faults import UnavailableError
from bridge.store.errors import (
    StoreDamagedError,
    StoreMissingError,
    StoreTooOldError,
    StoreUrlError,
    is_damage,
    mapped_errors,
)
from bridge.store.schema import SchemaState, schema_state, upgrade
from bridge.store.tables import COUNTER

_LOGGER = logging.getLogger(__name__)

_READERS = 3
"""Queries that may run beside the writer; each connection to SQLite is a thread, and the machines are small."""
_BUSY_TIMEOUT = 5.0
"""Seconds to wait for another program's lock (an import, a backup): theirs last well under a second."""
_REACHABLE_TIMEOUT = 3.0
"""Seconds after which a store that does not answer counts as gone; monitors ask every ten or so."""

_WRITING = "facebridge_writing"

_POSTGRESQL_WRITER = (0x46616365, 1)
"""The advisory lock of whoever writes: "Face" in ASCII, so that it meets nobody else's, and a number."""


class Database:
    """An open store."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Take an engine whose schema is up to date; `open` makes one."""
        self._engine = engine
        # The ids of revisions and outbox entries come to light in the order they were given out.
        self._writer = asyncio.Lock()
        self._readers = asyncio.Semaphore(_READERS)

    @classmethod
    async def open(
        cls, url: str, *, busy_timeout: float = _BUSY_TIMEOUT, may_upgrade: bool = True, must_exist: bool = False
    ) -> "Database":
        """Open a store, make it where there is none, check it, and bring its schema up to date.

        Args:
            url: `sqlite:///FILE` or `postgresql://…`.
            busy_timeout: seconds to wait for another program's lock.
            may_upgrade: False beside a running bridge, which would not know the new schema.
            must_exist: False makes a store where there is none.

        Raises:
            StoreUrlError: the URL cannot be used.
            StoreMissingError: there is none, and there must be.
            StoreTooNewError: a newer version has written the store.
            StoreTooOldError: an older version has written it, and it may not be upgraded.
            StoreDamagedError: the file is damaged or no store.
            UnavailableError: it cannot be opened now.
        """
        parsed = parse_url(url)
        file = parsed.database if parsed.get_backend_name() == "sqlite" else None
        engine = _engine(parsed, busy_timeout)
        try:
            with mapped_errors():
                if file is not None:
                    _prepare_file(Path(file), must_exist=must_exist)
                async with engine.connect() as connection:
                    async with connection.begin():
                        if file is not None:
                            await _check(connection, file)
                        state = await connection.run_sync(schema_state)
                    if state is SchemaState.MISSING and must_exist:
                        raise StoreMissingError("this is no store of Facebridge, or an empty one")
                    if state is SchemaState.OLD and not may_upgrade:
                        raise StoreTooOldError(
                            "the store is of an older version of Facebridge, and a bridge of that version runs on it:"
                            " restart the bridge with this version first"
                        )
                if state is not SchemaState.CURRENT:
                    async with _writing(engine) as connection:
                        await connection.run_sync(upgrade)
        except UnavailableError as error:
            await engine.dispose()
            if is_damage(error.__cause__):
                raise StoreDamagedError(_damaged(file, "it is no database, or a damaged one")) from error
            raise
        except BaseException:
            await engine.dispose()
            raise
        return cls(engine)

    async def close(self) -> None:
        """Close every connection once the writer has ended."""
        async with self._writer:
            with mapped_errors():
                await self._engine.dispose()

    async def reachable(self) -> bool:
        """Tell whether the store answers."""
        try:
            async with asyncio.timeout(_REACHABLE_TIMEOUT), self.reading() as connection:
                await connection.execute(select(COUNTER.c.value))
        except (UnavailableError, TimeoutError):
            return False
        return True

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection whose queries all see the same state.

        Raises:
            UnavailableError: in place of whatever the database raises.
        """
        async with self._readers:
            with mapped_errors():
                async with self._engine.connect() as connection:
                    if not self._is_sqlite:
                        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                    yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction of its own: committed at the end, or rolled back on any exception.

        There is one at a time, those of other programs included.

        Raises:
            UnavailableError: in place of whatever the database raises; nothing was changed then.
        """
        async with self._writer:
            with mapped_errors():
                async with _writing(self._engine) as connection:
                    yield connection

    async def shed(self) -> bool:
        """Let go of what was deleted, so that it can be read nowhere any more; costs a write of all recent changes.

        SQLite's log would keep it until the log is overwritten. PostgreSQL's own vacuum sees to it there.

        Returns:
            False where somebody still reads what was before, a backup for example.

        Raises:
            UnavailableError: not now.
        """
        if not self._is_sqlite:
            return True
        async with self._writer:
            with mapped_errors():
                async with self._engine.connect() as connection:
                    driver = (await connection.get_raw_connection()).driver_connection
                    assert driver is not None
                    async with driver.execute("PRAGMA wal_checkpoint(TRUNCATE)") as cursor:
                        busy, _, _ = await cursor.fetchone()
        return not busy

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"


def parse_url(url: str) -> URL:
    """Return `store.url` with the driver that is used. Raises StoreUrlError."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreUrlError("store.url is not a URL (sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME)") from None
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:" and not parsed.host:
        return parsed.set(drivername="sqlite+aiosqlite")
    if parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+asyncpg")
    raise StoreUrlError(
        "store.url must be sqlite:///FILE (four slashes before an absolute path) or"
        " postgresql://USER:PASSWORD@HOST/NAME"
    )


def create_engine(url: URL, **settings: Any) -> AsyncEngine:
    """Make the engine for what `parse_url` returned. Raises StoreUrlError where its driver is not installed."""
    try:
        # The errors' texts would hold names.
        return create_async_engine(url, hide_parameters=True, **settings)
    except ImportError:
        raise StoreUrlError("a PostgreSQL store needs the extra: pip install 'facebridge[postgres]'") from None


def _engine(url: URL, busy_timeout: float) -> AsyncEngine:
    settings: dict[str, Any] = {
        "pool_size": _READERS + 1,
        "max_overflow": 0,
    }
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, **settings)
    engine = create_engine(url, connect_args={"timeout": busy_timeout}, **settings)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # Transactions begin where `_begin_sqlite` says, not where the driver guesses.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        # In WAL mode the default may lose the last commits with the power; they were acknowledged to the broker.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # A photo that was deleted is overwritten, not only forgotten about.
        cursor.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error:
        cursor.close()
        # SQLAlchemy would drop the connection and leave its thread running.
        connection.close()
        raise
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at once where another program wrote in between.
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@asynccontextmanager
async def _writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with engine.connect() as connection:
        await connection.execution_options(**{_WRITING: True})
        async with connection.begin():
            if engine.dialect.name != "sqlite":
                # What SQLite's BEGIN IMMEDIATE does: whoever writes sees what everybody wrote before, and nobody else
                # writes until it has committed.
                await connection.execute(select(func.pg_advisory_xact_lock(*_POSTGRESQL_WRITER)))
            yield connection


def _prepare_file(file: Path, *, must_exist: bool) -> None:
    """Make the file readable by nobody else before SQLite does; its WAL gets the same mode."""
    if must_exist and not file.exists():
        raise StoreMissingError(f"there is no store at {file}")
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


async def _check(connection: AsyncConnection, file: str) -> None:
    found = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one()
    if found != "ok":
        _LOGGER.error("the store's check found: %s", found)
        raise StoreDamagedError(_damaged(file, "its integrity check failed"))


def _damaged(file: str | None, how: str) -> str:
    return f"the store {file or ''} cannot be used: {how}; restore a backup, or move the file away to start empty"
