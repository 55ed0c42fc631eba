"""Terminals in a real store."""

from datetime import UTC, datetime
from itertools import count

import pytest
from sqlalchemy import select

from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.store.database import Database
from bridge.store.mqtt_client import stored_client_suffix
from bridge.store.tables import TERMINAL
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


async def test_saving_again_replaces(terminals: StoredTerminals, database: Database) -> None:
    await terminals.save(FULL)
    changed = Terminal(sn=FULL.sn, origin=TerminalOrigin.APPROVED, name="Back door")
    await terminals.save(changed)
    assert await terminals.load() == [changed]
    query = select(TERMINAL.c.created_at, TERMINAL.c.changed_at)
    times = await database.read(lambda connection: connection.execute(query).all())
    assert times == [(datetime(2026, 11, 24, 8, 0, tzinfo=UTC), datetime(2026, 11, 24, 8, 1, tzinfo=UTC))]


async def test_deleting(terminals: StoredTerminals) -> None:
    await terminals.save(FULL)
    await terminals.save(PLAIN)
    await terminals.delete(FULL.sn)
    await terminals.delete("unknown")
    assert await terminals.load() == [PLAIN]


async def test_the_suffix_of_the_client_ids_stays(database: Database) -> None:
    assert await stored_client_suffix(database, "first") == "first"
    assert await stored_client_suffix(database, "second") == "first"
