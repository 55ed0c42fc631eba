"""Brings a database to the schema of this version, or says why it will not."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from bridge.store.errors import StoreTooNewError, StoreTooOldError

_MIGRATIONS = Path(__file__).with_name("migrations")


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, within the connection's transaction.

    Raises:
        StoreTooNewError: the database has had one that this version does not know.
    """
    config = _config(connection)
    _present(connection, config)
    command.upgrade(config, "head")


def require_current(connection: Connection) -> None:
    """Make sure that no migration is missing.

    Raises:
        StoreTooNewError: the database has had one that this version does not know.
        StoreTooOldError: one is missing.
    """
    config = _config(connection)
    if _present(connection, config) != set(ScriptDirectory.from_config(config).get_heads()):
        raise StoreTooOldError(
            "the store is of an older version of Facebridge, and a bridge of that version runs on it: restart the"
            " bridge with this version first"
        )


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
