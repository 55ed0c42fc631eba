from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.store.database import Database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{file}", busy_timeout=0.05)
    yield database
    await database.close()
