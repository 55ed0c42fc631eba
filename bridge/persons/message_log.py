"""The messages whose changes are stored, as part of a transaction on persons (bridge/store/received_messages.py)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Reply, SharedReplies
from bridge.store import received_messages


class MessageLog:
    """The messages whose changes are stored, within one transaction."""

    def __init__(self, connection: Connection, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._final_replies: defaultdict[int, list[Reply]] = defaultdict(list)
        self._has_added = False

    def replies_to(self, message: ReceivedMessage) -> list[SharedReplies] | None:
        """Return the last known replies to a message if its change is stored already."""
        self._write()
        return received_messages.replies_to(self._connection, message, self._now())

    def add(self, message_id: int, message: ReceivedMessage, replies: Sequence[SharedReplies]) -> None:
        """Store that the change of a message is stored.

        Args:
            message_id: a new revision.
            message: the message.
            replies: to the change.
        """
        self._has_added |= received_messages.add_message(self._connection, message_id, message, replies, self._now())

    def note_final_reply(self, message_id: int, reply: Reply) -> None:
        """Remember a final reply to a message, in place of the earlier reply for the same terminal and person."""
        self._final_replies[message_id].append(reply)

    def finish(self) -> None:
        """Write what is left, and forget the oldest messages."""
        self._write()
        if self._has_added:
            received_messages.drop_undated_messages(self._connection, received_messages.KEPT_DELIVERIES)

    def _write(self) -> None:
        for message_id, replies in self._final_replies.items():
            received_messages.note_final_replies(self._connection, message_id, replies)
        self._final_replies.clear()
