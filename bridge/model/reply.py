"""Outcomes, replies and the summaries of groups."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bridge.model.faults import FAULT_SCHEMA, Fault
from bridge.model.json_schema import TIME, JsonSchema, Vocabulary, described, nullable, output_schema, reference, text
from bridge.model.names import (
    ALL_TERMINALS,
    GROUP_NAME_SCHEMA,
    PERSON_ID_SCHEMA,
    REQUEST_ID_SCHEMA,
    SERIAL_NUMBER_SCHEMA,
)
from bridge.model.origin import split_stored


class Outcome(Vocabulary):
    """The `outcome` of a reply (docs/mqtt.md). Automations compare these words, so they do not change."""

    OK = "ok", "the terminal answered with status 0, or the bridge has carried out the command"
    REFUSED = "refused", "the terminal answered with another status"
    ACCEPTED = "accepted", "a person change is stored and will be delivered; a final reply follows"
    SUPERSEDED = "superseded", "a later change of the same person replaced it before it was delivered"
    OFFLINE = (
        "offline",
        "the terminal is not connected; an open or reboot was not carried out and will not be",
    )
    TIMEOUT = (
        "timeout",
        "no answer by the deadline; with `delivered` false it was not carried out and will not be",
    )
    LOST = (
        "lost",
        "connection lost before the answer; with `delivered` false it was not carried out and will not be",
    )
    EXPIRED = "expired", "the command reached the bridge too late to be carried out safely; it was not carried out"
    INVALID = "invalid", "the command was not understood or is not allowed; `errors` says what is wrong and where"
    UNAVAILABLE = (
        "unavailable",
        "the bridge cannot accept it now; a change sent with QoS 1 is accepted as soon as it can",
    )


OUTCOME_SCHEMA = Outcome.schema("The outcome of a command.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply to one command for one terminal, group member or person (docs/mqtt.md).

    Attributes:
        command: `open`, `setPerson`, …: the name of a `CommandDefinition`.
        outcome: the outcome.
        at: when the command ended, with an offset.
        request_id: as in the command.
        msgid: the id of the frame that the terminal answered, if one was sent.
        sn: the terminal; None for a command to a group or the bridge.
        group: set only for an `invalid` command to a group.
        person_id: the person that was changed; None for everyone and for other commands.
        status: the terminal's status, 0 for success.
        message: the terminal's or the bridge's text.
        delivered: True if the terminal's side has acknowledged the frame; False if no byte of it was sent; None if it
            was sent and not acknowledged, or if this does not apply.
        duration_ms: milliseconds from receiving the command to this reply.
        faults: what is wrong, if the outcome is `invalid`.
        persons: what `getPersons` found, without photos: JSON objects, already encoded ones among them.
        is_repeated: whether it is the last known reply to a command that arrived again; not published or stored.
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
    persons: Sequence[Any] | None = None
    is_repeated: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the published form, with `group`, `errors` and `persons` only if they apply."""
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

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "Reply":
        """Read what `as_json` returned, in this or in another version.

        Fields that this version does not know are dropped: a stored reply is published once and never written again.
        """
        known, other = split_stored(cls, stored)
        read = {
            "outcome": Outcome(known["outcome"]),
            "at": datetime.fromisoformat(known["at"]),
            "faults": tuple(Fault(fault["path"], fault["message"]) for fault in other.get("errors", ())),
        }
        return cls(**{**known, **read})


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedReplies:
    """Replies that several terminals have in common.

    Attributes:
        sns: the terminals; None stands for replies that belong to no terminal.
        replies: of the first terminal.
    """

    sns: Sequence[str | None]
    replies: Sequence[Reply]

    def each(self, sns: Collection[str]) -> Iterator[Reply]:
        """Yield the replies of those of the terminals that are among `sns`, and those that belong to no terminal."""
        for sn in self.sns:
            if sn is None or sn in sns:
                for reply in self.replies:
                    yield reply if reply.sn == sn else replace(reply, sn=sn)


STATUS_SCHEMA: JsonSchema = {"type": ["integer", "null"], "description": "the terminal's status, 0 for success"}
MESSAGE_SCHEMA: JsonSchema = nullable(text("the terminal's or the bridge's text, for people"))
COMMAND_NAME_REFERENCE: JsonSchema = reference("CommandName")
"""`bridge.core.commands` declares the names."""
_EXAMPLE_TIME = "2026-11-24T08:00:00.123+00:00"

REPLY_SCHEMA: JsonSchema = output_schema(
    {
        "request_id": REQUEST_ID_SCHEMA,
        "msgid": nullable(text("the id of the frame that the terminal answered")),
        "sn": described(nullable(SERIAL_NUMBER_SCHEMA), "the terminal; null if none is addressed"),
        "command": COMMAND_NAME_REFERENCE,
        "person_id": described(
            nullable(PERSON_ID_SCHEMA),
            "the changed person; null for everyone, other commands, and unreadable ids",
        ),
        "outcome": OUTCOME_SCHEMA,
        "status": STATUS_SCHEMA,
        "message": MESSAGE_SCHEMA,
        "delivered": {
            "type": ["boolean", "null"],
            "description": "true if the terminal's side has acknowledged the frame; false if no byte of it was sent, "
            "so that it will never be carried out; null if it was sent and not acknowledged, or if this does not apply",
        },
        "at": described(TIME, "when the command ended"),
        "duration_ms": {
            "type": ["number", "null"],
            "description": "milliseconds from receiving the command to this reply",
        },
        "group": described(GROUP_NAME_SCHEMA, "only if a command to a group was invalid as a whole"),
        "errors": {
            "type": "array",
            "items": FAULT_SCHEMA,
            "minItems": 1,
            "description": "all faults, if the outcome is `invalid`",
        },
        "persons": {
            "type": "array",
            "items": reference("PersonEntry"),
            "description": "the persons that the terminal should hold and the removals that it has not confirmed, if "
            "`getPersons` ended with `ok`; if the command has a Response Topic, only there",
        },
    },
    sometimes=("group", "errors", "persons"),
    title="Reply",
    description="The reply to one command for one terminal or one person. A command with several persons has one reply "
    "for each person, all with its `request_id`.",
    examples=[
        {
            "request_id": "r1",
            "msgid": "4f4d2a99-2355-46e2-b617-bcb89985d15f",
            "sn": "FEDCBA9876543210",
            "command": "open",
            "person_id": None,
            "outcome": "ok",
            "status": 0,
            "message": "ok",
            "delivered": True,
            "at": _EXAMPLE_TIME,
            "duration_ms": 12.4,
        }
    ],
)
"""The schema of `Reply.as_json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """The outcomes of a command on the members of a group.

    Attributes:
        command: the name of a `CommandDefinition`.
        group: the group's name.
        total: the number of members; for persons, members times persons.
        outcomes: how often each outcome occurred.
        failed: by serial number, the first outcome of each member that was neither `ok` nor `accepted`.
        at: when the command ended on the last member.
        request_id: as in the command.
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
        """Return the summary of the members' replies."""
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


GROUP_SUMMARY_SCHEMA: JsonSchema = output_schema(
    {
        "request_id": REQUEST_ID_SCHEMA,
        "command": COMMAND_NAME_REFERENCE,
        "group": described(GROUP_NAME_SCHEMA, f"the group; `{ALL_TERMINALS}` is every known terminal"),
        "total": {
            "type": "integer",
            "minimum": 0,
            "description": "members; for persons, members times persons; 0 for persons removed from a group without "
            "members",
        },
        "outcomes": {
            "type": "object",
            "propertyNames": OUTCOME_SCHEMA,
            "additionalProperties": {"type": "integer", "minimum": 1},
            "description": "how often each outcome occurred",
        },
        "failed": {
            "type": "object",
            "propertyNames": SERIAL_NUMBER_SCHEMA,
            "additionalProperties": OUTCOME_SCHEMA,
            "description": "by serial number, the first outcome of each member that was neither `ok` nor `accepted`",
        },
        "at": described(TIME, "when the command ended on the last member"),
    },
    title="GroupSummary",
    description="The outcomes of a command on the members of a group, when it has ended on all of them. For persons it "
    "ends with `accepted`.",
    examples=[
        {
            "request_id": "r2",
            "command": "open",
            "group": "lobby",
            "total": 3,
            "outcomes": {"ok": 2, "offline": 1},
            "failed": {"FEDCBA9876543210": "offline"},
            "at": _EXAMPLE_TIME,
        }
    ],
)
"""The schema of `GroupSummary.as_json`."""


def format_time(at: datetime) -> str:
    """Return a time as payloads contain it: ISO 8601 with milliseconds and an offset."""
    return at.isoformat(timespec="milliseconds")
