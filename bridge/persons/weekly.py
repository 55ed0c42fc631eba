"""Weekly rules as users and the terminals' vendor write them: `weekly` (docs/mqtt.md)."""

import re
from collections.abc import Mapping
from itertools import pairwise

import orjson

from bridge.model.faults import Fault, InvalidError, shorten, unknown_key
from bridge.model.json_schema import JsonSchema, text
from bridge.model.messages import message
from bridge.model.person import WEEKDAYS, Weekly

MAXIMUM_RANGES = 24
"""Ranges of a day: one for each hour. The vendor's example has three; how many a terminal accepts is not documented."""

_MAXIMUM_DAY_LENGTH = 512
"""Characters of a day: `MAXIMUM_RANGES` of 11 characters, with room for spaces."""

_MAXIMUM_TEXT_LENGTH = 8192
"""Characters of the vendor's text form: seven of the longest days, and their names."""

_DEFAULT = "default"
_KEYS = {key.lower(): key for key in (*WEEKDAYS, _DEFAULT)}

_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_RANGE = re.compile(rf"({_TIME})\s*-\s*({_TIME})")

_ONE_RANGE = rf"{_TIME}\s*-\s*{_TIME}"
_RANGES = rf"{_ONE_RANGE}(?:\s*;\s*{_ONE_RANGE})*"


def _in_any_case(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter.lower()}]" for letter in word)


_HOURS_SCHEMA: JsonSchema = {
    "title": "Hours",
    "description": f"The hours of a day: ranges `HH:MM-HH:MM` joined with `;`, or a list of ranges; at most "
    f"{MAXIMUM_RANGES}. Each range ends after it starts, and no two overlap. Empty or null means none.",
    "anyOf": [
        {"type": "null"},
        {"type": "string", "pattern": rf"^\s*(?:{_RANGES})?\s*$", "maxLength": _MAXIMUM_DAY_LENGTH},
        {
            "type": "array",
            "items": {"type": "string", "pattern": rf"^\s*{_RANGES}\s*$", "maxLength": _MAXIMUM_DAY_LENGTH},
            "maxItems": MAXIMUM_RANGES,
        },
    ],
    "examples": ["09:00-12:35;13:25-16:25", ["09:00-12:35", "13:25-16:25"], None],
}

WEEKLY_RULE_SCHEMA: JsonSchema = {
    "title": "WeeklyRule",
    "description": "The hours of each weekday in which the person may pass: all seven days, in upper or lower case, or "
    f"`{_DEFAULT}` for the days that are left out, none twice. As text: the JSON of this object, as the vendor has it.",
    "anyOf": [
        {
            "type": "object",
            "properties": dict.fromkeys(_KEYS.values(), _HOURS_SCHEMA),
            "patternProperties": {f"^{_in_any_case(key)}$": _HOURS_SCHEMA for key in _KEYS.values()},
            "additionalProperties": False,
            "maxProperties": len(_KEYS),
            # All seven days, or a key `default`.
            "anyOf": [
                {"minProperties": len(WEEKDAYS)},
                {"not": {"propertyNames": {"not": {"pattern": f"^{_in_any_case(_DEFAULT)}$"}}}},
            ],
        },
        {**text("the JSON of such an object", longest=_MAXIMUM_TEXT_LENGTH), "contentMediaType": "application/json"},
    ],
    "examples": [{"default": "08:00-18:00", "Saturday": None, "Sunday": ""}],
}
"""The schema of what `parse_weekly` reads, except null."""


def parse_weekly(value: object) -> Weekly | None:
    """Read a weekly rule.

    Args:
        value: decoded JSON: an object from days, in upper or lower case, to their ranges, with all seven days or
            `default` for the others; the JSON text of this object, as the vendor writes it; or None.

    Returns:
        The rule; None for none.

    Raises:
        InvalidError: with all faults, at paths relative to the rule.
    """
    if value is None:
        return None
    days = _decode(value) if isinstance(value, str) else value
    if not isinstance(days, Mapping):
        raise InvalidError.at(
            "", 'must be an object like {"Monday": "09:00-17:00", "default": null}, or null for no rule'
        )
    if len(days) > len(_KEYS):
        raise InvalidError.at(
            "",
            message(
                'has %(days)s entries; it may have the seven days and "%(default)s"', days=len(days), default=_DEFAULT
            ),
        )
    given: dict[str, str] = {}
    faults: list[Fault] = []
    for key, hours in days.items():
        name = _KEYS.get(str(key).lower())
        if name is None:
            faults.append(Fault(shorten(str(key), 40), unknown_key(key, _KEYS.values())))
        elif name in given:
            faults.append(Fault(name, "is given twice"))
        else:
            try:
                given[name] = _parse_day(hours)
            except InvalidError as error:
                given[name] = ""
                faults += (fault.below(name) for fault in error.faults)
    missing = [day for day in WEEKDAYS if day not in given]
    if missing and _DEFAULT not in given:
        faults.append(
            Fault(
                "",
                message(
                    'lacks %(missing)s; give all seven days, or "%(default)s" for the others',
                    missing=", ".join(missing),
                    default=_DEFAULT,
                ),
            )
        )
    if faults:
        raise InvalidError(faults)
    return Weekly.from_days({day: given[day if day in given else _DEFAULT] for day in WEEKDAYS})


def _decode(text: str) -> object:
    if len(text) > _MAXIMUM_TEXT_LENGTH:
        raise InvalidError.at(
            "", message("has more than %(max_text_length)s characters", max_text_length=_MAXIMUM_TEXT_LENGTH)
        )
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidError.at(
            "", 'as text must be the JSON of an object of days; the same hours every day are {"default": "09:00-17:00"}'
        ) from None
    return value


def _parse_day(hours: object) -> str:
    if hours is None:
        return ""
    if isinstance(hours, str):
        hours = [hours] if hours.strip() else []
    if not isinstance(hours, list) or not all(isinstance(part, str) for part in hours):
        raise InvalidError.at("", 'must be like "09:00-12:35;13:25-16:25", a list of such ranges, or null for none')
    if len(hours) > MAXIMUM_RANGES or any(len(part) > _MAXIMUM_DAY_LENGTH for part in hours):
        raise InvalidError.at("", message("has more than %(max_ranges)s ranges", max_ranges=MAXIMUM_RANGES))
    ranges = sorted(_parse_range(one) for part in hours for one in part.split(";"))
    if len(ranges) > MAXIMUM_RANGES:
        raise InvalidError.at("", message("has more than %(max_ranges)s ranges", max_ranges=MAXIMUM_RANGES))
    for (start, end), (next_start, next_end) in pairwise(ranges):
        if next_start < end:
            raise InvalidError.at(
                "",
                message(
                    "%(start)s-%(end)s and %(next_start)s-%(next_end)s overlap",
                    start=start,
                    end=end,
                    next_start=next_start,
                    next_end=next_end,
                ),
            )
    return ";".join(f"{start}-{end}" for start, end in ranges)


def _parse_range(text: str) -> tuple[str, str]:
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise InvalidError.at(
            "",
            message('%(given)s is not a range like "09:00-12:35", from 00:00 to 23:59', given=repr(shorten(text, 40))),
        )
    start, end = found.groups()
    # Times of two digits each compare as text.
    if start == end:
        raise InvalidError.at("", message("%(start)s-%(end)s has no length", start=start, end=end))
    if start > end:
        raise InvalidError.at(
            "",
            message(
                "%(start)s-%(end)s is backwards; split hours over midnight between the two days", start=start, end=end
            ),
        )
    return start, end
