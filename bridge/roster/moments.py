"""When somebody may pass: times as users write them, in seconds since 1970."""

import math
import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Before 1970 a terminal's clock never was, and -1 means no limit there; after 9999 Python has no dates."""

_RULE = "must be a time like 2026-11-24T08:00, a date, seconds since 1970, or null for no limit"


def parse_moment(value: object, *, end: bool, timezone: tzinfo) -> float | None:
    """Read `valid_from` or `valid_until`.

    Args:
        value: ISO 8601, seconds since 1970, or None for no limit; -1 is the vendor's no limit.
        end: whether a date alone means its end, not its start.
        timezone: of a time without an offset.

    Raises:
        ValueError: with what would be right.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _within(_parse_text(value.strip(), end=end, timezone=timezone))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(_RULE)
    return None if value == -1 else _within(float(value))


def _parse_text(text: str, *, end: bool, timezone: tzinfo) -> float:
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text)
            moment = datetime.combine(day, time(23, 59, 59) if end else time(), timezone)
        else:
            moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise ValueError(_RULE) from None


def _within(seconds: float) -> float:
    if not _EARLIEST <= seconds <= _LATEST:
        raise ValueError("must be between 1970 and 9999")
    return seconds


class LocalTimezone(tzinfo):
    """The machine's own, summer time included."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return the offset that holds at a local time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Return None: nobody asks how much of the offset is summer time."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Return what the offset is called at a local time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()
