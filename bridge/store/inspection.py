"""Looks into a store without making or changing anything, also beside a bridge that runs on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, func, inspect, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bridge.model.faults import UnavailableError
from bridge.model.outcome import Outcome
from bridge.model.person_entry import DeliveryState
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal
from bridge.store.database import Database, create_engine, parse_url
from bridge.store.errors import PhotoKeyError, is_damage, mapped_errors
from bridge.store.photo_cipher import PhotoCipher
from bridge.store.schema import SchemaState, schema_state
from bridge.store.tables import AUDIT, PERSON_ENTRY, PHOTO
from bridge.store.terminals import StoredTerminals


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInspection:
    """What was seen in a store.

    Attributes:
        file: it is in; None for a database server.
        exists: whether there is a store.
        is_foreign: whether there is something else in its place, a database of another program.
        is_old: whether an older version has written it; then nothing further was looked at.
        damage: what the integrity check says; None for nothing.
        photo_key_problem: why photos cannot be decrypted; None where they can.
        wal_bytes: of SQLite's log that is not yet in the file.
        pending: changes that terminals have yet to answer, by SN.
        oldest_pending: when the oldest of them was asked for.
        refused: changes that terminals refused, by SN.
        photos: how many there are.
        answered: the terminals that have ever answered something, as far as the audit and the persons tell.
        terminals: those that are known though not listed in the configuration.
        newest_record: the time of the audit's youngest record.
        server_time: of a database server.
    """

    file: Path | None
    exists: bool = True
    is_foreign: bool = False
    is_old: bool = False
    damage: str | None = None
    photo_key_problem: str | None = None
    wal_bytes: int = 0
    pending: dict[str, int] = field(default_factory=dict)
    oldest_pending: datetime | None = None
    refused: dict[str, int] = field(default_factory=dict)
    photos: int = 0
    answered: frozenset[str] = frozenset()
    terminals: Sequence[Terminal] = ()
    newest_record: datetime | None = None
    server_time: datetime | None = None


def store_file(url: str) -> Path | None:
    """Return the file that a store is in; None for a database server. Raises StoreUrlError."""
    parsed = parse_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


async def inspect_store(url: str, photo_key: Sequence[Secret]) -> StoreInspection:
    """Look.

    Args:
        url: `store.url`.
        photo_key: `store.photo_key`.

    Raises:
        StoreError: it cannot be opened as it is.
        UnavailableError: it cannot be read now.
    """
    parsed, file = parse_url(url), store_file(url)
    if file is not None and not file.exists():
        return StoreInspection(file=file, exists=False)
    if file is not None:
        # Opened as the bridge opens it, SQLite would make another program's file its own (journal_mode).
        parsed = make_url(f"sqlite+aiosqlite:///file:{_escaped(file)}?mode=ro&uri=true")
    engine = create_engine(parsed)
    try:
        with mapped_errors():
            return await _inspect(engine, file, PhotoCipher(photo_key))
    except UnavailableError as error:
        if is_damage(error.__cause__):
            return StoreInspection(file=file, damage="it is no database, or a damaged one")
        raise
    finally:
        await engine.dispose()


async def _inspect(engine: AsyncEngine, file: Path | None, cipher: PhotoCipher) -> StoreInspection:
    async with engine.connect() as connection:
        if file is not None:
            checked = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one()
            if checked != "ok":
                return StoreInspection(file=file, damage="its integrity check failed")
        state = await connection.run_sync(schema_state)
        if state is SchemaState.MISSING:
            is_foreign = bool(await connection.run_sync(_table_names))
            return StoreInspection(file=file, exists=is_foreign, is_foreign=is_foreign)
        if state is SchemaState.OLD:
            return StoreInspection(file=file, is_old=True)
        return await _look_inside(connection, engine, file, cipher)


async def _look_inside(
    connection: AsyncConnection, engine: AsyncEngine, file: Path | None, cipher: PhotoCipher
) -> StoreInspection:
    entry = PERSON_ENTRY.c
    pending = await _counts(connection, DeliveryState.PENDING)
    is_pending = entry.delivery == DeliveryState.PENDING.value
    oldest = (await connection.execute(select(func.min(entry.changed_at)).where(is_pending))).scalar()
    confirmed = select(entry.sn).where(entry.confirmed_revision.is_not(None)).distinct()
    replied = select(AUDIT.c.sn).where(AUDIT.c.outcome.in_([Outcome.OK.value, Outcome.REFUSED.value])).distinct()
    answered = {
        *(await connection.execute(confirmed)).scalars(),
        # Of commands the bridge answers itself, only those that the terminal did.
        *(await connection.execute(replied.where(AUDIT.c.status.is_not(None)))).scalars(),
    }
    key_ids = (await connection.execute(select(PHOTO.c.key_id).distinct())).scalars().all()
    return StoreInspection(
        file=file,
        photo_key_problem=_photo_key_problem(cipher, key_ids),
        wal_bytes=_size(Path(f"{file}-wal")) if file is not None else 0,
        pending=pending,
        oldest_pending=_aware(oldest),
        refused=await _counts(connection, DeliveryState.REFUSED),
        photos=(await connection.execute(select(func.count()).select_from(PHOTO))).scalar_one(),
        answered=frozenset(sn for sn in answered if sn is not None),
        terminals=await StoredTerminals(Database(engine), lambda: datetime.now(UTC)).load(),
        newest_record=_aware((await connection.execute(select(func.max(AUDIT.c.at)))).scalar()),
        server_time=None if file is not None else (await connection.execute(select(func.clock_timestamp()))).scalar(),
    )


async def _counts(connection: AsyncConnection, delivery: DeliveryState) -> dict[str, int]:
    entry = PERSON_ENTRY.c
    query = select(entry.sn, func.count().label("number")).where(entry.delivery == delivery.value).group_by(entry.sn)
    return {row.sn: row.number for row in await connection.execute(query)}


def _photo_key_problem(cipher: PhotoCipher, key_ids: Sequence[str | None]) -> str | None:
    try:
        cipher.require(key_ids)
    except PhotoKeyError as error:
        return str(error)
    return None


def _table_names(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _escaped(file: Path) -> str:
    """Write a path as SQLite's URIs want it, and then as SQLAlchemy's URLs do."""
    return quote(quote(str(file.absolute())))
