"""Read commands from the messages of a connection: addressee, origin, limits and payload."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from bridge.core.command_definition import InvalidCommandError
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.model.commands import Command
from bridge.model.faults import Fault, shorten
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.topics import Address, Scope, Topics

MAXIMUM_CORRELATION_DATA_LENGTH = 1024
"""Bytes of Correlation Data: clients use a few. It is stored with every person change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRules:
    """The accepted sizes of a connection's commands.

    Attributes:
        max_bytes: the largest payload.
        advice: the remedy for a larger one, for the reply.
        may_be_empty: whether an empty payload is a command. Over MQTT 3.1.1 an empty press looks the same as the
            clearing of a retained press.
    """

    max_bytes: int
    advice: str
    may_be_empty: bool = True


def message_digest(message: Message) -> str:
    """Return the digest of a message's topic and payload."""
    return sha256(b"\0".join((message.topic.encode(), message.payload))).hexdigest()


class PublishedReplies:
    """The replies that earlier attempts at a message have published, so that each is published once.

    Replies are compared by terminal, person and outcome: the reason can change from one attempt to the next. A COMMIT
    on a failing disk, for example, fails in several ways.
    """

    def __init__(self) -> None:
        self._earlier: Counter[object] = Counter()
        self._current: Counter[object] = Counter()

    def start_attempt(self) -> None:
        """Begin the next attempt."""
        self._earlier |= self._current
        self._current.clear()

    def is_new(self, reply: Reply | GroupSummary) -> bool:
        """Record a reply of this attempt; return False if an earlier attempt has published it."""
        key: object
        if isinstance(reply, Reply):
            key = (reply.sn, reply.person_id, reply.outcome)
        else:
            key = (reply.group, tuple(sorted(reply.outcomes.items())))
        self._current[key] += 1
        return self._current[key] > self._earlier[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriedOrigin(Origin):
    """The origin of a message that is tried again until it is accepted.

    Attributes:
        published: the replies to it so far.
    """

    published: PublishedReplies = field(default_factory=PublishedReplies, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The addressee and the origin of a command message.

    Attributes:
        address: what its topic names.
        origin: where its replies go.
    """

    address: Address
    origin: Origin


class CommandReader:
    """Reads the commands of one connection, and replies to those that are invalid or not accepted."""

    def __init__(self, topics: Topics, replies: ReplyDispatcher, rules: PayloadRules, *, urgent: bool) -> None:
        """Build the reader.

        Args:
            topics: the bridge's topics.
            replies: publishes the replies.
            rules: the accepted payload sizes.
            urgent: whether the connection carries the urgent commands (`CommandDefinition.urgent`) or the others.
                Only the others are tried again.
        """
        self._topics = topics
        self._replies = replies
        self._urgent = urgent
        self.rules = rules

    def context(self, message: Message) -> CommandContext | None:
        """Return a message's context; None if its topic is not a command of this connection.

        A Response Topic that is not allowed is ignored, and so is one with too much Correlation Data to store; the
        public topics carry the replies anyway.
        """
        address = self._topics.parse(message.topic)
        if address is None or address.definition.urgent is not self._urgent:
            return None
        response_topic = message.response_topic
        correlation_data = message.correlation_data
        if (
            response_topic is None
            or not self._topics.allows_response_topic(response_topic)
            # Without its Correlation Data, the client could take the reply for the reply to another request.
            or (correlation_data is not None and len(correlation_data) > MAXIMUM_CORRELATION_DATA_LENGTH)
        ):
            response_topic = correlation_data = None
        origin = (Origin if self._urgent else RetriedOrigin)(
            source=shorten(message.topic, 200),
            response_topic=response_topic,
            correlation_data=correlation_data,
            assured=message.qos > 0,
        )
        return CommandContext(address, origin)

    def reply_incomplete(self, message: Message) -> None:
        """Reply `invalid` to a press whose topic lacks the last level; ignore messages on other topics."""
        topic = self._topics.completed(message.topic)
        address = None if topic is None else self._topics.parse(topic)
        if address is None or message.retain:
            return
        context = CommandContext(address, Origin(source=shorten(message.topic, 200), assured=message.qos > 0))
        self.reply_invalid(context, [Fault("topic", f"lacks its last level: publish on {shorten(str(topic), 200)}")])

    def read(self, message: Message, context: CommandContext, payload_bytes: int | None = None) -> Command | None:
        """Return the command of a message; None if it is invalid, after replying `invalid`.

        Args:
            message: the message.
            context: its context.
            payload_bytes: the size of the payload as received, if a payload beyond the limit was dropped.
        """
        size = len(message.payload) if payload_bytes is None else payload_bytes
        fault = self._find_fault(message, context.address, size)
        if fault is not None:
            self.reply_invalid(context, [fault], self._request_id(message, context.address, size))
            return None
        try:
            return context.address.definition.parse(message.payload, context.address.name)
        except InvalidCommandError as error:
            self.reply_invalid(context, error.faults, error.request_id)
            return None

    def reply_invalid(self, context: CommandContext, faults: Sequence[Fault], request_id: str | None = None) -> None:
        """Publish the reply to a command that cannot be carried out."""
        reply = self._builder(context, request_id).invalid(faults, group=_group_of(context))
        self._replies.publish(reply, context.origin)

    def reply_unavailable(self, context: CommandContext, reason: str, request_id: str | None = None) -> None:
        """Publish the reply to a command that the bridge cannot accept now."""
        builder = self._builder(context, request_id)
        reply = builder.unavailable(reason, delivered=False, group=_group_of(context))
        self._replies.publish(reply, context.origin)

    def reply_again(self, context: CommandContext, reply: Reply | GroupSummary) -> None:
        """Publish the last known reply to a command that arrived again and is not carried out again."""
        self._replies.publish_again(reply, context.origin)

    def _request_id(self, message: Message, address: Address, size: int) -> str | None:
        """Return the request id of a message that is invalid for another reason; None if it cannot be read."""
        if size > self.rules.max_bytes:
            return None
        try:
            return address.definition.parse(message.payload, address.name).request_id
        except InvalidCommandError as error:
            return error.request_id

    def _builder(self, context: CommandContext, request_id: str | None) -> ReplyBuilder:
        address = context.address
        sn = address.name if address.scope is Scope.TERMINAL and address.is_well_formed else None
        return self._replies.builder(address.definition.name, request_id, sn)

    def _find_fault(self, message: Message, address: Address, size: int) -> Fault | None:
        if not address.is_well_formed:
            name = "an SN" if address.scope is Scope.TERMINAL else "a group's name"
            return Fault("topic", f"{name} has 1 to 64 letters, digits, _ and -, not {shorten(address.name)!r}")
        if message.retain:
            if not size:
                return Fault("", "empty and retained: this clears a retained command; not carried out")
            return Fault("", "a retained command is not carried out: publish it without the retain flag")
        if message.dup and self._urgent:
            return Fault("", "the broker sent it twice: the first copy may have been carried out; not carried out")
        if size > self.rules.max_bytes:
            shown, limit = _shown_size(size), _shown_size(self.rules.max_bytes)
            return Fault("", f"has {shown}, at most {limit} are accepted: {self.rules.advice}")
        if not size and not self.rules.may_be_empty:
            return Fault(
                "", "empty: over MQTT 3.1.1 the clearing of a retained press looks the same; publish PRESS instead"
            )
        return None


def _shown_size(size: int) -> str:
    return f"{size:,} bytes" if size < 100_000 else f"{size / 1e6:.1f} MB"


def _group_of(context: CommandContext) -> str | None:
    address = context.address
    return address.name if address.scope is Scope.GROUP and address.is_well_formed else None
