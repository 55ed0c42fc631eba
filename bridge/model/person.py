"""A person as a terminal should hold them, and their weekly hours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from bridge.model.json_schema import TIME, JsonSchema, described, nullable, output_schema, text
from bridge.model.names import PERSON_ID_SCHEMA
from bridge.model.reply import format_time

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""The days of a weekly rule, as the terminals call them (PROTOCOL, setPerson)."""

PhotoReference: TypeAlias = str
"""Names a prepared photo: the SHA-256 of its bytes, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Weekly:
    """The hours of each day of the week in which somebody may pass.

    Attributes:
        ranges: of each of `WEEKDAYS`, in their order: `"HH:MM-HH:MM"`, ascending, joined with `;`; empty for a day
            without. Being normalised, equal rules compare equal.
    """

    ranges: tuple[str, str, str, str, str, str, str]

    def by_day(self) -> dict[str, str]:
        """Return the ranges by day, as terminals, replies and the store have them."""
        return dict(zip(WEEKDAYS, self.ranges, strict=True))

    @classmethod
    def from_days(cls, days: Mapping[str, str]) -> "Weekly":
        """Build the rule of which `by_day` is this."""
        monday, tuesday, wednesday, thursday, friday, saturday, sunday = (days[day] for day in WEEKDAYS)
        return cls((monday, tuesday, wednesday, thursday, friday, saturday, sunday))


ALWAYS = Weekly.from_days(dict.fromkeys(WEEKDAYS, "00:00-23:59"))
"""Every hour of every day: what is sent once a rule was taken back."""


WEEKLY_SCHEMA: JsonSchema = output_schema(
    dict.fromkeys(WEEKDAYS, text("`HH:MM-HH:MM`, ascending, joined with `;`; empty for none")),
    title="Weekly",
    description="The hours of each day of the week in which somebody may pass.",
)
"""What `Weekly.by_day` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody a terminal should let pass.

    Attributes:
        id: who, unique on the terminal.
        name: what the terminal shows.
        card: card number; None for none.
        id_number: identity-card number; None for none.
        photo: which picture.
        valid_from: may pass from then on, in seconds since the epoch, whole milliseconds; None for no limit.
        valid_until: may pass until then, likewise.
        pass_count: passes allowed within that time, 0 to 9999; None for no limit.
        visitor: whether they are a visitor.
        weekly: the hours in which they may pass; None for no rule.
        weekly_taken_back: there was a rule once and there is none now. That leaving the field out clears the rule a
            terminal has is not documented, so from then on it is sent `ALWAYS`.
        enabled: False keeps them here, but not on the terminal.
    """

    id: str
    name: str = field(repr=False)
    card: str | None = field(default=None, repr=False)
    id_number: str | None = field(default=None, repr=False)
    photo: PhotoReference
    valid_from: float | None = None
    valid_until: float | None = None
    pass_count: int | None = None
    visitor: bool = False
    weekly: Weekly | None = None
    weekly_taken_back: bool = False
    enabled: bool = True

    @property
    def expires_at(self) -> datetime | None:
        """When `valid_until` is over, None for never."""
        return None if self.valid_until is None else _moment(self.valid_until)

    def as_json(self) -> dict[str, Any]:
        """Return what a reply shows (CONTRACT, section 4), without the photo; it may be given back as a change."""
        return {
            "id": self.id,
            "name": self.name,
            "card": self.card,
            "id_number": self.id_number,
            "valid_from": _format_moment(self.valid_from),
            "valid_until": _format_moment(self.valid_until),
            "pass_count": self.pass_count,
            "visitor": self.visitor,
            "weekly": None if self.weekly is None else self.weekly.by_day(),
            "enabled": self.enabled,
        }

    def as_stored(self) -> dict[str, Any]:
        """Return the JSON of which `from_stored` makes the same person."""
        return {**self.as_json(), "photo": self.photo, "weekly_taken_back": self.weekly_taken_back}

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "Person":
        """Return the person that `as_stored` was called on."""
        read = {
            "valid_from": _read_moment(stored["valid_from"]),
            "valid_until": _read_moment(stored["valid_until"]),
            "weekly": None if stored["weekly"] is None else Weekly.from_days(stored["weekly"]),
        }
        return cls(**{**stored, **read})


PERSON_PROPERTIES: Mapping[str, JsonSchema] = {
    "id": PERSON_ID_SCHEMA,
    "name": {"type": "string", "description": "what the terminal shows"},
    "card": {"type": ["string", "null"], "description": "card number"},
    "id_number": {"type": ["string", "null"], "description": "identity-card number"},
    "valid_from": described(nullable(TIME), "may pass from then on; null for no limit"),
    "valid_until": described(nullable(TIME), "may pass until then; null for no limit"),
    "pass_count": {"type": ["integer", "null"], "minimum": 0, "description": "passes allowed; null for no limit"},
    "visitor": {"type": "boolean", "description": "whether they are a visitor"},
    "weekly": nullable(WEEKLY_SCHEMA),
    "enabled": {"type": "boolean", "description": "false: kept by the bridge, but not on the terminal"},
}
"""What `Person.as_json` gives."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(seconds: float) -> datetime:
    # `datetime.fromtimestamp` would leave it to the binary fraction which millisecond it is.
    return _EPOCH + timedelta(milliseconds=round(seconds * 1000))


def _format_moment(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(_moment(seconds))


def _read_moment(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
