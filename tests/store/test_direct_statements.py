"""Statements that run on SQLite's driver give what SQLAlchemy gives."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, bindparam, event, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from bridge.store.database import Database
from bridge.store.direct import DirectStatement
from bridge.store.tables import OUTBOX, PERSON_ENTRY, PHOTO, RECEIVED_MESSAGE

_T = TypeVar("_T")

AT = datetime(2026, 11, 28, 8, 0, 0, 123456, tzinfo=UTC)
ENTRY: dict[str, Any] = {
    "sn": "T1",
    "person_id": "1",
    "revision": 7,
    "desired": {"name": "Zoë", "weekly": [1, 2]},
    "photo_sha256": None,
    "valid_until": AT.astimezone(timezone(timedelta(hours=5))),
    "held": True,
    "delivery": "pending",
    "confirmed_revision": None,
    "status": None,
    "message": None,
    "changed_at": AT,
    "access": None,
    "asked": None,
}
PUT_ENTRY = DirectStatement(lambda _: insert(PERSON_ENTRY), list(ENTRY))
ENTRY_OF = DirectStatement(lambda _: select(PERSON_ENTRY).where(PERSON_ENTRY.c.person_id == bindparam("for_id")))
PUT_PHOTO = DirectStatement(lambda _: insert(PHOTO), ["sha256", "jpeg", "key_id"])
JSON_OF_MESSAGES = DirectStatement(lambda _: select(func.json(PERSON_ENTRY.c.message)).order_by(PERSON_ENTRY.c.sn))
ADD_REPLY = DirectStatement(lambda _: insert(OUTBOX), ["reply", "origin"])
ADD_MESSAGE = DirectStatement(lambda _: insert(RECEIVED_MESSAGE), [column.key for column in RECEIVED_MESSAGE.c])


def both(function: Callable[[Connection], _T]) -> Callable[[Connection], tuple[_T, _T]]:
    """Return what a function returns on the driver, and through SQLAlchemy, as it is used while events are observed."""

    def run(connection: Connection) -> tuple[_T, _T]:
        def note(*_: object) -> None:
            pass

        direct = function(connection)
        event.listen(connection.engine, "before_cursor_execute", note)
        try:
            return direct, function(connection)
        finally:
            event.remove(connection.engine, "before_cursor_execute", note)

    return run


async def test_rows_have_the_values_that_sqlalchemy_returns(database: Database) -> None:
    await database.write(lambda connection: PUT_ENTRY.run(connection, [ENTRY, {**ENTRY, "sn": "T2"}]))
    read = await database.read(lambda connection: connection.execute(select(PERSON_ENTRY)).mappings().all())
    expected = [{**ENTRY, "sn": sn, "valid_until": AT} for sn in ("T1", "T2")]
    assert [dict(row.items()) for row in read] == expected
    for found in await database.write(both(lambda connection: ENTRY_OF.mappings(connection, {"for_id": "1"}))):
        assert list(found) == expected
    for rows in await database.write(both(lambda connection: ENTRY_OF.rows(connection, {"for_id": "1"}))):
        assert [list(row) for row in rows] == [list(row.values()) for row in expected]
    for nothing in await database.write(both(lambda connection: ENTRY_OF.rows(connection, {"for_id": "2"}))):
        assert not nothing
    # Outside a transaction, as the first statement of a reader.
    assert list(await database.read(ENTRY_OF.mappings, {"for_id": "1"})) == expected


async def test_an_insert_returns_the_id_of_its_row(database: Database) -> None:
    def add(connection: Connection) -> tuple[int, int]:
        new = ADD_REPLY.insert(connection, {"reply": {"outcome": "ok"}, "origin": {"source": "ü"}})
        return new, connection.execute(select(func.max(OUTBOX.c.id))).scalar_one()

    (first, last), (second, newest) = await database.write(both(add))
    assert (first, second) == (last, newest)
    assert second == first + 1
    replies = await database.read(lambda connection: connection.execute(select(OUTBOX.c.reply)).scalars().all())
    assert replies == [{"outcome": "ok"}] * 2


async def test_columns_with_another_name_in_the_store_are_written(database: Database) -> None:
    row = {
        "id": 5, "digest": "d", "packet_id": None, "expires_at": AT, "replies": b"\x00\xff", "has_few_replies": True
    }  # fmt: skip
    await database.write(lambda connection: ADD_MESSAGE.run(connection, [row]))
    (found,) = await database.read(lambda connection: connection.execute(select(RECEIVED_MESSAGE)).mappings().all())
    stored = {column.key: found[column] for column in RECEIVED_MESSAGE.c}
    assert stored == row


async def test_errors_are_those_of_sqlalchemy_and_undo_the_transaction(database: Database) -> None:
    row = {"sha256": "a", "jpeg": b"secret", "key_id": None}

    def twice(connection: Connection) -> None:
        PUT_PHOTO.run(connection, [row])
        with pytest.raises(IntegrityError) as raised:
            PUT_PHOTO.run(connection, [row])
        assert "secret" not in str(raised.value)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(twice)
    assert not await database.read(lambda connection: connection.execute(select(PHOTO)).all())


async def test_an_error_in_a_later_row_is_one_of_sqlalchemy(database: Database) -> None:
    def read(connection: Connection) -> None:
        PUT_ENTRY.run(connection, [{**ENTRY, "message": "{}"}, {**ENTRY, "sn": "T2", "message": "{"}])
        with pytest.raises(DBAPIError):
            JSON_OF_MESSAGES.rows(connection, {})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(read)


async def test_no_rows_are_written_without_a_statement(database: Database) -> None:
    await database.write(both(lambda connection: PUT_ENTRY.run(connection, [])))
    assert not await database.read(lambda connection: connection.execute(select(PERSON_ENTRY)).all())
