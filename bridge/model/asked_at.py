"""`asked_at`: when the requester asked for a command, by the requester's clock (docs/mqtt.md)."""

import re
from datetime import UTC, datetime

from bridge.model.faults import InvalidError, shorten
from bridge.model.json_schema import JsonSchema

_LATEST_SECONDS = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The last second that ISO 8601 writes with a year of four digits. Milliseconds since 1970 are beyond it, so that this
mistake is noticed: as a time in the future, it would silently have no effect."""

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
)
_MAX_TEXT_LENGTH = 64

_EXPECTED = 'must be a time with an offset like "2026-11-24T08:00:00+01:00", or seconds since 1970 as a number'

ASKED_AT_SCHEMA: JsonSchema = {
    "title": "AskedAt",
    "description": "When the requester asked. An open or reboot counts from then if that is older than what the bridge "
    "measured; a time in the future counts as now. The same payload again on the same topic is not carried out again.",
    "anyOf": [
        {"type": "null"},
        {"type": "number", "minimum": 0, "maximum": _LATEST_SECONDS, "description": "seconds since 1970"},
        {"type": "string", "pattern": f"^{_TIME.pattern}$", "description": "ISO 8601 with an offset, an existing time"},
    ],
    "examples": ["2026-11-24T08:00:00.123+01:00", 1795500000.123],
}
"""The schema of what `parse_asked_at` reads."""

CLOCKS_DIFFER = "the clocks differ"
"""In the message of an `expired` press that names two clocks; `facebridge doctor` counts such messages in the audit."""


def parse_asked_at(value: object) -> datetime | None:
    """Return the time that decoded JSON holds, with an offset; None for null. Raises InvalidError."""
    if value is None:
        return None
    if isinstance(value, str):
        return _parse_text(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidError.at("asked_at", _EXPECTED)
    if _LATEST_SECONDS < value <= _LATEST_SECONDS * 1000:
        raise InvalidError.at("asked_at", "must be seconds since 1970; these look like milliseconds")
    # Also refuses NaN, for which every comparison is false.
    if not 0 <= value <= _LATEST_SECONDS:
        raise InvalidError.at("asked_at", _EXPECTED)
    return datetime.fromtimestamp(value, UTC)


def _parse_text(text: str) -> datetime:
    if len(text) > _MAX_TEXT_LENGTH or not _TIME.fullmatch(text):
        raise InvalidError.at("asked_at", f"{_EXPECTED}; not {shorten(text, 40)!r}")
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise InvalidError.at("asked_at", f"{shorten(text, 40)!r} is not a time: {error}") from None
