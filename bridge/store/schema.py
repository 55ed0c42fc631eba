"""Brings a database to the schema of this version, or says why it will not."""

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
    config = Config()
    # Alembic reads a percent sign as the start of a placeholder.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_heads()
    if not known.issuperset(present):
        newer = ", ".join(sorted(set(present) - known))
        raise StoreTooNewError(
            f"the store was written by a newer version of Facebridge (its schema is {newer}, this version knows up to"
            f" {max(known)}); run that version, or restore a backup made with this one"
        )
    command.upgrade(config, "head")
