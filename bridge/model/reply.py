"""What whoever asked is told."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.model.faults import Fault
from bridge.model.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to one command of one terminal, group member or person (CONTRACT, section 4).

    Attributes:
        command: `open`, `setPerson`, …: the name of a `CommandDefinition`.
        outcome: how it ended.
        at: when it ended, with an offset.
        request_id: what the command carried.
        msgid: the id of the frame that was answered, where one was sent.
        sn: the terminal, None for a command of a group or the bridge.
        group: set only on the `invalid` of a group command.
        person_id: whose change it was; None for everyone and for other commands.
        status: the terminal's number, 0 for success.
        message: the terminal's or the bridge's text.
        delivered: True once the terminal's side has taken the frame, False when it has not and never will,
            None where it does not apply or cannot be told.
        duration_ms: milliseconds from taking the command to this reply.
        faults: what is wrong, where the outcome is `invalid`.
        persons: what `getPersons` found, without photos.
    """

    command: str
    outcome: Outcome
    at: datetime
    request_id: str | None = None
    msgid: str | None = None
    sn: str | None = None
    group: str | None = None
    person_id: str | None = None
    status: int | None = None
    message: str | None = None
    delivered: bool | None = None
    duration_ms: float | None = None
    faults: tuple[Fault, ...] = ()
    persons: Sequence[Mapping[str, Any]] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the published form; `group`, `errors` and `persons` only where they apply."""
        published: dict[str, Any] = {
            "request_id": self.request_id,
            "msgid": self.msgid,
            "sn": self.sn,
            "command": self.command,
            "person_id": self.person_id,
            "outcome": self.outcome.value,
            "status": self.status,
            "message": self.message,
            "delivered": self.delivered,
            "at": format_time(self.at),
            "duration_ms": None if self.duration_ms is None else round(self.duration_ms, 1),
        }
        if self.group is not None:
            published["group"] = self.group
        if self.faults:
            published["errors"] = [fault.as_json() for fault in self.faults]
        if self.persons is not None:
            published["persons"] = list(self.persons)
        return published


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """How a command ended on the members of a group.

    Attributes:
        command: the name of a `CommandDefinition`.
        group: the group's name.
        total: members, for persons members times persons.
        outcomes: how many ended in which way.
        failed: the members whose (first) outcome was not what was hoped for, by SN.
        at: when the last member had ended.
        request_id: what the command carried.
    """

    command: str
    group: str
    total: int
    outcomes: Mapping[Outcome, int]
    failed: Mapping[str, Outcome]
    at: datetime
    request_id: str | None = None

    @classmethod
    def of(
        cls, replies: Sequence[Reply], *, command: str, group: str, at: datetime, request_id: str | None
    ) -> "GroupSummary":
        """Sum up the members' replies."""
        failed: dict[str, Outcome] = {}
        for reply in replies:
            if reply.outcome not in (Outcome.OK, Outcome.ACCEPTED) and reply.sn is not None:
                failed.setdefault(reply.sn, reply.outcome)
        return cls(
            command=command,
            group=group,
            total=len(replies),
            outcomes=Counter(reply.outcome for reply in replies),
            failed=failed,
            at=at,
            request_id=request_id,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the published form."""
        return {
            "request_id": self.request_id,
            "command": self.command,
            "group": self.group,
            "total": self.total,
            "outcomes": {outcome.value: count for outcome, count in self.outcomes.items()},
            "failed": {sn: outcome.value for sn, outcome in self.failed.items()},
            "at": format_time(self.at),
        }


def format_time(at: datetime) -> str:
    """Write a time as every payload does: ISO 8601 with milliseconds and an offset."""
    return at.isoformat(timespec="milliseconds")
