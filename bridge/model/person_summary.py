"""Persons over all terminals: what a search looks for, and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.model.json_schema import TIME, JsonSchema, described, nullable, output_schema, text
from bridge.model.names import PERSON_ID_SCHEMA
from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, GroupPerson, PersonEntry
from bridge.model.reply import format_time
from bridge.model.terminal import PERSON_COUNTS_SCHEMA, PersonCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFilter:
    """The persons to return; None selects all.

    Attributes:
        q: a part of the id or the name, in upper or lower case.
        delivery: with a change in this state.
    """

    q: str | None = None
    delivery: DeliveryState | None = None


EVERY_PERSON = PersonFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSummary:
    """One person over all terminals.

    Attributes:
        id: the id.
        person: the values of the newest change on any terminal, or else in any group; None if every terminal is to
            remove the person.
        counts: the terminals that should hold the person, and the states of the changes.
        changed_at: the newest time at which a change was requested or answered.
    """

    id: str
    person: Person | None
    counts: PersonCounts
    changed_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return what `GET /api/persons` shows."""
        return {
            "id": self.id,
            "name": None if self.person is None else self.person.name,
            "terminals": self.counts.as_json(),
            "changed_at": format_time(self.changed_at),
        }


PERSON_SUMMARY_SCHEMA: JsonSchema = output_schema(
    {
        "id": PERSON_ID_SCHEMA,
        "name": nullable(text("the name; null if every terminal is to remove the person")),
        "terminals": described(PERSON_COUNTS_SCHEMA, "the terminals that should hold the person, and their changes"),
        "changed_at": described(TIME, "when the newest change was requested, or last answered"),
    },
    title="PersonSummary",
    description="One person over all terminals.",
)
"""The schema of `PersonSummary.as_json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonEverywhere:
    """One person with the terminals that hold the person or have to remove the person, and the groups.

    Attributes:
        summary: over all terminals.
        entries: a page of the terminals, by SN.
        total: the number of the terminals.
        more: whether there are terminals after this page.
        groups: the groups that keep the person, by name.
    """

    summary: PersonSummary
    entries: Sequence[PersonEntry]
    total: int
    more: bool
    groups: Sequence[GroupPerson] = ()
