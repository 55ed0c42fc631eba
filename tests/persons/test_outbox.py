"""The outbox hands out final replies in their order, from memory where it can."""

from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event

from bridge.model.origin import Origin
from bridge.model.person_entry import FinalReply
from bridge.model.reply import Outcome, Reply
from bridge.persons.effects import Committed
from bridge.persons.outbox import Outbox
from bridge.store import person_queries as queries
from bridge.store.database import Database


def final_reply(request_id: str) -> FinalReply:
    at = datetime(2026, 11, 28, 8, tzinfo=UTC)
    reply = Reply(command="setPerson", outcome=Outcome.OK, at=at, sn="T1", person_id="1", request_id=request_id)
    return FinalReply(reply=reply, origin=Origin(source="test"))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{tmp_path}/store.db")
    yield database
    await database.close()


async def add(database: Database, *request_ids: str) -> Committed:
    """Commit final replies; return what the transaction reports."""
    final_replies = [final_reply(request_id) for request_id in request_ids]
    await database.write(queries.add_final_replies, final_replies)
    last_id = await database.read(queries.last_final_reply_id)
    return Committed(counts={}, changed=(), final_replies=final_replies, last_final_reply_id=last_id)


def count_reads(database: Database) -> list[object]:
    """Return a list that grows with each statement that reads the outbox."""
    reads: list[object] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(*arguments: object) -> None:
        if "FROM outbox" in str(arguments[2]):
            reads.append(arguments[2])

    return reads


def names(entries: Sequence[FinalReply]) -> list[str | None]:
    return [one.reply.request_id for one in entries]


async def test_final_replies_of_this_process_are_not_read_from_the_store(database: Database) -> None:
    outbox = Outbox(database)
    first, second = await add(database, "1", "2"), await add(database, "3")
    reads = count_reads(database)
    outbox.committed(first)
    outbox.committed(second)
    entries = [*await outbox.next_entries(2), *await outbox.next_entries(2)]
    assert names(entries) == ["1", "2", "3"]
    assert not reads
    assert entries == await database.read(queries.final_replies, 0, 3, 10)


async def test_final_replies_of_another_program_keep_their_place(database: Database) -> None:
    outbox = Outbox(database)
    outbox.committed(await add(database, "1"))
    assert names(await outbox.next_entries(10)) == ["1"]
    await add(database, "of another program")
    outbox.committed(await add(database, "3"))
    outbox.committed(await add(database, "4"))
    assert names(await outbox.next_entries(2)) == ["of another program", "3"]
    assert names(await outbox.next_entries(2)) == ["4"]


async def test_more_than_the_memory_holds_is_read_from_the_store(database: Database) -> None:
    outbox = Outbox(database)
    outbox.committed(await add(database, "first"))
    many = [str(number) for number in range(1500)]
    outbox.committed(await add(database, *many))
    outbox.committed(await add(database, "last"))
    found: list[str | None] = []
    while len(found) < 1502:
        found += names(await outbox.next_entries(400))
    assert found == ["first", *many, "last"]


async def test_a_rewind_hands_out_everything_that_is_not_deleted(database: Database) -> None:
    outbox = Outbox(database)
    outbox.committed(await add(database, "1", "2"))
    (published, unpublished) = await outbox.next_entries(10)
    await outbox.published([published.id])
    outbox.committed(await add(database, "3"))
    outbox.rewind()
    assert names(await outbox.next_entries(10)) == [unpublished.reply.request_id, "3"]
    with closing(database.engine.raw_connection()) as connection:
        assert connection.cursor().execute("SELECT count(*) FROM outbox").fetchone() == (2,)
