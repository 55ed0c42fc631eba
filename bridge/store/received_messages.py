"""The messages whose commands are carried out: plain functions that take a connection.

A broker that did not get the acknowledgement of a message sends it again, and a publisher may too. A command that is
carried out again would undo newer ones: a person that was removed in between would come back.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update

from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome, Reply, SharedReplies
from bridge.store.direct import DirectStatement
from bridge.store.person_queries import next_revisions
from bridge.store.tables import RECEIVED_MESSAGE

_COLUMN = RECEIVED_MESSAGE.c

KEPT_DELIVERIES = 1000
"""Messages without `asked_at` that are remembered. The broker sends at most a hundred before it waits for an
acknowledgement (Receive Maximum); over MQTT 3.1.1 its own limit applies, with Mosquitto 20 by default."""

REMEMBERED = timedelta(days=7)
"""How long an equal message with `asked_at` counts as the same command."""

_FORGOTTEN_IDS = 1000
"""Packet ids that one transaction forgets: some 10 ms."""

_MAX_UPDATED_REPLIES = 100
"""The most replies to a message that are kept up to date. Each final reply reads and writes all of them: 0.3 ms for 100
replies, but 30 ms for 10,000."""


# Built once, as the statements at the end of `bridge.store.person_queries`.
_FORGET_PACKET_ID = DirectStatement(
    lambda _: update(RECEIVED_MESSAGE).where(_COLUMN.packet_id == bindparam("for_packet_id")).values(packet_id=None)
)
_ADD = DirectStatement(lambda _: insert(RECEIVED_MESSAGE), [column.key for column in _COLUMN])
_WITH_FEW_REPLIES = (_COLUMN.id == bindparam("for_id")) & _COLUMN.has_few_replies
_FEW_REPLIES = DirectStatement(lambda _: select(_COLUMN.replies).where(_WITH_FEW_REPLIES))
_PUT_REPLIES = DirectStatement(
    lambda _: update(RECEIVED_MESSAGE).where(_WITH_FEW_REPLIES).values(replies=bindparam("new_replies"))
)
_IS_UNDATED = _COLUMN.expires_at.is_(None)
_OLDEST_UNDATED = DirectStatement(
    lambda _: select(_COLUMN.id).where(_IS_UNDATED).order_by(_COLUMN.id.desc()).limit(1).offset(bindparam("keep"))
)
_DROP_UNDATED = delete(RECEIVED_MESSAGE).where(_IS_UNDATED, _COLUMN.id <= bindparam("up_to"))


def replies_to(connection: Connection, message: ReceivedMessage, now: datetime) -> list[SharedReplies] | None:
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


def add_message(
    connection: Connection, message_id: int, message: ReceivedMessage, replies: Sequence[SharedReplies], now: datetime
) -> bool:
    """Store that the command of a message is carried out, or why it is not; call `drop_undated_messages` afterwards.

    Args:
        connection: a connection.
        message_id: a new revision.
        message: the message.
        replies: to the command.
        now: the present time.

    Returns:
        Whether the message must be remembered. One with `asked_at` is not, if nothing was carried out: an equal message
        may be carried out later. One with QoS 0 and without `asked_at` cannot arrive again.
    """
    if message.packet_id is not None and not message.part_number:
        # The broker uses it again: it does not belong to an earlier message any more.
        _FORGET_PACKET_ID.run(connection, [{"for_packet_id": message.packet_id}])
    number = sum(len(shared.sns) * len(shared.replies) for shared in replies)
    is_few = message.part_number is None and number <= _MAX_UPDATED_REPLIES
    is_carried_out = any(
        reply.outcome in (Outcome.ACCEPTED, Outcome.OK) for shared in replies for reply in shared.replies
    )
    if not (is_carried_out if message.is_dated else message.packet_id is not None):
        return False
    row = {
        "id": message_id,
        "digest": message.digest,
        "packet_id": message.packet_id,
        "expires_at": now + REMEMBERED if message.is_dated else None,
        "replies": _compressed(_each(replies) if is_few else replies),
        "has_few_replies": is_few,
    }
    _ADD.run(connection, [row])
    return True


def add_command(connection: Connection, message: ReceivedMessage, reply: Reply, now: datetime) -> int:
    """Store the reply to the command of a message; return the id under which it is stored."""
    message_id = next_revisions(connection, 1)
    if add_message(connection, message_id, message, [SharedReplies(sns=(reply.sn,), replies=(reply,))], now):
        drop_undated_messages(connection, KEPT_DELIVERIES)
    return message_id


def note_final_replies(connection: Connection, message_id: int, replies: Sequence[Reply]) -> None:
    """Put final replies in the place of `accepted` for the same terminal and person, in this order.

    If a message has more than `_MAX_UPDATED_REPLIES` replies, its first ones stay.
    """
    found = _FEW_REPLIES.rows(connection, {"for_id": message_id})
    if not found:
        return
    ((stored,),) = found
    known = [reply for shared in _decompressed(stored) for reply in shared.replies]
    for reply in replies:
        for index, earlier in enumerate(known):
            # A list can name a person twice: its first change is superseded by its second.
            is_same = (earlier.sn, earlier.person_id) == (reply.sn, reply.person_id)
            if is_same and earlier.outcome is Outcome.ACCEPTED:
                known[index] = reply
                break
    _PUT_REPLIES.run(connection, [{"for_id": message_id, "new_replies": _compressed(_separate(known))}])


def drop_undated_messages(connection: Connection, keep: int) -> None:
    """Delete the messages without `asked_at`, except the newest `keep`."""
    for (oldest,) in _OLDEST_UNDATED.rows(connection, {"keep": keep}):
        connection.execute(_DROP_UNDATED, {"up_to": oldest})


def forget_deliveries(connection: Connection) -> bool:
    """Forget packet ids, because the broker has begun a new session; return whether some may be left."""
    drop_undated_messages(connection, 0)
    some = select(_COLUMN.id).where(_COLUMN.packet_id.is_not(None)).limit(_FORGOTTEN_IDS)
    forgotten = connection.execute(update(RECEIVED_MESSAGE).where(_COLUMN.id.in_(some)).values(packet_id=None))
    return forgotten.rowcount == _FORGOTTEN_IDS


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


def _replies(connection: Connection, condition: ColumnElement[bool]) -> list[SharedReplies] | None:
    stored = connection.execute(select(_COLUMN.replies).where(condition).order_by(_COLUMN.id.desc()).limit(1)).scalar()
    return None if stored is None else _decompressed(stored)


def _decompressed(stored: bytes) -> list[SharedReplies]:
    replies: list[SharedReplies] = []
    for one in orjson.loads(zlib.decompress(stored)):
        if "sns" in one:
            shared = tuple(Reply.from_stored(reply) for reply in one["replies"])
            replies.append(SharedReplies(sns=tuple(one["sns"]), replies=shared))
        else:
            replies += _separate([Reply.from_stored(one)])
    return replies


def _separate(replies: Iterable[Reply]) -> list[SharedReplies]:
    return [SharedReplies(sns=(reply.sn,), replies=(reply,)) for reply in replies]


def _each(replies: Iterable[SharedReplies]) -> list[SharedReplies]:
    return _separate(replace(reply, sn=sn) for shared in replies for sn in shared.sns for reply in shared.replies)


def _compressed(replies: Iterable[SharedReplies]) -> bytes:
    """Return the stored form: the replies of one terminal as they are published, others with their terminals."""
    stored: list[dict[str, Any]] = []
    for shared in replies:
        if len(shared.sns) == 1:
            stored += [replace(reply, sn=shared.sns[0]).as_json() for reply in shared.replies]
        else:
            stored.append({"sns": shared.sns, "replies": [reply.as_json() for reply in shared.replies]})
    # The replies to a list of persons hardly differ: 10,000 of them have 2.5 MB, compressed 0.1 MB.
    return zlib.compress(orjson.dumps(stored), level=1)
