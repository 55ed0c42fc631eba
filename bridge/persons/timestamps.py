"""Times as users write them: `valid_from` and `valid_until` (docs/mqtt.md)."""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from bridge.model.faults import InvalidError, shorten
from bridge.model.json_schema import JsonSchema
from bridge.model.messages import message
from bridge.protocol.requests import NO_LIMIT

LATEST_SECONDS = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The latest time that a user may give, in seconds since the epoch: the last second that ISO 8601 writes with a year of
four digits. The earliest is the epoch itself, because no terminal's clock shows an earlier time."""

_MAXIMUM_TEXT_LENGTH = 64
"""Characters of a time. The longest useful text has 35."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?")

TIMESTAMP_SCHEMA: JsonSchema = {
    "title": "Moment",
    "description": "A time between 1970 and 9999; null and -1 mean no limit. A time without an offset is the bridge's "
    "local time.",
    "anyOf": [
        {"type": "null"},
        {"const": NO_LIMIT},
        {"type": "number", "minimum": 0, "maximum": LATEST_SECONDS, "description": "seconds since 1970"},
        {"type": "string", "pattern": f"^{_DATE.pattern}$", "description": "an existing date"},
        {"type": "string", "pattern": f"^{_DATE_TIME.pattern}$", "description": "ISO 8601, an existing time"},
    ],
    "examples": ["2026-11-24T08:00+01:00", "2026-11-24", 1795500000, None],
}
"""The schema of what `parse_timestamp` reads."""

_EXPECTED = message(
    'must be a time like "2026-11-24T08:00", a date like "2026-11-24", seconds since 1970, or null for no limit'
)
_OUT_OF_RANGE = message("must be between 1970 and 9999, or null for no limit")


def parse_timestamp(value: object, timezone: tzinfo, *, end_of_day: bool) -> float | None:
    """Read a time.

    A local time that occurs twice, because clocks are put back, means its first occurrence. A local time that does not
    exist, because clocks are put forward, is read with the offset before the change. The last day, 9999-12-31, is read
    in UTC: other programs write it for "no limit", and in most zones it has no time before the year 10000.

    Args:
        value: decoded JSON: ISO 8601, seconds since the epoch, or None; -1 means None, as in the vendor's protocol.
        timezone: of a time without an offset.
        end_of_day: whether a date alone means its last second, not its first.

    Returns:
        Seconds since the epoch, rounded to milliseconds as payloads show them; None for no limit.

    Raises:
        InvalidError: the value is not such a time.
    """
    if value is None or (value == NO_LIMIT and not isinstance(value, bool)):
        return None
    if isinstance(value, str):
        seconds = _parse_text(value, timezone, end_of_day=end_of_day)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise InvalidError.at("", _EXPECTED)
    if LATEST_SECONDS < seconds <= LATEST_SECONDS * 1000 and not isinstance(value, str):
        raise InvalidError.at("", "must be seconds since 1970; these look like milliseconds")
    # Also refuses NaN, for which every comparison is false.
    if not 0 <= seconds <= LATEST_SECONDS:
        raise InvalidError.at("", _OUT_OF_RANGE)
    return round(float(seconds), 3)


def local_time(seconds: float) -> datetime:
    """Return a time as the machine's clock shows it; 9999-12-31 in UTC, as `parse_timestamp` reads it."""
    if seconds > LATEST_SECONDS - 86400:
        # In zones east of UTC it would be in the year 10000, which `datetime` cannot hold.
        return datetime.fromtimestamp(seconds, UTC)
    return datetime.fromtimestamp(seconds).astimezone()


def _parse_text(text: str, timezone: tzinfo, *, end_of_day: bool) -> float:
    written = text.strip().upper() if len(text) <= _MAXIMUM_TEXT_LENGTH else ""
    try:
        if _DATE.fullmatch(written):
            day = date.fromisoformat(written)
            return _end_of(day, timezone) if end_of_day else _start_of(day, timezone)
        if _DATE_TIME.fullmatch(written):
            moment = datetime.fromisoformat(written)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC if moment.date() == date.max else timezone)
            return moment.timestamp()
    except ValueError as error:
        raise InvalidError.at(
            "", message("%(given)s is not a time: %(error)s", given=repr(shorten(text, 40)), error=error)
        ) from None
    except OverflowError:
        raise InvalidError.at("", _OUT_OF_RANGE) from None
    if _NUMBER.fullmatch(written):
        raise InvalidError.at("", "must be a number without quotation marks if it is seconds since 1970")
    raise InvalidError.at("", message("%(expected)s; not %(given)s", expected=_EXPECTED, given=repr(shorten(text, 40))))


def _start_of(day: date, timezone: tzinfo) -> float:
    # If clocks are put forward at midnight, 00:00 does not exist; this then is the instant of the change.
    return datetime.combine(day, time(), UTC if day == date.max else timezone).timestamp()


def _end_of(day: date, timezone: tzinfo) -> float:
    if day == date.max:
        return LATEST_SECONDS
    # Not 23:59:59 itself: it occurs twice or not at all if clocks are changed around midnight.
    return _start_of(day + timedelta(days=1), timezone) - 1


class LocalTimezone(tzinfo):
    """The machine's time zone, including summer time."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return the offset at a local time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Return None: the share of summer time in the offset is not used."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Return the name of the offset at a local time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()
