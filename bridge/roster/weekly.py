"""Weekly hours as users write them."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import orjson

from bridge.model.faults import Fault, InvalidError, shorten, unknown_key
from bridge.model.person import DAYS, Weekly

_RANGE = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_DEFAULT = "default"
_DAY_RULE = 'must be ranges like "09:00-12:35;13:25-16:25" from 00:00 to 23:59, a list of them, or null for none'
_MAXIMUM_RANGES = 24
"""Ranges a day: one an hour. Nobody has more, and a terminal's room for them is not documented."""
_MAXIMUM_TEXT = 8192
"""Characters of the vendor's text form: seven days of that many ranges fit in."""


def parse_weekly(value: object) -> Weekly | None:
    """Read a weekly rule.

    Args:
        value: a day → ranges, all seven in any case or `default` for those left out; the same as JSON text, the
            vendor's form; None for no rule.

    Raises:
        InvalidError: with the days that are wrong.
    """
    if isinstance(value, str):
        value = _parse_text(value)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidError.at("", "must be days with their ranges, or null for no weekly rule")
    names = {day.lower(): day for day in (*DAYS, _DEFAULT)}
    given: dict[str, str] = {}
    faults: list[Fault] = []
    for key, ranges in value.items():
        day = names.get(str(key).lower())
        if day is None:
            faults.append(Fault(shorten(str(key), 40), unknown_key(key, (*DAYS, _DEFAULT))))
        elif day in given:
            faults.append(Fault(day, "stands here twice"))
        else:
            try:
                given[day] = _parse_day(ranges)
            except ValueError as error:
                given[day] = ""
                faults.append(Fault(day, str(error)))
    missing = [day for day in DAYS if day not in given]
    if missing and _DEFAULT not in given:
        faults.append(Fault(missing[0], f'is missing: give all seven days, or "{_DEFAULT}" for those left out'))
    if faults:
        raise InvalidError(faults)
    monday, tuesday, wednesday, thursday, friday, saturday, sunday = (
        given.get(day, given.get(_DEFAULT, "")) for day in DAYS
    )
    return Weekly((monday, tuesday, wednesday, thursday, friday, saturday, sunday))


def _parse_text(text: str) -> object:
    if not text.strip():
        return None
    try:
        if len(text) > _MAXIMUM_TEXT:
            raise ValueError
        value: object = orjson.loads(text)
    except (ValueError, UnicodeEncodeError):
        raise InvalidError.at("", "is text, but not the JSON of days with their ranges") from None
    return value


def _parse_day(value: object) -> str:
    if value is None:
        return ""
    parts: Sequence[object] = value.split(";") if isinstance(value, str) else value if isinstance(value, list) else [0]
    if parts == [""]:
        return ""
    if len(parts) > _MAXIMUM_RANGES:
        raise ValueError(f"must have at most {_MAXIMUM_RANGES} ranges")
    ranges: list[tuple[str, str]] = []
    for part in parts:
        match = _RANGE.fullmatch(part.strip()) if isinstance(part, str) else None
        if match is None:
            raise ValueError(_DAY_RULE)
        begin, end = f"{match[1]}:{match[2]}", f"{match[3]}:{match[4]}"
        if begin >= end:
            raise ValueError(
                f"{begin}-{end} ends before it begins; one over midnight is two, the second on the next day"
            )
        ranges.append((begin, end))
    ranges.sort()
    for (_, end), (begin, _) in pairwise(ranges):
        if begin < end:
            raise ValueError(f"the ranges overlap at {begin}")
    return ";".join(f"{begin}-{end}" for begin, end in ranges)
