"""Audit records of commands."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.model.faults import shorten
from bridge.model.json_schema import TIME, JsonSchema, described, nullable, output_schema, text
from bridge.model.names import (
    GROUP_NAME_SCHEMA,
    MAXIMUM_REQUEST_ID_LENGTH,
    PERSON_ID_SCHEMA,
    REQUEST_ID_SCHEMA,
    SERIAL_NUMBER_SCHEMA,
)
from bridge.model.origin import Origin
from bridge.model.reply import (
    COMMAND_NAME_REFERENCE,
    MESSAGE_SCHEMA,
    OUTCOME_SCHEMA,
    STATUS_SCHEMA,
    Outcome,
    Reply,
    format_time,
)

_MAXIMUM_MESSAGE_LENGTH = 200
"""Characters of a message that are kept. A terminal may send longer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One command, who sent it, and its outcome. A person change has two records: `accepted`, and the final reply.

    Attributes:
        at: when it ended with this outcome; with an offset.
        command: `open`, `setPerson`, …
        sn: the terminal; None if none was addressed.
        group: the group, if the record is of no terminal: a command for the group was invalid, or it changed persons
            that only the group keeps.
        person_id: the person that was changed.
        request_id: as in the command.
        source: the topic, the API route, or the command of the command line that it arrived on.
        user: the user, if known.
        outcome: the outcome.
        status: the terminal's status, 0 for success.
        message: the terminal's or the bridge's text, shortened.
        duration_ms: milliseconds from receiving the command to this outcome.
        id: assigned by the store, ascending.
    """

    at: datetime
    command: str
    sn: str | None
    group: str | None
    person_id: str | None
    request_id: str | None
    source: str
    user: str | None
    outcome: Outcome
    status: int | None
    message: str | None
    duration_ms: float | None
    id: int = 0

    @classmethod
    def of(cls, reply: Reply, origin: Origin) -> "AuditRecord":
        """Return the record of a reply and the origin of its command."""
        return cls(
            at=reply.at,
            command=reply.command,
            sn=reply.sn,
            group=reply.group,
            person_id=reply.person_id,
            # A database may not accept every character that JSON does.
            request_id=None if reply.request_id is None else shorten(reply.request_id, MAXIMUM_REQUEST_ID_LENGTH),
            source=origin.source,
            user=origin.user,
            outcome=reply.outcome,
            status=reply.status,
            message=None if reply.message is None else shorten(reply.message, _MAXIMUM_MESSAGE_LENGTH),
            duration_ms=reply.duration_ms,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `facebridge log --json` shows."""
        return {
            "id": self.id,
            "at": format_time(self.at),
            "command": self.command,
            "sn": self.sn,
            "group": self.group,
            "person_id": self.person_id,
            "request_id": self.request_id,
            "source": self.source,
            "user": self.user,
            "outcome": self.outcome.value,
            "status": self.status,
            "message": self.message,
            "duration_ms": None if self.duration_ms is None else round(self.duration_ms, 1),
        }


AUDIT_RECORD_SCHEMA: JsonSchema = output_schema(
    {
        "id": {"type": "integer", "minimum": 1, "description": "ascending"},
        "at": described(TIME, "when it ended with this outcome"),
        "command": COMMAND_NAME_REFERENCE,
        "sn": described(nullable(SERIAL_NUMBER_SCHEMA), "the terminal; null if none was addressed"),
        "group": described(
            nullable(GROUP_NAME_SCHEMA),
            "set if the record is of no terminal: a command for the group was "
            "invalid, or it changed persons that only the group keeps",
        ),
        "person_id": described(nullable(PERSON_ID_SCHEMA), "the changed person"),
        "request_id": REQUEST_ID_SCHEMA,
        "source": text("the topic, the API route or the command of the command line that it arrived on"),
        "user": nullable(text("the user, if known")),
        "outcome": OUTCOME_SCHEMA,
        "status": STATUS_SCHEMA,
        "message": MESSAGE_SCHEMA,
        "duration_ms": {
            "type": ["number", "null"],
            "description": "milliseconds from receiving the command to this outcome",
        },
    },
    title="AuditRecord",
    description="One command, who sent it, and its outcome. A person change has two records: `accepted`, and the final "
    "reply.",
)
"""The schema of `AuditRecord.as_json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """The records to return; None or an empty collection selects all.

    Attributes:
        since: not older than this.
        until: not younger than this.
        sns: of these terminals.
        person_id: of this person.
        commands: of these commands.
        outcomes: with these outcomes.
        user: requested by this user.
        request_id: with this request id.
    """

    since: datetime | None = None
    until: datetime | None = None
    sns: Collection[str] = ()
    person_id: str | None = None
    commands: Collection[str] = ()
    outcomes: Collection[Outcome] = ()
    user: str | None = None
    request_id: str | None = None
