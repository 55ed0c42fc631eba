"""A person that a terminal should hold, and the person's weekly hours.

To add a field, add an attribute to `Person` and an entry to `bridge.persons.fields`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from bridge.model.json_schema import JsonSchema, output_schema, text
from bridge.model.origin import split_stored
from bridge.model.reply import format_time

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""The days of a weekly rule, named as in the terminals' protocol (docs/protocol.md)."""

PhotoReference: TypeAlias = str
"""The name of a prepared photo: the SHA-256 of its bytes in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Weekly:
    """The hours of each weekday in which a person may pass.

    Attributes:
        ranges: one text for each of `WEEKDAYS`, in this order: `HH:MM-HH:MM`, ascending, joined with `;`; empty for a
            day without hours. The text is normalised, so equal rules compare equal.
    """

    ranges: tuple[str, str, str, str, str, str, str]

    def by_day(self) -> dict[str, str]:
        """Return the ranges by day, as terminals, replies and the store hold them."""
        return dict(zip(WEEKDAYS, self.ranges, strict=True))

    @classmethod
    def from_days(cls, days: Mapping[str, str]) -> "Weekly":
        """Read what `by_day` returned. Raises KeyError if a day is missing."""
        monday, tuesday, wednesday, thursday, friday, saturday, sunday = (days[day] for day in WEEKDAYS)
        return cls((monday, tuesday, wednesday, thursday, friday, saturday, sunday))


ALWAYS = Weekly.from_days(dict.fromkeys(WEEKDAYS, "00:00-23:59"))
"""Every hour of every day. Terminals are sent this after a weekly rule was removed."""


WEEKLY_SCHEMA: JsonSchema = output_schema(
    dict.fromkeys(WEEKDAYS, text("`HH:MM-HH:MM`, ascending, joined with `;`; empty for a day without hours")),
    title="Weekly",
    description="The hours of each weekday in which a person may pass.",
)
"""The schema of `Weekly.by_day`."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _to_datetime(seconds: float) -> datetime:
    # `datetime.fromtimestamp` rounds the binary fraction, which can give the neighbouring millisecond.
    return _EPOCH + timedelta(milliseconds=round(seconds * 1000))


@dataclass(frozen=True, slots=True)
class _JsonForm:
    """How a value other than None is written to JSON and read back."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_TIMESTAMP = {
    "form": _JsonForm(
        write=lambda seconds: format_time(_to_datetime(seconds)),
        read=lambda written: datetime.fromisoformat(written).timestamp(),
    )
}
_WEEKLY = {"form": _JsonForm(write=Weekly.by_day, read=Weekly.from_days)}
_ONLY_STORED = {"shown": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person that a terminal should let pass.

    `bridge.persons.fields` says what each field means and which values users may give. The metadata of an attribute
    say how its value is written to JSON, if JSON cannot hold the value itself, and whether replies show it.

    Attributes:
        id: unique on the terminal.
        name: text.
        card: text; None for no card.
        id_number: text; None for no number.
        photo: names the photo.
        valid_from: seconds since the epoch, whole milliseconds; None for no limit.
        valid_until: as `valid_from`.
        pass_count: 0 to 9999; None for no limit.
        visitor: whether the person is a visitor.
        weekly: None for no rule.
        weekly_taken_back: the person had a weekly rule and has none now. The protocol does not say that leaving the
            field out clears the terminal's rule, so from then on `ALWAYS` is sent.
        enabled: False keeps the person in the store, but not on the terminal.
        unknown: stored fields that this version does not know. A newer version wrote them; they are stored again
            unchanged and not shown.
    """

    id: str
    name: str = field(repr=False)
    card: str | None = field(default=None, repr=False)
    id_number: str | None = field(default=None, repr=False)
    photo: PhotoReference = field(metadata=_ONLY_STORED)
    valid_from: float | None = field(default=None, metadata=_TIMESTAMP)
    valid_until: float | None = field(default=None, metadata=_TIMESTAMP)
    pass_count: int | None = None
    visitor: bool = False
    weekly: Weekly | None = field(default=None, metadata=_WEEKLY)
    weekly_taken_back: bool = field(default=False, metadata=_ONLY_STORED)
    enabled: bool = True
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def expires_at(self) -> datetime | None:
        """The time at which `valid_until` is over; None for never."""
        return None if self.valid_until is None else _to_datetime(self.valid_until)

    def as_json(self) -> dict[str, Any]:
        """Return what a reply shows: the fields without the photo. A user may send it back as a change."""
        stored = self.as_stored()
        return {name: stored[name] for name in SHOWN_FIELDS}

    def as_stored(self) -> dict[str, Any]:
        """Return the JSON object that `from_stored` reads."""
        return {**self.unknown, **fields_as_stored({name: getattr(self, name) for name in STORED_FIELDS})}

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "Person":
        """Read what `as_stored` returned, in this or in another version. A field that is missing gets its default."""
        known, unknown = split_stored(cls, stored)
        return cls(**fields_from_stored(known), unknown=unknown)


def fields_as_stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return some attributes of a person as JSON can hold them."""
    stored = dict(values)
    for name, form in _FORMS.items():
        if stored.get(name) is not None:
            stored[name] = form.write(stored[name])
    return stored


def fields_from_stored(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `fields_as_stored` returned."""
    values = dict(stored)
    for name, form in _FORMS.items():
        if values.get(name) is not None:
            values[name] = form.read(values[name])
    return values


STORED_FIELDS = tuple(one.name for one in fields(Person) if one.name != "unknown")
"""The names of the fields in the store."""

SHOWN_FIELDS = tuple(
    one.name for one in fields(Person) if one.name in STORED_FIELDS and one.metadata.get("shown", True)
)
"""The names of the fields that replies and exports show, in their order."""

_FORMS: Mapping[str, _JsonForm] = {one.name: one.metadata["form"] for one in fields(Person) if "form" in one.metadata}
