from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.store.database import Database
from tests.support.postgresql import PostgreSQL


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def sqlite(file: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{file}", busy_timeout=0.05)
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def store_url(request: pytest.FixtureRequest, file: Path) -> str:
    """The URL of an empty store, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{file}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return await server.new_url()


@pytest.fixture
async def database(store_url: str) -> AsyncIterator[Database]:
    """An empty store, once in SQLite and once in PostgreSQL."""
    database = await Database.open(store_url, busy_timeout=0.05)
    yield database
    await database.close()
