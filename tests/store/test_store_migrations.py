"""The migrations lead to the present tables, from an empty database and from every earlier schema."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, Connection, DateTime, MetaData, Table, insert, text

import bridge.store
from bridge.model.person_entry import DeliveryState
from bridge.model.terminal import PersonCounts
from bridge.store.database import Database
from bridge.store.engine import create_engine, parse_url
from bridge.store.errors import StoreTooOldError
from bridge.store.person_queries import (
    add_final_replies,
    counts,
    expired,
    final_replies,
    last_final_reply_id,
    next_revisions,
    page,
    syncs,
)
from bridge.store.photos import PLAIN, read_photo
from bridge.store.schema import known_versions
from bridge.store.tables import METADATA
from bridge.store.terminals import StoredTerminals
from tests.support.facebridge import python_process

KEPT = sorted((Path(__file__).parent / "kept").glob("*.sql"))
"""Stores of earlier schemas, with rows in every table."""


def kept_rows(kept: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        connection.executescript(kept.read_text())
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: [dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')]
            for (name,) in names
            if not name.startswith(("sqlite_", "alembic_"))
        }


def migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(bridge.store.__file__).with_name("migrations")))
    return config


async def put_back(url: str, kept: Path) -> None:
    """Create a database by the migrations up to an earlier schema, and fill it with the rows of that store."""
    rows = kept_rows(kept)

    def fill(connection: Connection) -> None:
        config = migrations()
        config.attributes["connection"] = connection
        command.upgrade(config, kept.stem)
        tables = MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            if table.name in rows:
                connection.execute(table.delete())
                for row in rows[table.name]:
                    connection.execute(insert(table).values({name: adapt(table, name, row[name]) for name in row}))
                if connection.dialect.name == "postgresql" and "id" in table.c:
                    # NULL, and without effect, where the database does not count the ids.
                    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                    connection.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"))

    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        fill(connection)
    engine.dispose()


def adapt(table: Table, column: str, value: Any) -> Any:
    """Convert a text or a number of SQLite to the type of the column."""
    kind = table.c[column].type
    if value is None:
        return None
    if isinstance(kind, JSON):
        return json.loads(value)
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return bool(value) if isinstance(kind, Boolean) else value


async def test_a_migrated_store_has_the_tables_of_this_version(database: Database) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), METADATA)

    assert await database.read(differences) == []


async def test_opening_again_changes_nothing(database: Database, store_url: str) -> None:
    assert await database.write(next_revisions, 7) == 1
    again = await Database.open(store_url)
    assert await again.write(next_revisions, 0) == 8
    await again.close()


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.stem)
async def test_an_upgrade_keeps_everything(kept: Path, store_url: str) -> None:
    await put_back(store_url, kept)
    database = await Database.open(store_url)
    assert await database.read(counts) == {
        "T1": PersonCounts(desired=1, pending=2),
        "T2": PersonCounts(desired=1, pending=2),
    }
    p1, p2 = await database.read(page, "T1", "", 10)
    assert (p1.revision, p1.confirmed_revision, p1.delivery) == (6, 1, DeliveryState.PENDING)
    assert p1.person is not None
    assert p1.person.card == "0042"
    assert p1.person.weekly is not None
    assert p2.person is not None
    assert not p2.person.enabled
    assert p2.request is not None
    assert (p2.request.request_id, p2.request.origin.correlation_data) == ("r2", b"\x007")
    for entry in (p1, p2):
        assert entry.person is not None
        photo = await database.read(read_photo, PLAIN, entry.person.photo)
        assert photo is not None
        assert photo.startswith(b"\xff\xd8")
    assert await database.read(expired, datetime(2026, 1, 1, tzinfo=UTC), 10) == [("T2", "p1")]
    assert await database.read(expired, datetime(2027, 1, 1, tzinfo=UTC), 10) == [("T2", "p1"), ("T1", "p1")]
    replies = [one.reply for one in await database.read(final_replies, 0, 99, 10)]
    assert [(reply.request_id, reply.outcome.value) for reply in replies] == [("r1", "ok"), ("r3", "superseded")]
    (terminal,) = await StoredTerminals(database, lambda: datetime.now(UTC)).load()
    assert (terminal.sn, terminal.name, terminal.groups) == ("T2", "Vordertür 门", ("lobby",))
    assert await database.write(next_revisions, 1) == 8
    assert [sync.request.request_id for sync in await database.read(syncs, ["T1"])] == ["r5"]
    await database.write(add_final_replies, await database.read(final_replies, 0, 99, 1))
    assert await database.read(last_final_reply_id) == 3
    await database.close()


async def test_a_store_is_not_upgraded_while_a_bridge_runs(store_url: str) -> None:
    await put_back(store_url, KEPT[0])
    with pytest.raises(StoreTooOldError, match="restart the bridge with this version"):
        await Database.open(store_url, may_upgrade=False)
    await (await Database.open(store_url)).close()
    await (await Database.open(store_url, may_upgrade=False)).close()


def test_the_names_of_the_files_give_the_versions() -> None:
    revisions = [script.revision for script in ScriptDirectory.from_config(migrations()).walk_revisions()]
    assert known_versions() == list(reversed(revisions))


async def imported_modules(folder: Path, url: str) -> str:
    """Open a store in a new process, and return the modules that this has imported."""
    program = (
        "import asyncio, sys\n"
        "from bridge.cli.main import main\n"
        "import bridge.app\n"
        "from bridge.store.database import Database\n"
        "async def run():\n"
        f"    await (await Database.open({url!r})).close()\n"
        "asyncio.run(run())\n"
        "print(*sys.modules)\n"
    )
    result = await python_process(folder, "-c", program)
    assert result.code == 0, result.stderr
    return result.stdout


async def test_only_a_migration_imports_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    assert "alembic" in (await imported_modules(tmp_path, url)).split()
    assert "alembic" not in (await imported_modules(tmp_path, url)).split()


async def test_an_upgrade_logs_what_it_does(
    store_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", logger="bridge")
    monkeypatch.setattr("bridge.store.schema.PROGRESS_SECONDS", 0.001)
    await put_back(store_url, KEPT[0])
    await (await Database.open(store_url)).close()
    lines = [record.getMessage() for record in caplog.records if record.name == "bridge.store.schema"]
    rows = len(kept_rows(KEPT[0])["person_entry"])
    assert lines[0] == (
        f"upgrading the store from schema {KEPT[0].stem} to {known_versions()[-1]}: {rows} persons of terminals;"
        " an interrupted upgrade begins again"
    )
    assert lines[1].startswith("the store is still being upgraded, ")
    assert lines[-1].startswith("the store is upgraded; it took ")
    caplog.clear()
    await (await Database.open(store_url)).close()
    assert "upgrad" not in caplog.text
