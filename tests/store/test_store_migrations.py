"""The migrations end where the tables are."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select

from bridge.store.database import Database
from bridge.store.tables import COUNTER, METADATA


async def test_a_migrated_store_has_the_tables_of_this_version(database: Database) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), METADATA)

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_opening_again_changes_nothing(database: Database, file: Path) -> None:
    async with database.writing() as connection:
        await connection.execute(COUNTER.update().values(value=7))
    again = await Database.open(f"sqlite:///{file}")
    async with again.reading() as connection:
        assert (await connection.execute(select(COUNTER.c.value))).scalar_one() == 7
    await again.close()
