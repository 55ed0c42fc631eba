"""Run by Alembic; the connection is handed in by `bridge.store.schema`, inside its transaction."""

from alembic import context

from bridge.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
