"""What is written down of every command."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.model.faults import shorten
from bridge.model.names import MAXIMUM_REQUEST_ID_LENGTH
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import Reply, format_time

_LONGEST_MESSAGE = 200
"""Characters of a message that are kept: what a terminal says may be longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """Who asked for what when, and how it ended. A person change has two: `accepted`, and its last word.

    Attributes:
        at: when it ended so, with an offset.
        command: `open`, `setPerson`, …
        sn: the terminal.
        group: set only where a command for a group was invalid.
        person_id: whose change it was.
        request_id: what the command carried.
        source: the topic, the API's route, or the command of the command line it came in by.
        user: who, where that is known.
        outcome: how it ended.
        status: the terminal's number.
        message: the terminal's or the bridge's text, cut.
        duration_ms: milliseconds from taking the command to this end.
        id: given by the store, growing.
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
        """Take down a reply and who asked for it."""
        return cls(
            at=reply.at,
            command=reply.command,
            sn=reply.sn,
            group=reply.group,
            person_id=reply.person_id,
            # A database may not take every character that JSON does.
            request_id=None if reply.request_id is None else shorten(reply.request_id, MAXIMUM_REQUEST_ID_LENGTH),
            source=origin.source,
            user=origin.user,
            outcome=reply.outcome,
            status=reply.status,
            message=None if reply.message is None else shorten(reply.message, _LONGEST_MESSAGE),
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
