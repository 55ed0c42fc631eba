"""Opening a database: the URL, its schema and its transactions."""

import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import URL, Connection, Engine, event, func, inspect, make_url, select, text
from sqlalchemy import create_engine as create_sqlalchemy_engine
from sqlalchemy.exc import ArgumentError

from bridge.model.faults import UnavailableError
from bridge.store.direct import run_on_driver
from bridge.store.errors import (
    StoreDamagedError,
    StoreMissingError,
    StoreTooOldError,
    StoreUrlError,
    is_damage,
    mapped_errors,
)
from bridge.store.schema import SchemaState, schema_state, upgrade

_LOGGER = logging.getLogger(__name__)

READERS = 3
"""Queries that run at the same time beside the writer; each needs a thread, and the machines are small."""

BUSY_TIMEOUT_SECONDS = 5.0
"""How long to wait for another program's lock: an import or a backup holds it for well under a second."""

_SMALL_TABLES = ("alembic_version", "counter", "terminal", "person_job", "person_sync", "outside_change")
"""Tables that are checked whenever the store is opened: they have a few pages."""

_WRITING = "facebridge_writing"

_POSTGRESQL_WRITER_LOCK = (0x46616365, 1)
"""The advisory lock that a writer holds: "Face" in ASCII, to differ from other programs' locks, and a number."""


def parse_url(url: str) -> URL:
    """Return `store.url` with the driver that is used. Raises StoreUrlError."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreUrlError("store.url is not a URL (sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME)") from None
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:" and not parsed.host:
        return parsed
    if parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreUrlError(
        "store.url must be sqlite:///FILE (four slashes before an absolute path) or"
        " postgresql://USER:PASSWORD@HOST/NAME"
    )


def store_file(url: str) -> Path | None:
    """Return the file that a store is in; None for a database server. Raises StoreUrlError."""
    parsed = parse_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def create_engine(url: URL, **settings: Any) -> Engine:
    """Create the engine for a URL that `parse_url` returned. Raises StoreUrlError if its driver is not installed."""
    try:
        # The texts of errors would contain names of persons.
        return create_sqlalchemy_engine(
            url, hide_parameters=True, json_serializer=_json_text, json_deserializer=_json_value, **settings
        )
    except ImportError:
        raise StoreUrlError("a PostgreSQL store needs the extra: pip install 'facebridge[postgres]'") from None


def open_engine(
    url: str, *, busy_timeout: float = BUSY_TIMEOUT_SECONDS, may_upgrade: bool = True, must_exist: bool = False
) -> Engine:
    """Open a store, create it if it is missing, check it, and upgrade its schema.

    Args:
        url: `sqlite:///FILE` or `postgresql://…`.
        busy_timeout: seconds to wait for another program's lock.
        may_upgrade: False beside a running bridge, which would not know the new schema.
        must_exist: False creates a missing store.

    Raises:
        StoreUrlError: the URL cannot be used.
        StoreMissingError: there is no store, and `must_exist` is set.
        StoreTooNewError: a newer version has written the store.
        StoreTooOldError: an older version has written it, and it may not be upgraded.
        StoreDamagedError: the file is damaged or no store.
        UnavailableError: it cannot be opened now.
    """
    parsed = parse_url(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    engine = _configured_engine(parsed, busy_timeout)
    try:
        with mapped_errors():
            if file is not None:
                _prepare_file(Path(file), must_exist=must_exist)
            with engine.begin() as connection:
                if file is not None:
                    _check(connection, file)
                state = schema_state(connection)
            if state is SchemaState.MISSING and must_exist:
                raise StoreMissingError("this is no store of Facebridge, or an empty one")
            if state is SchemaState.OLD and not may_upgrade:
                raise StoreTooOldError(
                    "the store is of an older version of Facebridge, and a bridge of that version runs on it:"
                    " restart the bridge with this version first"
                )
            if state is not SchemaState.CURRENT:
                with writing(engine) as connection:
                    upgrade(connection)
    except UnavailableError as error:
        engine.dispose()
        if is_damage(error.__cause__):
            raise StoreDamagedError(_damaged(file, "it is no database, or a damaged one")) from error
        raise
    except BaseException:
        engine.dispose()
        raise
    return engine


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # orjson refuses what UTF-8 cannot encode: half of a surrogate pair, which a terminal's message can contain.
        return json.dumps(value)


def _json_value(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection whose queries all see the same state; SQLAlchemy's errors are not mapped."""
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


class WriterConnection:
    """A connection for one transaction after the other that may write.

    With SQLite it stays open between them: to take it from the pool and to return it takes 0.1 ms. A connection to a
    server may break meanwhile, and the pool checks that.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stays_open = engine.dialect.name == "sqlite"
        self._connection: Connection | None = None
        self._options = engine.get_execution_options()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Begin the one transaction that may write; the caller commits, otherwise it is rolled back.

        Other programs' writers wait meanwhile. SQLAlchemy's errors are not mapped.
        """
        options = self._engine.get_execution_options()
        if options is not self._options:
            # A connection keeps the options that it began with.
            self.close()
            self._options = options
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(**{_WRITING: True})
        try:
            self._connection.begin()
            if self._engine.dialect.name != "sqlite":
                # The equivalent of SQLite's BEGIN IMMEDIATE: a writer sees all earlier commits, and no other program
                # writes until it has committed.
                self._connection.execute(select(func.pg_advisory_xact_lock(*_POSTGRESQL_WRITER_LOCK)))
            yield self._connection
        except BaseException:
            self.close()
            raise
        if not self._stays_open or self._connection.in_transaction() or self._connection.invalidated:
            self.close()

    def close(self) -> None:
        """Return the connection to the pool, which rolls back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection in the one transaction that may write; it is committed at the end of the block.

    Any exception rolls it back. SQLAlchemy's errors are not mapped.
    """
    writer = WriterConnection(engine)
    with closing(writer), writer.begin() as connection:
        yield connection
        connection.commit()


def _configured_engine(url: URL, busy_timeout: float) -> Engine:
    settings: dict[str, Any] = {"pool_size": READERS + 1, "max_overflow": 0}
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, **settings)
    # Each connection is used by one thread at a time, but not always by the same one.
    engine = create_engine(url, connect_args={"timeout": busy_timeout, "check_same_thread": False}, **settings)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # `_begin_sqlite` begins transactions, and not the driver by its own rules.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        # In WAL mode the default may lose the last commits at a power cut; the broker has dropped those changes.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # Overwrite a deleted photo instead of only marking its pages as free.
        cursor.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error:
        cursor.close()
        # SQLAlchemy would leave the connection open.
        connection.close()
        raise
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails at once if another program wrote in between.
    is_writing = connection.get_execution_options().get(_WRITING, False)
    run_on_driver(connection, "BEGIN IMMEDIATE" if is_writing else "BEGIN")


def _prepare_file(file: Path, *, must_exist: bool) -> None:
    """Create the file, readable by its owner only, before SQLite does; the WAL file gets the same mode."""
    if must_exist and not file.exists():
        raise StoreMissingError(f"there is no store at {file}")
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def small_tables_damage(connection: Connection) -> str | None:
    """Check the small tables of SQLite; return what is wrong.

    A whole store would take minutes to read; `bridge.store.integrity` does that in the background.
    """
    tables = set(inspect(connection).get_table_names())
    for table in _SMALL_TABLES:
        if table in tables:
            result = connection.execute(text(f"PRAGMA quick_check({table})")).scalar_one()
            if result != "ok":
                _LOGGER.error("the integrity check of the store failed: %s", result)
                return "its integrity check failed"
    return None


def _check(connection: Connection, file: str) -> None:
    damage = small_tables_damage(connection)
    if damage is not None:
        raise StoreDamagedError(_damaged(file, damage))


def _damaged(file: str | None, reason: str) -> str:
    return f"the store {file or ''} cannot be used: {reason}; restore a backup, or move the file away to start empty"
