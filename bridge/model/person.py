"""A person as a terminal should hold them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""The days of a weekly rule, as the terminals call them (PROTOCOL, setPerson)."""


@dataclass(frozen=True, slots=True)
class Weekly:
    """When within a week somebody may pass.

    Attributes:
        ranges: of each day of `DAYS`, in their order, `"HH:MM-HH:MM"` joined with `;`; empty for a day without.
    """

    ranges: tuple[str, str, str, str, str, str, str]

    def by_day(self) -> dict[str, str]:
        """Return the ranges by day, as terminals and replies have them."""
        return dict(zip(DAYS, self.ranges, strict=True))


ALWAYS = Weekly(("00:00-23:59",) * 7)
"""What is sent once a rule was taken back: whether leaving it out clears the old one is not documented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody a terminal should let pass.

    Attributes:
        id: who.
        name: what the terminal shows.
        card: card number.
        id_number: identity-card number.
        photo: the SHA-256 of their prepared photo, in hex.
        valid_from: seconds since 1970 before which they may not pass; None for no limit.
        valid_until: seconds since 1970 after which they may not pass; None for no limit.
        pass_count: passes within that time, 0 to 9999; None for no limit.
        visitor: whether the terminal counts them as one.
        weekly: hours within the week; None for no rule.
        weekly_taken_back: whether there was a rule once; then the terminal is told that there is none.
        enabled: False keeps them here, but not on the terminal.
    """

    id: str
    name: str = field(repr=False)
    card: str | None = field(default=None, repr=False)
    id_number: str | None = field(default=None, repr=False)
    photo: str
    valid_from: float | None = None
    valid_until: float | None = None
    pass_count: int | None = None
    visitor: bool = False
    weekly: Weekly | None = None
    weekly_taken_back: bool = False
    enabled: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return what a reply shows: the fields of CONTRACT, section 4, without the photo."""
        return {
            "id": self.id,
            "name": self.name,
            "card": self.card,
            "id_number": self.id_number,
            "valid_from": _as_time(self.valid_from),
            "valid_until": _as_time(self.valid_until),
            "pass_count": self.pass_count,
            "visitor": self.visitor,
            "weekly": None if self.weekly is None else self.weekly.by_day(),
            "enabled": self.enabled,
        }

    def as_stored(self) -> dict[str, Any]:
        """Return what `from_stored` makes the same person of."""
        stored = asdict(self)
        stored["weekly"] = None if self.weekly is None else list(self.weekly.ranges)
        return stored

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "Person":
        """Return the person that `as_stored` was called on."""
        weekly = stored["weekly"]
        return cls(**{**stored, "weekly": None if weekly is None else Weekly(tuple(weekly))})


def _as_time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
