"""Brings a database to the schema of this version, or says why it will not."""

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
    """Run the migrations that are missing, within the connection's transaction.

    Raises:
        StoreTooNewError: the database has had one that this version does not know.
    """
    config = _config(connection)
    _present(connection, config)
    command.upgrade(config, "head")


class SchemaState(Enum):
    """How a database's schema compares with this version's."""

    MISSING = auto()
    OLD = auto()
    CURRENT = auto()


def schema_state(connection: Connection) -> SchemaState:
    """Compare. Raises StoreTooNewError where the database has had a migration that this version does not know."""
    config = _config(connection)
    present = _present(connection, config)
    if not present:
        return SchemaState.MISSING
    current = present == set(ScriptDirectory.from_config(config).get_heads())
    return SchemaState.CURRENT if current else SchemaState.OLD


def _config(connection: Connection) -> Config:
    config = Config()
    # Alembic reads a percent sign as the start of a placeholder.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _present(connection: Connection, config: Config) -> set[str]:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = set(MigrationContext.configure(connection).get_current_heads())
    if not known.issuperset(present):
        newer = ", ".join(sorted(present - known))
        raise StoreTooNewError(
            f"the store was written by a newer version of Facebridge (its schema is {newer}, this version knows up to"
            f" {max(known)}); run that version, or restore a backup made with this one"
        )
    return present
