"""Backups: the whole store in one SQLite file, from either database and into either database."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, delete, func, insert, inspect, make_url, select, text, tuple_, update

from bridge.model.faults import UnavailableError
from bridge.model.person_entry import DeliveryState
from bridge.store.engine import create_engine, open_engine, parse_url, reading, store_file, writing
from bridge.store.errors import StoreDamagedError, StoreError, StoreTooNewError, mapped_errors
from bridge.store.group_queries import group_sizes, kept_page, kept_persons
from bridge.store.instance_lock import instance_lock, is_bridge_running
from bridge.store.integrity import DAMAGED, UNCLEAN
from bridge.store.tables import (
    COUNTER,
    ENDED_WEB_SESSION,
    GROUP_PERSON,
    METADATA,
    OUTSIDE_CHANGE,
    PERSON_ENTRY,
    PHOTO,
    WEB_SESSION_KEY,
)
from bridge.store.threads import run_in_thread

_T = TypeVar("_T")

_PHOTOS = 50
"""Photos that are read and written together: some five megabytes of memory."""

_ROWS = 1000
"""Rows without a photo that are read and written together."""

_KEYS = 400
"""Persons that are compared together: two parameters each, far below the limit of any database."""

_NAMED = 20
"""Persons that a question names."""

_NOT_COPIED = (OUTSIDE_CHANGE, WEB_SESSION_KEY, ENDED_WEB_SESSION)
"""Tables that no backup contains. The key of a stolen backup could sign sessions; a restored store has a new one."""

_TABLES = [table for table in METADATA.sorted_tables if table not in _NOT_COPIED]

Progress = Callable[[int, int], None]
"""Called on another thread with the number of rows that are done and their total."""


async def back_up(url: str, file: Path, progress: Progress) -> int:
    """Write the state of the store at this moment into a file, also beside a running bridge.

    Encrypted photos stay encrypted. The file replaces an older one at the end and is readable by its owner only; if the
    backup fails, the older file stays.

    Returns:
        The number of rows.

    Raises:
        StoreError: the store cannot be opened.
        UnavailableError: the store or the file cannot be read or written.
    """
    may_upgrade = not await is_bridge_running(url)
    return await _run_cancellable(partial(_back_up, url, file, may_upgrade), progress)


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """Persons that a restore would bring back onto terminals and into groups.

    Attributes:
        number: how many, counted for each terminal and each group.
        first: SN or `group NAME`, and id, of the first few.
    """

    number: int
    first: Sequence[tuple[str, str]]


async def persons_brought_back(file: Path, url: str) -> BroughtBack:
    """Return the persons that the backup has and that were removed or disabled since, without changing anything.

    A store or a backup that cannot be read gives none: `restore` reports the one, and the other has nothing to lose.

    Raises:
        StoreUrlError: the URL cannot be used.
    """
    return await run_in_thread(_persons_brought_back, file, url)


async def restore(file: Path, url: str, progress: Progress) -> Path | None:
    """Replace the store by a backup; no bridge may run on it.

    Terminals may have been given other persons since the backup was made, so the bridge sends everything again.

    Returns:
        The file with the store as it was before; None if there was no store, or for PostgreSQL.

    Raises:
        StoreInUseError: a bridge runs on the store.
        StoreError: the backup is damaged, of a newer version, or no backup.
        UnavailableError: the store or the backup cannot be read or written.
    """
    async with instance_lock(url, wait_seconds=0.5):
        return await _run_cancellable(partial(_restore, file, url), progress)


async def _run_cancellable(function: Callable[[Progress], _T], progress: Progress) -> _T:
    """Run a function in a thread; on cancellation stop it at its next call of `progress`, and wait for its end.

    It removes its temporary files, which contain names and photos, before the process ends.
    """
    cancelled = Event()

    def report(done: int, total: int) -> None:
        if cancelled.is_set():
            raise _CancelledError
        progress(done, total)

    work = asyncio.get_running_loop().create_task(run_in_thread(function, report), name="backup")
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait((work,))
        with suppress(Exception):
            work.result()
        raise


class _CancelledError(Exception):
    """The caller was cancelled."""


def _back_up(url: str, file: Path, may_upgrade: bool, progress: Progress) -> int:
    with mapped_errors(), _opened(url, may_upgrade=may_upgrade, must_exist=True) as source:
        try:
            with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=_folder(file)) as folder:
                written = Path(folder) / "backup.db"
                with (
                    _opened(f"sqlite:///{written}") as target,
                    reading(source) as reading_connection,
                    writing(target) as writing_connection,
                ):
                    rows = _copy(reading_connection, writing_connection, progress)
                _put_in_place(written, file)
        except OSError as error:
            raise UnavailableError(f"{file} cannot be written: {error.strerror}") from error
    return rows


def _persons_brought_back(file: Path, url: str) -> BroughtBack:
    store, parsed = store_file(url), parse_url(url)
    if store is not None and not store.exists():
        return BroughtBack(0, ())
    backup = create_engine(
        make_url(f"sqlite:///file:{quote(quote(str(file.absolute())))}?mode=ro&immutable=1&uri=true")
    )
    present = create_engine(parsed)
    number, first = 0, list[tuple[str, str]]()
    try:
        with mapped_errors(), backup.connect() as backup_connection, present.connect() as connection:
            for keys in _held(backup_connection):
                entry = PERSON_ENTRY.c
                still = select(entry.sn, entry.person_id).where(tuple_(entry.sn, entry.person_id).in_(keys), entry.held)
                removed = set(keys).difference((row.sn, row.person_id) for row in connection.execute(still))
                number += len(removed)
                first += sorted(removed)[: _NAMED - len(first)]
            for group, person_ids in _kept(backup_connection):
                still_kept = _enabled(connection, group, person_ids)
                brought_back = [person_id for person_id in person_ids if person_id not in still_kept]
                number += len(brought_back)
                first += [(f"group {group}", person_id) for person_id in brought_back[: _NAMED - len(first)]]
    except UnavailableError:
        return BroughtBack(0, ())
    finally:
        backup.dispose()
        present.dispose()
    return BroughtBack(number, first)


def _held(connection: Connection) -> Iterator[list[tuple[str, str]]]:
    """Yield SN and id of the persons that terminals should hold, some at a time; every schema has these columns."""
    key = tuple_(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id)
    query = select(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id).where(PERSON_ENTRY.c.held)
    query = query.order_by(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id).limit(_KEYS)
    rows = connection.execute(query).all()
    while rows:
        yield [(row.sn, row.person_id) for row in rows]
        rows = connection.execute(query.where(key > tuple(rows[-1]))).all()


def _kept(connection: Connection) -> Iterator[tuple[str, list[str]]]:
    """Yield the groups with ids of the enabled persons that they keep, some at a time; none for an older schema."""
    if not inspect(connection).has_table(GROUP_PERSON.name):
        return
    for group in sorted(group_sizes(connection)):
        after = ""
        while page := kept_page(connection, group, after, _KEYS):
            yield group, [one.person.id for one in page if one.person.enabled]
            after = page[-1].person.id


def _enabled(connection: Connection, group: str, person_ids: Sequence[str]) -> set[str]:
    """Return those of the persons that a group keeps and that are enabled; none for an older schema."""
    if not inspect(connection).has_table(GROUP_PERSON.name):
        return set()
    return {one.person.id for one in kept_persons(connection, group, person_ids).values() if one.person.enabled}


def _restore(file: Path, url: str, progress: Progress) -> Path | None:
    store = store_file(url)
    with mapped_errors():
        try:
            where = None if store is None else _folder(store)
            with tempfile.TemporaryDirectory(prefix=".facebridge-restore-", dir=where) as folder:
                copied = Path(folder) / "restored.db"
                # Opening the copy upgrades it; the backup itself must not change.
                shutil.copyfile(file, copied)
                _prepare(file, copied)
                if store is None:
                    _restore_rows(copied, url, progress)
                    return None
                before = _move_away(store)
                _put_in_place(copied, store)
                return before
        except OSError as error:
            raise UnavailableError(f"{file} cannot be restored: {error.strerror}") from error


@contextmanager
def _opened(url: str, **settings: Any) -> Iterator[Engine]:
    engine = open_engine(url, **settings)
    try:
        yield engine
    finally:
        engine.dispose()


def _prepare(file: Path, copied: Path) -> None:
    """Check the copy of a backup, upgrade it, and mark all its persons as not delivered."""
    try:
        engine = open_engine(f"sqlite:///{copied}", must_exist=True)
    except StoreTooNewError:
        raise
    except StoreError:
        raise StoreDamagedError(f"{file} is no backup of a store, or a damaged one; nothing was changed") from None
    try:
        with writing(engine) as connection:
            result = connection.execute(text("PRAGMA integrity_check(1)")).scalar_one()
            if result != "ok":
                raise StoreDamagedError(f"{file} is damaged; nothing was changed")
            again = {"delivery": DeliveryState.PENDING.value, "status": None, "message": None}
            connection.execute(update(PERSON_ENTRY).values(again))
            # They are those of the store that was backed up.
            connection.execute(delete(COUNTER).where(COUNTER.c.name.in_([UNCLEAN, DAMAGED])))
    finally:
        # The last connection that closes moves the log into the file.
        engine.dispose()


def _move_away(store: Path) -> Path | None:
    """Keep the store under another name, its log included; there is no moment without a store."""
    if not store.exists():
        return None
    with suppress(StoreError, UnavailableError):
        # The last connection that closes moves the log into the file. A store that cannot be opened is kept as it is.
        open_engine(f"sqlite:///{store}", may_upgrade=False).dispose()
    before = store.with_name(f"{store.name}.before-restore")
    for suffix in ("-wal", "-shm", ""):
        before.with_name(before.name + suffix).unlink(missing_ok=True)
    try:
        before.hardlink_to(store)
    except OSError:
        # Some file systems have no links.
        shutil.copy2(store, before)
    for suffix in ("-wal", "-shm"):
        log = store.with_name(store.name + suffix)
        if log.exists():
            # SQLite would read it as the log of the new store.
            log.rename(before.with_name(before.name + suffix))
    return before


def _restore_rows(copied: Path, url: str, progress: Progress) -> None:
    with (
        _opened(f"sqlite:///{copied}") as source,
        _opened(url) as target,
        reading(source) as reading_connection,
        writing(target) as writing_connection,
    ):
        for table in reversed(METADATA.sorted_tables):
            writing_connection.execute(delete(table))
        _copy(reading_connection, writing_connection, progress)
        _continue_ids(writing_connection)


def _copy(source: Connection, target: Connection, progress: Progress) -> int:
    total = sum(source.execute(select(func.count()).select_from(table)).scalar_one() for table in _TABLES)
    done = 0
    for table in _TABLES:
        # The rows that the migrations created are among those of the source, too.
        target.execute(delete(table))
        with source.execute(select(table).execution_options(yield_per=_batch_size(table))) as rows:
            for batch in rows.mappings().partitions():
                # Not `dict(row)`, whose keys are the columns' names: a column may have another key in the code.
                target.execute(insert(table), [{one.key: row[one] for one in table.c} for row in batch])
                done += len(batch)
                progress(done, total)
    return done


def _batch_size(table: Table) -> int:
    return _PHOTOS if table is PHOTO else _ROWS


def _continue_ids(connection: Connection) -> None:
    """Let PostgreSQL continue its ids after those of the inserted rows; SQLite does so by itself."""
    for table in _TABLES:
        if "id" in table.c:
            last = connection.execute(select(func.max(table.c.id))).scalar() or 0
            sequence = func.pg_get_serial_sequence(table.name, "id")
            connection.execute(select(func.setval(sequence, max(last, 1), last > 0)))


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
