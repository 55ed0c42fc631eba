"""Examines a store without creating or changing anything, also beside a bridge that runs on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, func, inspect, make_url, select

from bridge.model.asked_at import CLOCKS_DIFFER
from bridge.model.faults import UnavailableError
from bridge.model.person_entry import DeliveryState
from bridge.model.reply import Outcome
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal
from bridge.store.counters import read_counter
from bridge.store.engine import create_engine, parse_url, small_tables_damage, store_file
from bridge.store.errors import PhotoKeyError, is_damage, mapped_errors
from bridge.store.group_queries import group_sizes
from bridge.store.integrity import DAMAGED, DAMAGED_PHOTOS
from bridge.store.person_names import NAMES_DAMAGED
from bridge.store.photos import PhotoCipher, key_ids
from bridge.store.schema import SchemaState, schema_state
from bridge.store.tables import AUDIT, PERSON_ENTRY, PHOTO
from bridge.store.terminals import load_terminals
from bridge.store.threads import run_in_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInspection:
    """What a store contains.

    Attributes:
        file: its file; None for a database server.
        exists: whether there is a store.
        is_foreign: whether there is something else in its place, a database of another program.
        is_old: whether an older version has written it; then nothing further was examined.
        damage: what the small tables or the last background check show; None for no damage.
        photo_key_problem: why photos cannot be decrypted; None if they can.
        wal_bytes: size of SQLite's write-ahead log that is not yet in the file.
        pending: number of changes that terminals have not answered yet, by SN.
        oldest_pending: when the oldest of them was requested.
        refused: number of changes that terminals refused, by SN.
        photos: number of photos.
        damaged_photos: those that are known to be damaged.
        names_damaged: whether lists and searches miss persons, until a bridge has built the names for searches again.
        answered: the terminals that have ever answered, according to the audit and the persons.
        kept: the number of persons that each group keeps.
        terminals: the known terminals that the configuration does not list.
        newest_record: the time of the audit's youngest record.
        differing_clocks: the number of presses in the last day that were `expired` and whose reply names two clocks.
        server_time: the time of a database server.
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
    damaged_photos: int = 0
    names_damaged: bool = False
    answered: frozenset[str] = frozenset()
    kept: dict[str, int] = field(default_factory=dict)
    terminals: Sequence[Terminal] = ()
    newest_record: datetime | None = None
    differing_clocks: int = 0
    server_time: datetime | None = None


async def inspect_store(url: str, photo_key: Sequence[Secret]) -> StoreInspection:
    """Examine a store.

    Args:
        url: `store.url`.
        photo_key: `store.photo_key`.

    Raises:
        StoreError: it cannot be opened as it is.
        UnavailableError: it cannot be read now.
    """
    return await run_in_thread(_inspect, url, photo_key)


def _inspect(url: str, photo_key: Sequence[Secret]) -> StoreInspection:
    parsed, file = parse_url(url), store_file(url)
    if file is not None and not file.exists():
        return StoreInspection(file=file, exists=False)
    if file is not None:
        # Opened as the bridge opens it, SQLite would change the journal mode of another program's database.
        parsed = make_url(f"sqlite:///file:{_escaped(file)}?mode=ro&uri=true")
    engine = create_engine(parsed)
    try:
        with mapped_errors(), engine.connect() as connection:
            return _inspect_database(connection, file, PhotoCipher(photo_key))
    except UnavailableError as error:
        if is_damage(error.__cause__):
            return StoreInspection(file=file, damage="it is no database, or a damaged one")
        raise
    finally:
        engine.dispose()


def _inspect_database(connection: Connection, file: Path | None, cipher: PhotoCipher) -> StoreInspection:
    if file is not None:
        damage = small_tables_damage(connection)
        if damage is not None:
            return StoreInspection(file=file, damage=damage)
    state = schema_state(connection)
    if state is SchemaState.MISSING:
        is_foreign = bool(inspect(connection).get_table_names())
        return StoreInspection(file=file, exists=is_foreign, is_foreign=is_foreign)
    if state is SchemaState.OLD:
        return StoreInspection(file=file, is_old=True)
    if read_counter(connection, DAMAGED) is not None:
        return StoreInspection(file=file, damage="its last integrity check failed, the log says where")
    return _inspect_content(connection, file, cipher)


def _inspect_content(connection: Connection, file: Path | None, cipher: PhotoCipher) -> StoreInspection:
    entry = PERSON_ENTRY.c
    is_pending = entry.delivery == DeliveryState.PENDING.value
    confirmed = select(entry.sn).where(entry.confirmed_revision.is_not(None)).distinct()
    replied = select(AUDIT.c.sn).where(AUDIT.c.outcome.in_([Outcome.OK.value, Outcome.REFUSED.value])).distinct()
    answered = {
        *connection.execute(confirmed).scalars(),
        # The bridge itself answers some commands: only those count that have the status of a terminal.
        *connection.execute(replied.where(AUDIT.c.status.is_not(None))).scalars(),
    }
    return StoreInspection(
        file=file,
        photo_key_problem=_photo_key_problem(cipher, key_ids(connection)),
        wal_bytes=_size(Path(f"{file}-wal")) if file is not None else 0,
        pending=_counts(connection, DeliveryState.PENDING),
        oldest_pending=_aware(connection.execute(select(func.min(entry.changed_at)).where(is_pending)).scalar()),
        refused=_counts(connection, DeliveryState.REFUSED),
        photos=connection.execute(select(func.count()).select_from(PHOTO)).scalar_one(),
        damaged_photos=read_counter(connection, DAMAGED_PHOTOS) or 0,
        names_damaged=read_counter(connection, NAMES_DAMAGED) is not None,
        answered=frozenset(sn for sn in answered if sn is not None),
        kept=group_sizes(connection),
        terminals=load_terminals(connection),
        newest_record=_aware(connection.execute(select(func.max(AUDIT.c.at))).scalar()),
        differing_clocks=_differing_clocks(connection),
        server_time=None if file is not None else connection.execute(select(func.clock_timestamp())).scalar(),
    )


def _differing_clocks(connection: Connection) -> int:
    audit = AUDIT.c
    query = select(func.count()).where(audit.at > datetime.now(UTC) - timedelta(days=1))
    query = query.where(audit.outcome == Outcome.EXPIRED.value, audit.message.contains(CLOCKS_DIFFER))
    return connection.execute(query).scalar_one()


def _counts(connection: Connection, delivery: DeliveryState) -> dict[str, int]:
    entry = PERSON_ENTRY.c
    query = select(entry.sn, func.count().label("number")).where(entry.delivery == delivery.value).group_by(entry.sn)
    return {row.sn: row.number for row in connection.execute(query)}


def _photo_key_problem(cipher: PhotoCipher, used: Sequence[str | None]) -> str | None:
    try:
        cipher.require(used)
    except PhotoKeyError as error:
        return str(error)
    return None


def _aware(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=time.tzinfo or UTC)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _escaped(file: Path) -> str:
    """Quote a path for the URIs of SQLite, and then for the URLs of SQLAlchemy."""
    return quote(quote(str(file.absolute())))
