"""The schema of a database: its version, and the migrations to the newest one.

Only a migration imports Alembic. Each start compares versions, and the import would take a tenth of it.
"""

from enum import Enum, auto
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from bridge.store.errors import StoreTooNewError

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
    """Run the missing migrations within the connection's transaction.

    Raises:
        StoreTooNewError: the database has a migration that this version does not know.
    """
    # Another program may have upgraded the database since the last look at it.
    if schema_state(connection) is SchemaState.CURRENT:
        return
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
