"""Upgrades a database to the schema of this version, or says why that is not possible."""

from enum import Enum, auto
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from bridge.store.errors import StoreTooNewError

_MIGRATIONS = Path(__file__).with_name("migrations")


def upgrade(connection: Connection) -> None:
    """Run the missing migrations within the connection's transaction.

    Raises:
        StoreTooNewError: the database has a migration that this version does not know.
    """
    config = _config(connection)
    _applied(connection, config)
    command.upgrade(config, "head")


class SchemaState(Enum):
    """The schema of a database in comparison with that of this version."""

    MISSING = auto()
    OLD = auto()
    CURRENT = auto()


def schema_state(connection: Connection) -> SchemaState:
    """Compare the schemas. Raises StoreTooNewError if the database has a migration that this version does not know."""
    config = _config(connection)
    applied = _applied(connection, config)
    if not applied:
        return SchemaState.MISSING
    is_current = applied == set(ScriptDirectory.from_config(config).get_heads())
    return SchemaState.CURRENT if is_current else SchemaState.OLD


def _config(connection: Connection) -> Config:
    config = Config()
    # Alembic reads a percent sign as the start of a placeholder.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _applied(connection: Connection, config: Config) -> set[str]:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    applied = set(MigrationContext.configure(connection).get_current_heads())
    if not known.issuperset(applied):
        newer = ", ".join(sorted(applied - known))
        raise StoreTooNewError(
            f"the store was written by a newer version of Facebridge (its schema is {newer}, this version knows up to"
            f" {max(known)}); run that version, or restore a backup made with this one"
        )
    return applied
