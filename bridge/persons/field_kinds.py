"""The kinds of values that fields of a person have: how each is read, described, and held in a cell of a CSV.

`bridge.persons.fields` says which field has which kind.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import orjson

from bridge.model.faults import InvalidError
from bridge.model.json_schema import TIME, JsonSchema, allows_null, nullable
from bridge.model.messages import message
from bridge.model.names import PERSON_ID_SCHEMA, is_person_id
from bridge.model.person import WEEKLY_SCHEMA
from bridge.persons.photos.sources import InlinePhoto, PhotoFile
from bridge.persons.timestamps import TIMESTAMP_SCHEMA, parse_timestamp
from bridge.persons.weekly import WEEKLY_RULE_SCHEMA, parse_weekly
from bridge.protocol.requests import NO_NUMBER, UNLIMITED_PASSES

MAXIMUM_NAME_LENGTH = 128
"""Characters of a name. No register of residents needs more. How much of it a terminal shows is not documented."""

MAXIMUM_NUMBER_LENGTH = 64
"""Characters of a card or identity number: twice the longest in use."""

MAXIMUM_PATH_LENGTH = 4096
"""Characters of `photo_file`: Linux's own limit."""

ID_RULE = message("must be text of 1 to 64 letters, digits and _ . @ -")

_JOINERS = "\u200c\u200d"
"""Invisible characters that Persian and Indian names need."""
_UNPRINTABLE = frozenset(("Cc", "Cf", "Cs", "Cn", "Zl", "Zp"))
"""Unicode's categories of control, format, surrogate and unassigned characters and of line breaks."""


def write_cell(value: object) -> str:
    """Write the JSON value of a reply as the text of a cell: null as empty, text as it is, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldKind:
    """How the values of a field are read, written and described.

    Attributes:
        parse: reads decoded JSON that a user gave; its second argument is the time zone of times without an offset.
            Raises InvalidError with paths relative to the field. It never gets null: null sets the field's default if
            the input schema allows null, else the value is parsed as any other and refused.
        input_schema: the schema of what a user may give.
        output_schema: the schema of what a reply shows; None if replies do not show the field.
        read_cell: reads the text of a CSV cell, without space around it, and returns decoded JSON for `parse`. Raises
            InvalidError. It gets an empty text only if the input schema does not allow null.
        write_cell: writes what a reply shows as the text of a CSV cell, so that `read_cell` returns the same value.
    """

    parse: Callable[[object, tzinfo], Any]
    input_schema: JsonSchema
    output_schema: JsonSchema | None
    read_cell: Callable[[str], object] = str
    write_cell: Callable[[object], str] = write_cell

    @property
    def accepts_null(self) -> bool:
        """Whether a user may give null, which sets the field's default."""
        return allows_null(self.input_schema)


# -- text


def _parse_text(value: object, maximum_length: int) -> str:
    if not isinstance(value, str):
        raise InvalidError.at(
            "", message("must be text of at most %(max_length)s characters", max_length=maximum_length)
        )
    # Bounds the work on a value that is mostly spaces.
    text = value[: maximum_length * 2].strip()
    if len(text) > maximum_length or len(value) > maximum_length * 2:
        raise InvalidError.at("", message("must have at most %(max_length)s characters", max_length=maximum_length))
    for character in text:
        if unicodedata.category(character) in _UNPRINTABLE and character not in _JOINERS:
            raise InvalidError.at(
                "", message("must not contain control characters (U+%(ord)s)", ord=format(ord(character), "04X"))
            )
    return text


def _parse_id(value: object, _: tzinfo) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # A number has lost its leading zeros, so it could be another person's id.
        raise InvalidError.at("", message("%(id_rule)s; put the number in quotation marks", id_rule=ID_RULE))
    if not isinstance(value, str) or not is_person_id(value):
        raise InvalidError.at("", ID_RULE)
    return value


PERSON_ID = FieldKind(parse=_parse_id, input_schema=PERSON_ID_SCHEMA, output_schema=PERSON_ID_SCHEMA)


def _parse_name(value: object, _: tzinfo) -> str:
    text = _parse_text(value, MAXIMUM_NAME_LENGTH)
    if not text:
        raise InvalidError.at("", "must not be empty")
    return text


NAME = FieldKind(
    parse=_parse_name,
    input_schema={"type": "string", "maxLength": MAXIMUM_NAME_LENGTH, "pattern": "\\S"},
    output_schema={"type": "string"},
)


def _parse_number(value: object, _: tzinfo) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise InvalidError.at("", "must be text: put the number in quotation marks, or its leading zeros are lost")
    text = _parse_text(value, MAXIMUM_NUMBER_LENGTH)
    return None if text in ("", NO_NUMBER) else text


CARD_NUMBER = FieldKind(
    parse=_parse_number,
    input_schema={"type": ["string", "null"], "maxLength": MAXIMUM_NUMBER_LENGTH},
    output_schema={"type": ["string", "null"]},
)

# -- times and hours

_WHOLE_NUMBER_CELL = re.compile(r"-?[0-9]{1,20}")
"""Bounded, because `int` is slow for long texts and no field needs a longer number."""
_FRACTION_CELL = re.compile(r"-?[0-9]{1,20}\.[0-9]{1,9}")


def _read_timestamp_cell(text: str) -> object:
    if _WHOLE_NUMBER_CELL.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION_CELL.fullmatch(text) else text


START_TIME = FieldKind(
    parse=lambda value, timezone: parse_timestamp(value, timezone, end_of_day=False),
    input_schema=TIMESTAMP_SCHEMA,
    output_schema=nullable(TIME),
    read_cell=_read_timestamp_cell,
)
END_TIME = FieldKind(
    parse=lambda value, timezone: parse_timestamp(value, timezone, end_of_day=True),
    input_schema=TIMESTAMP_SCHEMA,
    output_schema=nullable(TIME),
    read_cell=_read_timestamp_cell,
)


def _read_weekly_cell(text: str) -> object:
    return text if text.startswith("{") else {"default": text}


WEEKLY_RULE = FieldKind(
    parse=lambda value, _: parse_weekly(value),
    input_schema=nullable(WEEKLY_RULE_SCHEMA),
    output_schema=nullable(WEEKLY_SCHEMA),
    read_cell=_read_weekly_cell,
)

# -- numbers, true and false


def _parse_pass_count(value: object, _: tzinfo) -> int | None:
    if isinstance(value, float) and value.is_integer():
        # JSON does not distinguish 3.0 from 3, and some programs write 3.0.
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= UNLIMITED_PASSES:
        raise InvalidError.at(
            "",
            message(
                "must be a whole number from 0 to %(unlimited_passes)s, or null for no limit",
                unlimited_passes=UNLIMITED_PASSES - 1,
            ),
        )
    return None if value == UNLIMITED_PASSES else value


def read_whole_number_cell(text: str) -> object:
    """Read a whole number; return other text as it is, so that `parse` says what it must be."""
    return int(text) if _WHOLE_NUMBER_CELL.fullmatch(text) else text


PASS_COUNT = FieldKind(
    parse=_parse_pass_count,
    input_schema={"type": ["integer", "null"], "minimum": 0, "maximum": UNLIMITED_PASSES},
    output_schema={"type": ["integer", "null"], "minimum": 0},
    read_cell=read_whole_number_cell,
)


def _parse_boolean(value: object, _: tzinfo) -> bool:
    if not isinstance(value, bool):
        raise InvalidError.at("", "must be true or false, without quotation marks")
    return value


_BOOLEAN_CELLS: Mapping[str, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_boolean_cell(text: str) -> object:
    """Read true or false. Raises InvalidError."""
    value = _BOOLEAN_CELLS.get(text.lower())
    if value is None:
        raise InvalidError.at("", "must be true, false, yes, no, 1 or 0")
    return value


BOOLEAN = FieldKind(
    parse=_parse_boolean,
    input_schema={"type": "boolean"},
    output_schema={"type": "boolean"},
    read_cell=read_boolean_cell,
)
OPTIONAL_BOOLEAN = FieldKind(
    parse=_parse_boolean,
    input_schema={"type": ["boolean", "null"]},
    output_schema={"type": "boolean"},
    read_cell=read_boolean_cell,
)

# -- photos


def _parse_photo(value: object, _: tzinfo) -> InlinePhoto:
    if not isinstance(value, str) or not value:
        raise InvalidError.at("", "must be base64 or a data URI; leave it out to keep the photo unchanged")
    return InlinePhoto(value)


INLINE_PHOTO = FieldKind(parse=_parse_photo, input_schema={"type": "string", "minLength": 1}, output_schema=None)


def _parse_photo_file(value: object, _: tzinfo) -> PhotoFile:
    if not isinstance(value, str) or not value:
        raise InvalidError.at("", "must be a path inside photos.folders; leave it out to keep the photo unchanged")
    if len(value) > MAXIMUM_PATH_LENGTH or "\0" in value:
        raise InvalidError.at(
            "",
            message(
                "must be a path of at most %(max_path_length)s characters, without NUL characters",
                max_path_length=MAXIMUM_PATH_LENGTH,
            ),
        )
    return PhotoFile(value)


PHOTO_PATH = FieldKind(
    parse=_parse_photo_file,
    input_schema={"type": "string", "minLength": 1, "maxLength": MAXIMUM_PATH_LENGTH},
    output_schema=None,
)
