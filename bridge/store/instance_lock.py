"""The lock that a bridge holds on its store, so that there is only one: two would deliver everything twice."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from bridge.store.engine import create_engine, parse_url, store_file
from bridge.store.errors import StoreInUseError, mapped_errors
from bridge.store.threads import run_in_thread

_LOGGER = logging.getLogger(__name__)

_POSTGRESQL_INSTANCE_LOCK = (0x46616365, 2)
"""The advisory lock of a running bridge; number 1 is that of a writer (`bridge.store.engine`)."""

_WAIT_SECONDS = 6.0
"""How long to wait for a bridge that is ending; it takes five seconds at most (docs/operation.md)."""

_ATTEMPT_SECONDS = 0.1
"""Pause between two attempts to take the lock."""

_CHECK_SECONDS = 5.0
"""Interval at which the connection that holds the lock is checked."""

_CLOSE_SECONDS = 2.0
"""Time after which a server that does not answer is left to notice the end of the connection by itself."""

_IN_USE = (
    "a bridge runs on this store already; there may be one, so stop it first (or give this one a store of its own)"
)


@asynccontextmanager
async def instance_lock(url: str, wait_seconds: float = _WAIT_SECONDS) -> AsyncIterator[None]:
    """Hold the lock of a store during the block; if the process dies, the lock is released.

    Args:
        url: `store.url`.
        wait_seconds: how long to wait for another holder.

    Raises:
        StoreInUseError: another process holds the lock.
        StoreUrlError: the URL cannot be used.
        UnavailableError: this cannot be decided now.
    """
    lock = _lock(url)
    holding: asyncio.Task[None] | None = None
    try:
        with mapped_errors():
            await _take(lock, wait_seconds)
        holding = asyncio.get_running_loop().create_task(lock.hold(), name="store instance lock")
        yield
    finally:
        if holding is not None:
            holding.cancel()
            with suppress(asyncio.CancelledError):
                await holding
        await lock.close()


async def is_bridge_running(url: str) -> bool:
    """Return whether a bridge runs on a store. Raises StoreUrlError and UnavailableError."""
    lock = _lock(url)
    try:
        with mapped_errors():
            return not await lock.take()
    finally:
        await lock.close()


async def _take(lock: "_Lock", wait_seconds: float) -> None:
    time = asyncio.get_running_loop().time
    end = time() + wait_seconds
    # Neither kind of lock reports its release.
    while not await lock.take():
        if time() >= end:
            raise StoreInUseError(_IN_USE)
        await asyncio.sleep(_ATTEMPT_SECONDS)


class _Lock(Protocol):
    async def take(self) -> bool:
        """Take it; return False if another process holds it."""

    async def hold(self) -> None:
        """Take it again whenever it gets lost, until cancelled."""

    async def close(self) -> None:
        """Release it."""


class _FileLock:
    """A lock on a file beside the store; a lock on the store itself would interfere with SQLite's own locks."""

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

    async def hold(self) -> None:
        """Do nothing: only the end of the process releases it."""

    async def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class _AdvisoryLock:
    """A lock that the server holds as long as a connection lasts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    async def take(self) -> bool:
        return await run_in_thread(self._take)

    async def hold(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                if self._connection is not None:
                    await run_in_thread(self._check, self._connection)
                elif not await self.take():
                    _LOGGER.error("the store was unreachable, and meanwhile another bridge has started on it")
            except (SQLAlchemyError, OSError):
                # The parts that use the store report that it is unreachable. The lock ended with the connection.
                await run_in_thread(self._disconnect)

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await run_in_thread(self._disconnect)
                await run_in_thread(self._engine.dispose)

    def _take(self) -> bool:
        if self._connection is None:
            self._connection = self._engine.connect()
        query = select(func.pg_try_advisory_lock(*_POSTGRESQL_INSTANCE_LOCK))
        is_taken: bool = self._connection.execute(query).scalar_one()
        return is_taken

    def _check(self, connection: Connection) -> None:
        connection.execute(select(1)).all()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):
                connection.close()


def _lock(url: str) -> _Lock:
    file = store_file(url)
    if file is not None:
        return _FileLock(Path(f"{file}.lock"))
    return _AdvisoryLock(create_engine(parse_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT"))
