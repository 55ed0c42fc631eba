"""Queries about the messages whose changes are stored: plain functions that take a connection."""

import zlib
from collections.abc import Sequence
from datetime import datetime

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Reply
from bridge.store.tables import RECEIVED_MESSAGE

_COLUMN = RECEIVED_MESSAGE.c


def replies_to(connection: Connection, message: ReceivedMessage, now: datetime) -> list[Reply] | None:
    """Return the last known replies to a message if its change is stored already.

    Args:
        connection: a connection.
        message: the message. With `asked_at` an equal one counts; otherwise only the same delivery of the broker.
        now: the present time.
    """
    if message.possible_ids:
        # Ids that were rolled back are given to other messages.
        condition = _COLUMN.id.in_(message.possible_ids) & (_COLUMN.digest == message.digest)
        replies = _replies(connection, condition & (_COLUMN.packet_id.is_not_distinct_from(message.packet_id)))
        if replies is not None:
            return replies
    if message.is_dated:
        return _replies(connection, (_COLUMN.digest == message.digest) & (_COLUMN.expires_at > now))
    if message.is_redelivered and message.packet_id is not None:
        return _replies(connection, (_COLUMN.packet_id == message.packet_id) & (_COLUMN.digest == message.digest))
    return None


def release_packet_id(connection: Connection, packet_id: int) -> None:
    """Forget that a packet id belonged to an earlier message; the broker has used it again."""
    connection.execute(update(RECEIVED_MESSAGE).where(_COLUMN.packet_id == packet_id).values(packet_id=None))


def add_message(
    connection: Connection,
    message_id: int,
    message: ReceivedMessage,
    expires_at: datetime | None,
    replies: Sequence[Reply],
) -> None:
    """Store that the change of a message is stored.

    Args:
        connection: a connection.
        message_id: a number, ascending.
        message: the message.
        expires_at: until when an equal one counts as the same; None: only the same delivery of the broker does.
        replies: to the change.
    """
    row = {
        "id": message_id,
        "digest": message.digest,
        "packet_id": message.packet_id,
        "expires_at": expires_at,
        "replies": _compressed(replies),
        "has_one_reply": len(replies) == 1,
    }
    connection.execute(insert(RECEIVED_MESSAGE), [row])


def note_final_reply(connection: Connection, message_id: int, reply: Reply) -> None:
    """Replace the reply to a message that has only this one."""
    statement = update(RECEIVED_MESSAGE).where(_COLUMN.id == message_id, _COLUMN.has_one_reply)
    connection.execute(statement.values(replies=_compressed([reply])))


def drop_undated_messages(connection: Connection, keep: int) -> None:
    """Delete the messages without `asked_at`, except the newest `keep`."""
    undated = _COLUMN.expires_at.is_(None)
    query = select(_COLUMN.id).where(undated).order_by(_COLUMN.id.desc()).limit(1).offset(keep)
    oldest = connection.execute(query).scalar()
    if oldest is not None:
        connection.execute(delete(RECEIVED_MESSAGE).where(undated, _COLUMN.id <= oldest))


def forget_deliveries(connection: Connection) -> None:
    """Forget all packet ids; the broker has begun a new session."""
    drop_undated_messages(connection, 0)
    connection.execute(update(RECEIVED_MESSAGE).where(_COLUMN.packet_id.is_not(None)).values(packet_id=None))


def superfluous_messages(connection: Connection, before: datetime, keep: int, limit: int) -> list[int]:
    """Return the ids of messages with `asked_at` that have expired, or else the oldest of more than `keep`."""
    dated = _COLUMN.expires_at.is_not(None)
    query = select(_COLUMN.id).where(dated).order_by(_COLUMN.expires_at)
    ids = list(connection.execute(query.where(_COLUMN.expires_at <= before).limit(limit)).scalars())
    if not ids:
        number = connection.execute(select(func.count()).select_from(RECEIVED_MESSAGE).where(dated)).scalar_one()
        if number > keep:
            ids = list(connection.execute(query.limit(min(limit, number - keep))).scalars())
    return ids


def drop_messages(connection: Connection, ids: Sequence[int]) -> None:
    """Delete messages; there are few enough for one statement."""
    connection.execute(delete(RECEIVED_MESSAGE).where(_COLUMN.id.in_(ids)))


def _replies(connection: Connection, condition: ColumnElement[bool]) -> list[Reply] | None:
    stored = connection.execute(select(_COLUMN.replies).where(condition).order_by(_COLUMN.id.desc()).limit(1)).scalar()
    return None if stored is None else [Reply.from_stored(one) for one in orjson.loads(zlib.decompress(stored))]


def _compressed(replies: Sequence[Reply]) -> bytes:
    # The replies to a list of persons hardly differ: 10,000 of them have 2.5 MB, compressed 0.1 MB.
    return zlib.compress(orjson.dumps([reply.as_json() for reply in replies]), level=1)
