"""Every event that goes round inside the bridge; each docstring is its reference."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar

from bridge.model.json_schema import TIME, JsonSchema, described, nullable, output_schema, text
from bridge.model.names import GROUP_NAME_SCHEMA, REQUEST_ID_SCHEMA, SERIAL_NUMBER_SCHEMA
from bridge.model.origin import Origin
from bridge.model.reply import COMMAND_NAME_REFERENCE, MESSAGE_SCHEMA, GroupSummary, Reply, format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event has.

    Attributes:
        at: when it happened, with an offset.
    """

    at: datetime


def _told(schema: JsonSchema) -> Any:
    """Declare an attribute that is published, with its schema."""
    return field(metadata={"schema": schema})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicEvent(Event):
    """An event that the outside is told, under a name of its own; the docstring's first line is what it means."""

    type: ClassVar[str]

    def as_json(self) -> dict[str, Any]:
        """Return the published form."""
        details = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "at"}
        return {"type": self.type, "at": format_time(self.at), **details}

    @classmethod
    def schema(cls) -> JsonSchema:
        """Return the schema of the published form. Raises KeyError for an attribute that was declared without one."""
        details = {one.name: one.metadata["schema"] for one in fields(cls) if one.name != "at"}
        meaning = (cls.__doc__ or "").partition("\n")[0]
        return output_schema(
            {"type": {"const": cls.type}, "at": described(TIME, "when it happened"), **details},
            title=cls.__name__,
            description=meaning,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalConnected(Event):
    """A terminal is connected; `replaced` where its new connection took the place of an older one."""

    sn: str
    address: str
    replaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalDisconnected(Event):
    """A terminal's last connection is gone. Not sent for a connection that another has replaced."""

    sn: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalPending(PublicEvent):
    """A terminal with right credentials waits for approval."""

    type = "terminal_pending"

    sn: str = _told(SERIAL_NUMBER_SCHEMA)
    address: str = _told(text("where it tried to connect from"))
    reason: str = _told(text("why it may not yet, for people"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalRefused(PublicEvent):
    """Somebody was turned away at the terminals' door."""

    type = "terminal_refused"

    sn: str = _told(text("the serial number they gave, well-formed or not"))
    address: str = _told(text("where they tried to connect from"))
    reason: str = _told(text("why, for people"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAdmitted(PublicEvent):
    """A terminal has become known, or its name, area or groups have changed."""

    type = "terminal_admitted"

    sn: str = _told(SERIAL_NUMBER_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalForgotten(PublicEvent):
    """A terminal is no longer known; its topics and entities are to be cleared."""

    type = "terminal_forgotten"

    sn: str = _told(SERIAL_NUMBER_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChanged(Event):
    """The list of terminals that wait for approval has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsChanged(Event):
    """A terminal's person counts have changed; sent after the commit."""

    sn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReplied(Event):
    """A command has its answer, whichever face it came in by."""

    reply: Reply
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSettled(Event):
    """A person change has its last word, which the outbox tells whoever asked; sent after the commit."""

    reply: Reply
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReplied(Event):
    """Every member of a group has ended."""

    summary: GroupSummary
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownReply(Event):
    """A terminal answered a msgid that nothing waits for: late, doubled or invented."""

    sn: str
    msgid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandInvalid(PublicEvent):
    """A command was not understood or is not allowed; made of its `CommandReplied` for the outside."""

    type = "command_invalid"

    sn: str | None = _told(described(nullable(SERIAL_NUMBER_SCHEMA), "the terminal it was for"))
    group: str | None = _told(described(nullable(GROUP_NAME_SCHEMA), "the group it was for"))
    command: str = _told(COMMAND_NAME_REFERENCE)
    request_id: str | None = _told(REQUEST_ID_SCHEMA)
    source: str = _told(text("the topic or the API's route it came in by"))
    message: str | None = _told(MESSAGE_SCHEMA)

    @classmethod
    def of(cls, replied: CommandReplied) -> "CommandInvalid":
        """Make the event of an `invalid` reply."""
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


PUBLIC_EVENTS: tuple[type[PublicEvent], ...] = (
    TerminalPending,
    TerminalRefused,
    TerminalAdmitted,
    TerminalForgotten,
    CommandInvalid,
)
"""What is published, `B/bridge/event`'s vocabulary (CONTRACT, section 4)."""

PUBLIC_EVENT_SCHEMA: JsonSchema = {
    "title": "BridgeEvent",
    "description": "Something happened that people may want to know; `type` says what.",
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
