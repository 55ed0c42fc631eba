"""The events that parts of the bridge publish to each other; each docstring is the event's reference."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar

from bridge.model.json_schema import TIME, JsonSchema, described, nullable, output_schema, text
from bridge.model.names import GROUP_NAME_SCHEMA, REQUEST_ID_SCHEMA, SERIAL_NUMBER_SCHEMA
from bridge.model.origin import Origin
from bridge.model.reply import COMMAND_NAME_REFERENCE, MESSAGE_SCHEMA, GroupSummary, Reply, format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all events.

    Attributes:
        at: when it happened, with an offset.
    """

    at: datetime


def _published(schema: JsonSchema) -> Any:
    """Declare an attribute that is published, with its schema."""
    return field(metadata={"schema": schema})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicEvent(Event):
    """An event that is published outside the bridge. `type` names it; the docstring's first line describes it."""

    type: ClassVar[str]

    def as_json(self) -> dict[str, Any]:
        """Return the published form."""
        details = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "at"}
        return {"type": self.type, "at": format_time(self.at), **details}

    @classmethod
    def schema(cls) -> JsonSchema:
        """Return the schema of the published form. Raises KeyError for an attribute without a schema."""
        details = {one.name: one.metadata["schema"] for one in fields(cls) if one.name != "at"}
        meaning = (cls.__doc__ or "").partition("\n")[0]
        return output_schema(
            {"type": {"const": cls.type}, "at": described(TIME, "when it happened"), **details},
            title=cls.__name__,
            description=meaning,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalConnected(Event):
    """A terminal is connected; `replaced` says whether its new connection replaced an older one."""

    sn: str
    address: str
    replaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalDisconnected(Event):
    """A terminal's last connection is closed. Not sent for a connection that another one has replaced."""

    sn: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalPending(PublicEvent):
    """A terminal with correct credentials waits for approval."""

    type = "terminal_pending"

    sn: str = _published(SERIAL_NUMBER_SCHEMA)
    address: str = _published(text("the address that it connected from"))
    reason: str = _published(text("why it may not connect yet, for people"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalRefused(PublicEvent):
    """A connection to the terminals' server was refused."""

    type = "terminal_refused"

    sn: str = _published(text("the serial number that the client gave, well-formed or not"))
    address: str = _published(text("the address that the client connected from"))
    reason: str = _published(text("why it was refused, for people"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalReplaced(PublicEvent):
    """A second connection with the same SN took over, so the first one was reset."""

    type = "terminal_replaced"

    sn: str = _published(SERIAL_NUMBER_SCHEMA)
    address: str = _published(text("the address of the new connection"))
    previous_address: str = _published(text("the address of the connection that was reset"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAdmitted(PublicEvent):
    """A terminal has become known, or its name, area or groups have changed."""

    type = "terminal_admitted"

    sn: str = _published(SERIAL_NUMBER_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalForgotten(PublicEvent):
    """A terminal is no longer known; its topics and entities have to be cleared."""

    type = "terminal_forgotten"

    sn: str = _published(SERIAL_NUMBER_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChanged(Event):
    """The list of terminals that wait for approval has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditWritten(Event):
    """The audit (`bridge.core.audit`) has stored records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningsChanged(Event):
    """The warnings about the bridge (`bridge.core.bridge_warnings`) have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoDamaged(Event):
    """A photo was to be sent and is damaged in the store."""

    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePartDamaged(Event):
    """A part of the store that a change or an answer needs is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsChanged(Event):
    """A terminal's person counts have changed; sent after the commit."""

    sn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReplied(Event):
    """A command has its reply, whichever adapter received it; `in_group`: the command addressed a group."""

    reply: Reply
    origin: Origin
    in_group: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSettled(Event):
    """A person change has its final reply, which the outbox publishes; sent after the commit."""

    reply: Reply
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReplied(Event):
    """A command has ended on every member of a group."""

    summary: GroupSummary
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPersonChanged(Event):
    """A person that a group keeps was changed, and no terminal has a reply that says so.

    The reply is not published: it is for the audit. It has the group and no terminal.
    """

    reply: Reply
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRepeated(Event):
    """A command arrived again and is not carried out again; `reply` is its last known one, to be published again.

    Not a `CommandReplied`: the audit and the metrics count a command once.
    """

    reply: Reply | GroupSummary
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownReply(Event):
    """A terminal answered a msgid that no request waits for: late, repeated or invented."""

    sn: str
    msgid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalMessage(Event):
    """A terminal sent a text frame that the protocol does not know. It can name persons."""

    sn: str
    frame: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandInvalid(PublicEvent):
    """A command was not understood or is not allowed; derived from its `CommandReplied`."""

    type = "command_invalid"

    sn: str | None = _published(described(nullable(SERIAL_NUMBER_SCHEMA), "the terminal it was for"))
    group: str | None = _published(described(nullable(GROUP_NAME_SCHEMA), "the group it was for"))
    command: str = _published(COMMAND_NAME_REFERENCE)
    request_id: str | None = _published(REQUEST_ID_SCHEMA)
    source: str = _published(text("the topic or the API route that it arrived on"))
    message: str | None = _published(MESSAGE_SCHEMA)

    @classmethod
    def of(cls, replied: CommandReplied) -> "CommandInvalid":
        """Return the event for an `invalid` reply."""
        reply = replied.reply
        return cls(
            at=replied.at,
            sn=reply.sn,
            group=reply.group,
            command=reply.command,
            request_id=reply.request_id,
            source=replied.origin.source,
            message=reply.message,
        )


TERMINAL_MESSAGE_SCHEMA: JsonSchema = output_schema(
    {
        "sn": SERIAL_NUMBER_SCHEMA,
        "at": described(TIME, "when the bridge received it"),
        "message": {"description": "what the terminal sent: its JSON, or text if it is not JSON"},
    },
    title="TerminalMessage",
    description="A message of a terminal that the protocol does not know; it can name persons.",
    examples=[
        {
            "sn": "FEDCBA9876543210",
            "at": "2026-11-24T08:00:00.123+00:00",
            "message": {"cmd": "pass", "sn": "FEDCBA9876543210", "msg": {"id": "1001", "ts": 1795507200}},
        }
    ],
)
"""The schema of what `bridge.mqtt.message_forwarding` publishes."""

PUBLIC_EVENTS: tuple[type[PublicEvent], ...] = (
    TerminalPending,
    TerminalRefused,
    TerminalReplaced,
    TerminalAdmitted,
    TerminalForgotten,
    CommandInvalid,
)
"""The events that are published on `B/bridge/event` (docs/mqtt.md)."""

PUBLIC_EVENT_SCHEMA: JsonSchema = {
    "title": "BridgeEvent",
    "description": "An event that people may want to know about; `type` says which.",
    "oneOf": [event.schema() for event in PUBLIC_EVENTS],
    "examples": [
        {
            "type": "terminal_pending",
            "at": "2026-11-24T08:00:00.123+00:00",
            "sn": "FEDCBA9876543210",
            "address": "192.0.2.17",
            "reason": "right credentials, but not known: approve it, or list it in the configuration",
        }
    ],
}
