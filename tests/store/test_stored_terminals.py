"""Terminals in a real store."""

from datetime import UTC, datetime
from itertools import count

import pytest
from sqlalchemy import select

from bridge.model.faults import UnavailableError
from bridge.model.received_message import AnsweredMessage, ReceivedMessage
from bridge.model.reply import Outcome, Reply
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.store.database import Database
from bridge.store.mqtt_client import stored_client_suffix
from bridge.store.tables import TERMINAL
from bridge.store.terminals import StoredTerminals
from tests.support.failing_commit import failing_commit

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


async def test_several_terminals_are_saved_or_replaced_together(terminals: StoredTerminals) -> None:
    await terminals.save(FULL)
    replaced = Terminal(sn=FULL.sn, origin=TerminalOrigin.CONNECTED)
    await terminals.save_all([PLAIN, replaced])
    assert await terminals.load() == [replaced, PLAIN]


async def test_deleting(terminals: StoredTerminals) -> None:
    await terminals.save(FULL)
    await terminals.save(PLAIN)
    await terminals.delete(FULL.sn)
    await terminals.delete("unknown")
    assert await terminals.load() == [PLAIN]


async def test_the_suffix_of_the_client_ids_stays(database: Database) -> None:
    assert await stored_client_suffix(database, "first") == "first"
    assert await stored_client_suffix(database, "second") == "first"


def answered(packet_id: int, digest: str = "x") -> AnsweredMessage:
    reply = Reply(command="admit", outcome=Outcome.OK, at=datetime(2026, 11, 24, 8, tzinfo=UTC), sn=FULL.sn)
    return AnsweredMessage(ReceivedMessage(digest=digest, packet_id=packet_id), reply)


def redelivered(packet_id: int, digest: str = "x") -> ReceivedMessage:
    return ReceivedMessage(digest=digest, packet_id=packet_id, is_redelivered=True)


async def test_the_message_of_a_change_is_recognised(terminals: StoredTerminals) -> None:
    await terminals.save(FULL, answered(1))
    await terminals.delete(FULL.sn, answered(2))
    await terminals.add_answered(answered(3))
    for packet_id in (1, 2, 3):
        assert await terminals.reply_to(redelivered(packet_id)) == answered(packet_id).reply
    assert await terminals.reply_to(redelivered(4)) is None
    assert await terminals.reply_to(redelivered(1, "y")) is None
    assert await terminals.reply_to(answered(1).message) is None, "not redelivered"


async def test_a_change_is_stored_together_with_its_message(terminals: StoredTerminals, database: Database) -> None:
    with failing_commit(database, is_stored=False, times=1), pytest.raises(UnavailableError):
        await terminals.save(FULL, answered(1))
    assert await terminals.load() == []
    assert await terminals.reply_to(redelivered(1)) is None


async def test_a_change_whose_commit_got_no_answer_is_recognised(
    terminals: StoredTerminals, database: Database
) -> None:
    one = answered(1)
    with failing_commit(database, is_stored=True, times=1), pytest.raises(UnavailableError):
        await terminals.save(FULL, one)
    assert await terminals.reply_to(one.message) == one.reply
