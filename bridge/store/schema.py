"""The schema of a database: its version, and the migrations to the newest one.

Only a migration imports Alembic. Each start compares versions, and the import would take a tenth of it.
"""

import logging
from enum import Enum, auto
from pathlib import Path
from threading import Event, Thread
from time import perf_counter

from sqlalchemy import Connection, column, func, inspect, select, table

from bridge.store.errors import StoreTooNewError

_LOGGER = logging.getLogger(__name__)

PROGRESS_SECONDS = 10.0
"""Interval of the log lines of an upgrade that takes long."""

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = table("alembic_version", column("version_num"))
"""Alembic stores the version of the schema here."""


class SchemaState(Enum):
    """The schema of a database in comparison with that of this version."""

    MISSING = auto()
    OLD = auto()
    CURRENT = auto()


def known_versions() -> list[str]:
    """Return the versions of the schema that this version knows, the newest one last.

    They are read from the names of the migrations' files (`v0003_batches.py`); a test compares them with the
    migrations.
    """
    return sorted(file.stem[1:].partition("_")[0] for file in (_MIGRATIONS / "versions").glob("v*.py"))


def schema_state(connection: Connection) -> SchemaState:
    """Compare the schemas. Raises StoreTooNewError if the database has a migration that this version does not know."""
    applied = _applied_versions(connection)
    if not applied:
        return SchemaState.MISSING
    known = known_versions()
    if not applied.issubset(known):
        newer = ", ".join(sorted(applied.difference(known)))
        raise StoreTooNewError(
            f"the store was written by a newer version of Facebridge (its schema is {newer}, this version knows up to"
            f" {known[-1]}); run that version, or restore a backup made with this one"
        )
    return SchemaState.CURRENT if applied == {known[-1]} else SchemaState.OLD


def upgrade(connection: Connection) -> None:
    """Run the missing migrations within the connection's transaction, and log the progress.

    Raises:
        StoreTooNewError: the database has a migration that this version does not know.
    """
    # Another program may have upgraded the database since the last look at it.
    state = schema_state(connection)
    if state is SchemaState.CURRENT:
        return
    if state is SchemaState.MISSING:
        _run_migrations(connection)
        return
    since = perf_counter()
    _LOGGER.info(
        "upgrading the store from schema %s to %s: %s persons of terminals; an interrupted upgrade begins again",
        *(max(_applied_versions(connection)), known_versions()[-1]),
        f"{connection.execute(select(func.count()).select_from(table('person_entry'))).scalar_one():,}",
    )
    ended = Event()
    # An index of two million rows is one statement of half a minute, so a thread watches it.
    watching = Thread(target=_log_progress, args=(ended,), name="progress of the upgrade", daemon=True)
    watching.start()
    try:
        _run_migrations(connection)
    finally:
        ended.set()
        watching.join()
    _LOGGER.info("the store is upgraded; it took %.1f s", perf_counter() - since)


def _log_progress(ended: Event) -> None:
    seconds = 0.0
    while not ended.wait(PROGRESS_SECONDS):
        seconds += PROGRESS_SECONDS
        _LOGGER.info("the store is still being upgraded, %.0f s so far; the bridge starts afterwards", seconds)


def _run_migrations(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic reads a percent sign as the start of a placeholder.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _applied_versions(connection: Connection) -> set[str]:
    if not inspect(connection).has_table(_VERSION_TABLE.name):
        return set()
    return set(connection.execute(select(_VERSION_TABLE.c.version_num)).scalars())
