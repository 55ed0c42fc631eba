"""Environment of Alembic; `bridge.store.engine` passes the connection, which is in a transaction."""

from alembic import context

from bridge.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
