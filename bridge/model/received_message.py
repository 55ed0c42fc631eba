"""A message with a command, as far as it must be recognised when it arrives again."""

from dataclasses import dataclass, field, replace
from hashlib import sha256

from bridge.model.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReceivedMessage:
    """A message that arrived over the intake connection; two equal messages are two objects that differ.

    Attributes:
        digest: of its topic and payload.
        packet_id: its packet id in the broker's persistent session; None with QoS 0.
        is_redelivered: whether the broker has sent it before in the same session: it may have been stored, and only
            its acknowledgement was lost.
        is_dated: whether its payload has `asked_at`: an equal message is then the same command.
        possible_ids: ids under which it may be stored, because the answer to a COMMIT was lost, or under which its
            first parts are stored.
        part_number: of a part of a long message; None for a whole message.
    """

    digest: str
    packet_id: int | None = None
    is_redelivered: bool = False
    is_dated: bool = False
    possible_ids: list[int] = field(default_factory=list)
    part_number: int | None = None

    def part(self, number: int) -> "ReceivedMessage":
        """Return a part of this message, which is recognised separately; the parts share `possible_ids`."""
        return replace(self, digest=sha256(f"{self.digest} {number}".encode()).hexdigest(), part_number=number)


@dataclass(frozen=True, slots=True)
class AnsweredMessage:
    """A message and the reply to its command, which is stored when the command is carried out.

    Attributes:
        message: the message.
        reply: the reply.
    """

    message: ReceivedMessage
    reply: Reply
