"""Terminals kept in a real SQLite file."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.store.database import Database
from bridge.store.terminals import StoredTerminals

FULL = Terminal(
    sn="FEDCBA9876543210",
    origin=TerminalOrigin.APPROVED,
    name="Vordertür 门",
    area="Lobby",
    groups=("lobby", "north"),
    key=Secret("abc"),
    username="dev",
    password=Secret("$argon2id$…"),
)
PLAIN = Terminal(sn="A-1_b", origin=TerminalOrigin.CONNECTED)


@pytest.fixture
def terminals(database: Database) -> StoredTerminals:
    minutes = count()
    return StoredTerminals(database, lambda: datetime(2026, 11, 24, 8, next(minutes), tzinfo=UTC))


async def test_terminals_come_back_as_they_were_saved(terminals: StoredTerminals) -> None:
    assert await terminals.load() == []
    await terminals.save(FULL)
    await terminals.save(PLAIN)
    assert await terminals.load() == [FULL, PLAIN]


async def test_saving_again_replaces(terminals: StoredTerminals, file: Path) -> None:
    await terminals.save(FULL)
    changed = Terminal(sn=FULL.sn, origin=TerminalOrigin.APPROVED, name="Back door")
    await terminals.save(changed)
    assert await terminals.load() == [changed]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT created_at, changed_at FROM terminal").fetchall() == [
            ("2026-11-24 08:00:00.000000", "2026-11-24 08:01:00.000000")
        ]


async def test_deleting(terminals: StoredTerminals) -> None:
    await terminals.save(FULL)
    await terminals.save(PLAIN)
    await terminals.delete(FULL.sn)
    await terminals.delete("nobody")
    assert await terminals.load() == [PLAIN]
