"""Recognises messages whose changes are stored already; part of a transaction on persons.

A broker that did not get the acknowledgement of a message sends it again, and a publisher may too. A message that is
applied again would overwrite newer changes: a person that was removed in between would come back.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome, Reply
from bridge.store import received_messages

KEPT_DELIVERIES = 1000
"""Messages without `asked_at` that are remembered. The broker sends at most a hundred before it waits for an
acknowledgement (Receive Maximum); over MQTT 3.1.1 its own limit applies, with Mosquitto 20 by default."""

REMEMBERED = timedelta(days=7)
"""How long an equal message with `asked_at` counts as the same command."""


class MessageLog:
    """The messages whose changes are stored, within one transaction."""

    def __init__(self, connection: Connection, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._final_replies: list[tuple[int, Reply]] = []
        self._has_added = False

    def replies_to(self, message: ReceivedMessage) -> list[Reply] | None:
        """Return the last known replies to a message if its change is stored already."""
        self._write()
        return received_messages.replies_to(self._connection, message, self._now())

    def add(self, message_id: int, message: ReceivedMessage, replies: Sequence[Reply]) -> None:
        """Store that the change of a message is stored.

        Args:
            message_id: a new revision.
            message: the message.
            replies: to the change.
        """
        if message.packet_id is not None:
            received_messages.release_packet_id(self._connection, message.packet_id)
        is_accepted = any(reply.outcome is Outcome.ACCEPTED for reply in replies)
        if message.is_dated and not is_accepted:
            # It was not carried out, so the same message may be carried out later.
            return
        if message.is_dated or message.packet_id is not None:
            expires_at = self._now() + REMEMBERED if message.is_dated else None
            received_messages.add_message(self._connection, message_id, message, expires_at, replies)
            self._has_added = True

    def note_final_reply(self, message_id: int, reply: Reply) -> None:
        """Remember the final reply to a message that has no other; with several, `accepted` remains."""
        self._final_replies.append((message_id, reply))

    def finish(self) -> None:
        """Write what is left, and forget the oldest messages."""
        self._write()
        if self._has_added:
            received_messages.drop_undated_messages(self._connection, KEPT_DELIVERIES)

    def _write(self) -> None:
        for message_id, reply in self._final_replies:
            received_messages.note_final_reply(self._connection, message_id, reply)
        self._final_replies.clear()
