"""Persons as users write them (CONTRACT, section 4): checked, then merged into what is kept.

The vendor's own field names are understood beside ours, with what the vendor means by -1, 10000 and 00000000.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Any

from bridge.model.faults import Fault, InvalidError, shorten, unknown_key
from bridge.model.json_schema import JsonSchema, described, input_schema, nullable, text
from bridge.model.names import PERSON_ID_SCHEMA, REQUEST_ID_SCHEMA, is_person_id
from bridge.model.person import Person, PhotoReference
from bridge.persons.photos.sources import InlinePhoto, PhotoFile, PhotoSource
from bridge.persons.timestamps import MOMENT_SCHEMA, parse_moment
from bridge.persons.weekly import WEEKLY_RULE_SCHEMA, parse_weekly
from bridge.protocol.requests import NO_NUMBER, UNLIMITED_PASSES

MAXIMUM_NAME_LENGTH = 128
"""Characters of a name: no register's longest needs more. What a terminal shows of it is the terminal's business."""

MAXIMUM_NUMBER_LENGTH = 64
"""Characters of a card or identity number: twice the longest in use."""

MAXIMUM_PATH_LENGTH = 4096
"""Characters of `photo_file`: Linux's own limit."""

MAXIMUM_KEYS = 32
"""Keys of a person that are looked at: more than there are, so that each mistyped one is named."""

VENDOR_NAMES = {
    "IC_NO": "card",
    "ID_NO": "id_number",
    "startTs": "valid_from",
    "endTs": "valid_until",
    "passCount": "pass_count",
}
"""The vendor's names of fields (PROTOCOL, setPerson) that have another name here."""

_MISPLACED = {
    "key": "belongs to the terminal, not to a person: terminals.known.<SN>.key in the configuration, or admit",
    "request_id": 'belongs beside "persons", once for all of them',
}

_JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian and Indian names are written."""
_UNPRINTABLE = frozenset(("Cc", "Cf", "Cs", "Cn", "Zl", "Zp"))
"""Unicode's categories of control, format, surrogate and unassigned characters and of line breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonPatch:
    """What was given of a person; all else stays as it is.

    Attributes:
        id: who.
        changes: the attributes of `Person` that were given, None among them where null was, the photo not.
        photo_source: the picture, where one was given.
    """

    id: str
    changes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    photo_source: PhotoSource | None = None


def parse_person(data: object, *, timezone: tzinfo) -> PersonPatch:
    """Read a person as a user gives it.

    Args:
        data: decoded JSON.
        timezone: of times without an offset.

    Raises:
        InvalidError: with all that is wrong, paths like `valid_from` and `weekly.Monday`.
    """
    if not isinstance(data, Mapping):
        raise InvalidError.at("", 'must be an object like {"id": "1001", "name": "Ada"}')
    if len(data) > MAXIMUM_KEYS:
        raise InvalidError.at("", f"has {len(data)} keys; a person has at most {len(_FIELDS)}")
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    entries: Mapping[str, object] = data
    for key, value in entries.items():
        name = VENDOR_NAMES.get(key, key)
        if name not in _FIELDS:
            faults.append(Fault(shorten(str(key), 40), _MISPLACED.get(key) or unknown_key(key, KNOWN_KEYS)))
        elif name != key and name in data:
            faults.append(Fault(key, f"is the same as {name!r}; give one of them"))
        else:
            try:
                values[name] = _FIELDS[name].parse(value, timezone)
            except InvalidError as error:
                faults += (fault.below(key) for fault in error.faults)
    if "id" not in data:
        faults.append(Fault("id", f"is missing; {_ID_RULE}"))
    if "photo" in data and "photo_file" in data:
        faults.append(Fault("photo_file", "is a photo too; give 'photo' or 'photo_file'"))
    if faults:
        raise InvalidError(faults)
    person_id = values.pop("id")
    inline, file = values.pop("photo", None), values.pop("photo_file", None)
    return PersonPatch(id=person_id, changes=values, photo_source=inline or file)


def merge(patch: PersonPatch, stored: Person | None, photo: PhotoReference | None) -> Person:
    """Return the person as it is with what was given.

    Args:
        patch: what was given.
        stored: the person so far; None for a new one.
        photo: the patch's picture, prepared; None where none was given.

    Raises:
        InvalidError: a new person lacks its name or photo, or the time range is backwards.
    """
    changes = dict(patch.changes)
    if photo is not None:
        changes["photo"] = photo
    if stored is None:
        person = _new_person(patch.id, changes)
    else:
        person = replace(stored, **changes)
        had_rule = stored.weekly is not None or stored.weekly_taken_back
        person = replace(person, weekly_taken_back=had_rule and person.weekly is None)
    if person.valid_from is not None and person.valid_until is not None and person.valid_from >= person.valid_until:
        given = "valid_until" if "valid_until" in changes else "valid_from"
        raise InvalidError.at(given, "valid_until must be later than valid_from")
    return person


def _new_person(person_id: str, changes: Mapping[str, Any]) -> Person:
    faults = []
    if "name" not in changes:
        faults.append(Fault("name", "is missing: a new person needs a name"))
    if "photo" not in changes:
        faults.append(Fault("photo", "is missing: a new person needs a photo, as 'photo' or 'photo_file'"))
    if faults:
        raise InvalidError(faults)
    return Person(id=person_id, **changes)


_ID_RULE = "must be text of 1 to 64 letters, digits and _ . @ -"


def _parse_id(value: object, _: tzinfo) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # Leading zeros are lost in a number, and with them who it is.
        raise InvalidError.at("", f"{_ID_RULE}; put the number in quotation marks")
    if not isinstance(value, str) or not is_person_id(value):
        raise InvalidError.at("", _ID_RULE)
    return value


def _parse_name(value: object, _: tzinfo) -> str:
    text = _parse_text(value, MAXIMUM_NAME_LENGTH)
    if not text:
        raise InvalidError.at("", "must not be empty")
    return text


def _parse_number(value: object, _: tzinfo) -> str | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise InvalidError.at("", "must be text: put the number in quotation marks, or its leading zeros are lost")
    text = _parse_text(value, MAXIMUM_NUMBER_LENGTH)
    return None if text in ("", NO_NUMBER) else text


def _parse_text(value: object, maximum: int) -> str:
    if not isinstance(value, str):
        raise InvalidError.at("", f"must be text of at most {maximum} characters")
    text = value[: maximum * 2].strip()
    if len(text) > maximum or len(value) > maximum * 2:
        raise InvalidError.at("", f"must have at most {maximum} characters")
    for character in text:
        if unicodedata.category(character) in _UNPRINTABLE and character not in _JOINERS:
            raise InvalidError.at("", f"must not hold control characters (U+{ord(character):04X})")
    return text


def _parse_pass_count(value: object, _: tzinfo) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        # To JSON 3.0 is as whole as 3, and some write it so.
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= UNLIMITED_PASSES:
        raise InvalidError.at("", f"must be a whole number from 0 to {UNLIMITED_PASSES - 1}, or null for no limit")
    return None if value == UNLIMITED_PASSES else value


def _parse_visitor(value: object, _: tzinfo) -> bool:
    if value is None:
        return False
    return _parse_boolean(value)


def _parse_enabled(value: object, _: tzinfo) -> bool:
    # Nobody is let in again by an empty value.
    return _parse_boolean(value)


def _parse_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidError.at("", "must be true or false, without quotation marks")
    return value


def _parse_photo(value: object, _: tzinfo) -> InlinePhoto:
    if not isinstance(value, str) or not value:
        raise InvalidError.at("", "must be base64 or a data URI; leave it out to keep the photo as it is")
    return InlinePhoto(value)


def _parse_photo_file(value: object, _: tzinfo) -> PhotoFile:
    if not isinstance(value, str) or not value:
        raise InvalidError.at("", "must be a path inside photos.folders; leave it out to keep the photo as it is")
    if len(value) > MAXIMUM_PATH_LENGTH or "\0" in value:
        raise InvalidError.at("", f"must be a path of at most {MAXIMUM_PATH_LENGTH} characters")
    return PhotoFile(value)


@dataclass(frozen=True, slots=True)
class _Field:
    """How a field is read, and the schema of what is taken."""

    parse: Callable[[object, tzinfo], Any]
    schema: JsonSchema


def _number_schema(what: str) -> JsonSchema:
    description = f"{what}; text, for leading zeros count; null, empty and `{NO_NUMBER}` for none"
    return nullable(text(description, longest=MAXIMUM_NUMBER_LENGTH))


_FIELDS: Mapping[str, _Field] = {
    "id": _Field(_parse_id, PERSON_ID_SCHEMA),
    "name": _Field(
        _parse_name,
        {
            **text(
                "what the terminal shows; needed for a new person; no control characters", longest=MAXIMUM_NAME_LENGTH
            ),
            "pattern": "\\S",
        },
    ),
    "card": _Field(_parse_number, _number_schema("card number, sent to the gate as a Wiegand number")),
    "id_number": _Field(_parse_number, _number_schema("identity-card number")),
    "photo": _Field(
        _parse_photo,
        text(
            "the picture, as base64 or a data URI: JPEG, PNG, WebP, or HEIC where that is installed, at least 32 "
            "pixels on a side; needed for a new person, here or as `photo_file`",
            shortest=1,
        ),
    ),
    "photo_file": _Field(
        _parse_photo_file,
        text("instead of `photo`: a path inside one of `photos.folders`", shortest=1, longest=MAXIMUM_PATH_LENGTH),
    ),
    "valid_from": _Field(
        lambda value, timezone: parse_moment(value, timezone, end_of_day=False),
        described(MOMENT_SCHEMA, "may pass from then on, of a date alone its start; earlier than `valid_until`"),
    ),
    "valid_until": _Field(
        lambda value, timezone: parse_moment(value, timezone, end_of_day=True),
        described(MOMENT_SCHEMA, "may pass until then, of a date alone its end; later than `valid_from`"),
    ),
    "pass_count": _Field(
        _parse_pass_count,
        {
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": UNLIMITED_PASSES,
            "description": f"passes allowed within that time; null and {UNLIMITED_PASSES} for no limit",
        },
    ),
    "visitor": _Field(
        _parse_visitor, {"type": ["boolean", "null"], "description": "whether they are a visitor; null for not"}
    ),
    "weekly": _Field(lambda value, _: parse_weekly(value), nullable(WEEKLY_RULE_SCHEMA)),
    "enabled": _Field(
        _parse_enabled,
        {"type": "boolean", "description": "false keeps them here, photo and all, but removes them from the terminal"},
    ),
}
"""How each field is read; the order is that of messages."""

KNOWN_KEYS = (*_FIELDS, *VENDOR_NAMES)
"""Every name that a field of a person is understood by."""

_PROPERTIES: Mapping[str, JsonSchema] = {
    **{name: field.schema for name, field in _FIELDS.items()},
    **{
        vendors: described(_FIELDS[name].schema, f"the vendor's name of `{name}`")
        for vendors, name in VENDOR_NAMES.items()
    },
}
_AT_MOST_ONE_OF = [{"not": {"required": list(pair)}} for pair in (*VENDOR_NAMES.items(), ("photo", "photo_file"))]

PERSON_SCHEMA = input_schema(
    _PROPERTIES,
    required=["id"],
    title="Person",
    description="A person as users write them. A new one needs `name` and a photo; of a known one what is absent stays "
    "as it is. No field is given under two names.",
    allOf=_AT_MOST_ONE_OF,
    examples=[
        {
            "id": "1001",
            "name": "Ada",
            "photo_file": "ada.jpg",
            "valid_until": "2027-01-31",
            "weekly": {"default": "08:00-18:00", "Saturday": None, "Sunday": None},
        }
    ],
)
"""What `parse_person` reads."""

SINGLE_PERSON_SCHEMA = input_schema(
    {**_PROPERTIES, "request_id": REQUEST_ID_SCHEMA},
    required=["id"],
    title="SinglePerson",
    description="A person, with the command's `request_id` beside their fields.",
    allOf=_AT_MOST_ONE_OF,
)
"""A person that is a command all by itself."""
