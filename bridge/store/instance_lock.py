"""Shows that a bridge runs on a store, and lets there be only one: two would send everything twice and miscount."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from bridge.store.database import create_engine, parse_url
from bridge.store.errors import StoreInUseError, mapped_errors

_LOGGER = logging.getLogger(__name__)

_POSTGRESQL_PRESENCE = (0x46616365, 2)
"""The advisory lock of a bridge that runs; 1 is that of whoever writes (`database`)."""

_PATIENCE = 6.0
"""Seconds to wait for a bridge that is ending; it takes five at most (CONTRACT, section 2)."""

_PAUSE = 0.1
"""Seconds between two tries to take the lock."""

_LOOK_AFTER_IT = 5.0
"""Seconds between two looks at whether the connection that holds the lock is still there."""

_IN_USE = (
    "a bridge runs on this store already; there may be one, so stop it first (or give this one a store of its own)"
)


@asynccontextmanager
async def instance_lock(url: str, patience: float = _PATIENCE) -> AsyncIterator[None]:
    """Claim a store for as long as the block lasts; a process that dies lets go of it.

    Args:
        url: `store.url`.
        patience: seconds to wait for whoever has it.

    Raises:
        StoreInUseError: somebody has it.
        StoreUrlError: the URL cannot be used.
        UnavailableError: that cannot be told now.
    """
    lock = _lock(url)
    keeping: asyncio.Task[None] | None = None
    try:
        with mapped_errors():
            await _take(lock, patience)
        keeping = asyncio.get_running_loop().create_task(lock.keep(), name="store presence")
        yield
    finally:
        if keeping is not None:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
        await lock.close()


async def is_bridge_running(url: str) -> bool:
    """Tell whether a bridge runs on a store. Raises StoreUrlError and UnavailableError."""
    lock = _lock(url)
    try:
        with mapped_errors():
            return not await lock.take()
    finally:
        await lock.close()


async def _take(lock: "_Lock", patience: float) -> None:
    time = asyncio.get_running_loop().time
    end = time() + patience
    # Neither kind of lock tells when it is let go.
    while not await lock.take():
        if time() >= end:
            raise StoreInUseError(_IN_USE)
        await asyncio.sleep(_PAUSE)


class _Lock(Protocol):
    async def take(self) -> bool:
        """Take it unless somebody has it."""

    async def keep(self) -> None:
        """See to it, until cancelled, that it stays taken."""

    async def close(self) -> None:
        """Let go of it."""


class _FileLock:
    """A lock on a file beside the store; one on the store itself would get in the way of SQLite's own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    async def take(self) -> bool:
        if self._descriptor is None:
            self._descriptor = os.open(self._file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def keep(self) -> None:
        """Do nothing: only the end of the process takes it away."""

    async def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class _AdvisoryLock:
    """A lock that the server holds for as long as a connection lasts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None

    async def take(self) -> bool:
        if self._connection is None:
            self._connection = await self._engine.connect()
        query = select(func.pg_try_advisory_lock(*_POSTGRESQL_PRESENCE))
        taken: bool = (await self._connection.execute(query)).scalar_one()
        return taken

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AFTER_IT)
            try:
                if self._connection is not None:
                    await self._connection.execute(select(1))
                elif not await self.take():
                    _LOGGER.error("the store was out of reach, and meanwhile another bridge has begun to run on it")
            except (SQLAlchemyError, OSError):
                # The roster says that the store is away. The lock ended with the connection.
                await self._drop()

    async def close(self) -> None:
        await self._drop()
        await self._engine.dispose()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):
                await connection.close()


def _lock(url: str) -> _Lock:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _FileLock(Path(f"{parsed.database}.lock"))
    return _AdvisoryLock(create_engine(parsed, poolclass=NullPool, isolation_level="AUTOCOMMIT"))
