"""Backups: the whole store in one SQLite file, whichever database it came from and goes back into."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Table, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.faults import UnavailableError
from bridge.model.person_entry import DeliveryState
from bridge.store.database import Database, parse_url
from bridge.store.errors import StoreDamagedError, StoreError, StoreTooNewError
from bridge.store.instance_lock import instance_lock, is_bridge_running
from bridge.store.tables import METADATA, OUTSIDE_CHANGE, PERSON_ENTRY, PHOTO

_BATCH = 50
"""Rows that are read and written together: with a photo in each, some five megabytes of memory."""

_TABLES = [table for table in METADATA.sorted_tables if table is not OUTSIDE_CHANGE]

Progress = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


async def back_up(url: str, file: Path, progress: Progress) -> int:
    """Write all that the store holds at this moment into a file, also beside a running bridge.

    Photos stay encrypted as they are. The file takes the place of an older one at the end, readable by its owner only;
    on any failure the older one stays.

    Returns:
        The number of rows.

    Raises:
        StoreError: the store cannot be opened.
        UnavailableError: store or file cannot be read or written.
    """
    source = await Database.open(url, may_upgrade=not await is_bridge_running(url), must_exist=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=_folder(file)) as folder:
            written = Path(folder) / "backup.db"
            target = await Database.open(f"sqlite:///{written}")
            try:
                async with source.reading() as reading, target.writing() as writing:
                    rows = await _copy(reading, writing, progress)
            finally:
                await target.close()
            await asyncio.to_thread(_put_in_place, written, file)
    except OSError as error:
        raise UnavailableError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        await source.close()
    return rows


async def restore(file: Path, url: str, progress: Progress) -> Path | None:
    """Put a backup in the place of what the store holds; no bridge may run on it.

    Terminals may have been given other persons since the backup was made, so everything is sent to them again.

    Returns:
        Where the store is kept as it was before; None where there was none, or for PostgreSQL.

    Raises:
        StoreInUseError: a bridge runs on the store.
        StoreError: the backup is damaged, of a newer version, or no backup.
        UnavailableError: store or backup cannot be read or written.
    """
    async with instance_lock(url, patience=0.5):
        parsed = parse_url(url)
        store = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        try:
            where = None if store is None else _folder(store)
            with tempfile.TemporaryDirectory(prefix=".facebridge-restore-", dir=where) as folder:
                copied = Path(folder) / "restored.db"
                # Opening brings it up to date, which the backup itself must not be.
                await asyncio.to_thread(shutil.copyfile, file, copied)
                await _prepare(file, copied)
                if store is None:
                    await _restore_rows(copied, url, progress)
                    return None
                before = await _let_go(store)
                await asyncio.to_thread(_put_in_place, copied, store)
                return before
        except OSError as error:
            raise UnavailableError(f"{file} cannot be restored: {error.strerror}") from error


async def _prepare(file: Path, copied: Path) -> None:
    try:
        database = await Database.open(f"sqlite:///{copied}", must_exist=True)
    except StoreTooNewError:
        raise
    except StoreError:
        raise StoreDamagedError(f"{file} is no backup of a store, or a damaged one; nothing was changed") from None
    try:
        async with database.writing() as connection:
            found = (await connection.execute(text("PRAGMA integrity_check(1)"))).scalar_one()
            if found != "ok":
                raise StoreDamagedError(f"{file} is damaged; nothing was changed")
            again = {"delivery": DeliveryState.PENDING.value, "status": None, "message": None}
            await connection.execute(update(PERSON_ENTRY).values(again))
        await database.shed()
    finally:
        await database.close()


async def _let_go(store: Path) -> Path | None:
    """Keep the store as it is under another name, its log included; there is no moment without a store."""
    if not await asyncio.to_thread(store.exists):
        return None
    with suppress(StoreError, UnavailableError):
        # The last one to close it writes the log into the file. A store that cannot be opened is kept as it is.
        await (await Database.open(f"sqlite:///{store}", may_upgrade=False)).close()
    before = store.with_name(f"{store.name}.before-restore")
    await asyncio.to_thread(_keep, store, before)
    return before


def _keep(store: Path, before: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        before.with_name(before.name + suffix).unlink(missing_ok=True)
    try:
        before.hardlink_to(store)
    except OSError:
        # Not every file system has links.
        shutil.copy2(store, before)
    for suffix in ("-wal", "-shm"):
        log = store.with_name(store.name + suffix)
        if log.exists():
            # SQLite would read it as the new store's.
            log.rename(before.with_name(before.name + suffix))


async def _restore_rows(copied: Path, url: str, progress: Progress) -> None:
    source = await Database.open(f"sqlite:///{copied}")
    try:
        target = await Database.open(url)
        try:
            async with source.reading() as reading, target.writing() as writing:
                for table in reversed(METADATA.sorted_tables):
                    await writing.execute(delete(table))
                await _copy(reading, writing, progress)
                await _continue_ids(writing)
        finally:
            await target.close()
    finally:
        await source.close()


async def _copy(reading: AsyncConnection, writing: AsyncConnection, progress: Progress) -> int:
    total = 0
    for table in _TABLES:
        total += (await reading.execute(select(func.count()).select_from(table))).scalar_one()
    done = 0
    for table in _TABLES:
        # What its migration put there is in the rows, too.
        await writing.execute(delete(table))
        async with reading.stream(select(table).execution_options(yield_per=_batch(table))) as rows:
            async for part in rows.mappings().partitions():
                await writing.execute(insert(table), [dict(row) for row in part])
                done += len(part)
                progress(done, total)
    return done


def _batch(table: Table) -> int:
    return _BATCH if table is PHOTO else _BATCH * 20


async def _continue_ids(connection: AsyncConnection) -> None:
    """Let PostgreSQL give out ids after those that were put in; SQLite does so by itself."""
    for table in _TABLES:
        if "id" in table.c:
            last = (await connection.execute(select(func.max(table.c.id)))).scalar() or 0
            sequence = func.pg_get_serial_sequence(table.name, "id")
            await connection.execute(select(func.setval(sequence, max(last, 1), last > 0)))


def _folder(file: Path) -> Path:
    return file.absolute().parent


def _put_in_place(written: Path, file: Path) -> None:
    with written.open("rb") as content:
        os.fsync(content.fileno())
    written.replace(file)
    folder = os.open(_folder(file), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
