"""Persons as users write them (CONTRACT, section 4): checked field by field, then merged into what is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Any

from bridge.model.faults import Fault, InvalidError, shorten, unknown_key
from bridge.model.names import is_person_id
from bridge.model.person import Person
from bridge.roster.moments import parse_moment
from bridge.roster.weekly import parse_weekly

MAXIMUM_NAME = 64
"""Characters of a name; terminals show some twenty."""
MAXIMUM_NUMBER = 64
"""Characters of a card or identity number; the longest, with check digits, have some twenty."""
UNLIMITED_PASSES = 10_000
"""What means no limit on the wire (PROTOCOL, setPerson)."""
_NO_NUMBER = "00000000"
"""What stands for no number on the wire (PROTOCOL, setPerson)."""

VENDOR_NAMES = {
    "IC_NO": "card",
    "ID_NO": "id_number",
    "startTs": "valid_from",
    "endTs": "valid_until",
    "passCount": "pass_count",
}
"""The vendor's name of a field → ours; the other fields have the same."""

FIELDS = (
    "id",
    "name",
    "card",
    "id_number",
    "photo",
    "photo_file",
    "valid_from",
    "valid_until",
    "pass_count",
    "visitor",
    "weekly",
    "enabled",
)


@dataclass(frozen=True, slots=True)
class InlinePhoto:
    """A picture in the message itself: base64, or a data URI."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A picture in one of `photos.folders`."""

    path: str


PhotoSource = InlinePhoto | PhotoFile


@dataclass(frozen=True, slots=True)
class PersonPatch:
    """What was given of a person; what is absent stays as it is.

    Attributes:
        id: who.
        changes: the fields of `Person` that were given, checked.
        photo_source: the picture, where one was given.
    """

    id: str
    changes: Mapping[str, Any] = field(repr=False)
    photo_source: PhotoSource | None


def parse_person(data: object, *, timezone: tzinfo) -> PersonPatch:
    """Check a person by itself.

    Args:
        data: decoded JSON.
        timezone: of times without an offset, the bridge's own.

    Raises:
        InvalidError: with all that is wrong.
    """
    if not isinstance(data, Mapping):
        raise InvalidError.at("", "a person must be an object with an id")
    given, faults = _by_our_names(data)
    changes: dict[str, Any] = {}
    for name, value in given.items():
        try:
            changes[name] = _parse_field(name, value, timezone)
        except InvalidError as error:
            faults += [fault.below(_shown(name, data)) for fault in error.faults]
        except ValueError as error:
            faults.append(Fault(_shown(name, data), str(error)))
    if "id" not in given:
        faults.append(Fault("id", "is missing"))
    if "photo" in given and "photo_file" in given:
        faults.append(Fault("photo_file", "give the picture once: photo or photo_file"))
    if faults:
        raise InvalidError(faults)
    photo = changes.pop("photo", None)
    source = changes.pop("photo_file", photo)
    return PersonPatch(changes.pop("id"), changes, source)


def merge(patch: PersonPatch, stored: Person | None, photo: str | None) -> Person:
    """Return the person after a change.

    Args:
        patch: what was given.
        stored: the person before; None for a new one.
        photo: the SHA-256 of the prepared picture, where one was given.

    Raises:
        InvalidError: a new person lacks something, or it does not fit together.
    """
    changes = dict(patch.changes)
    if photo is not None:
        changes["photo"] = photo
    if stored is None:
        missing = [name for name in ("name", "photo") if name not in changes]
        if missing:
            raise InvalidError([Fault(name, "is missing: a new person needs a name and a photo") for name in missing])
        person = Person(id=patch.id, **changes)
    else:
        person = replace(stored, **changes)
        if stored.weekly is not None and person.weekly is None:
            person = replace(person, weekly_taken_back=True)
    if person.valid_from is not None and person.valid_until is not None and person.valid_from > person.valid_until:
        raise InvalidError.at("valid_until", "is before valid_from")
    return person


def _by_our_names(data: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Fault]]:
    given: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in data.items():
        name = VENDOR_NAMES.get(key, key)
        if key == "key":
            faults.append(Fault("key", "belongs to the terminal, not to a person: set it where the terminal is known"))
        elif name not in FIELDS:
            faults.append(Fault(shorten(str(key), 40), unknown_key(key, FIELDS)))
        elif name in given:
            faults.append(Fault(str(key), f"is given under two names; keep {name}"))
        else:
            given[name] = value
    return given, faults


def _shown(name: str, data: Mapping[Any, Any]) -> str:
    """Return the name a field was given under."""
    return name if name in data else next(vendor for vendor, ours in VENDOR_NAMES.items() if ours == name)


def _parse_field(name: str, value: object, timezone: tzinfo) -> object:
    if name in ("valid_from", "valid_until"):
        return parse_moment(value, end=name == "valid_until", timezone=timezone)
    return _PARSERS[name](value)


def _parse_id(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes")
    if not is_person_id(value):
        raise ValueError("must have 1 to 64 letters, digits and _ . @ -")
    return value


def _parse_name(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAXIMUM_NAME or not value.isprintable():
        raise ValueError(f"must be text of 1 to {MAXIMUM_NAME} printable characters")
    return value.strip()


def _parse_number(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes, or null for none")
    text = value.strip()
    if len(text) > MAXIMUM_NUMBER or not text.isprintable():
        raise ValueError(f"must have at most {MAXIMUM_NUMBER} printable characters")
    return None if text in ("", _NO_NUMBER) else text


def _parse_photo(value: object) -> PhotoSource:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a picture as base64 text or a data URI; leave it out to keep the one there is")
    return InlinePhoto(value)


def _parse_photo_file(value: object) -> PhotoSource:
    if not isinstance(value, str) or not value or "\0" in value or len(value) > 4096:
        raise ValueError("must be the path of a picture inside one of photos.folders")
    return PhotoFile(value)


def _parse_pass_count(value: object) -> int | None:
    if value is None or value == UNLIMITED_PASSES:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < UNLIMITED_PASSES:
        raise ValueError("must be a whole number from 0 to 9999, or null for no limit")
    return value


def _parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "id": _parse_id,
    "name": _parse_name,
    "card": _parse_number,
    "id_number": _parse_number,
    "photo": _parse_photo,
    "photo_file": _parse_photo_file,
    "pass_count": _parse_pass_count,
    "visitor": _parse_flag,
    "weekly": parse_weekly,
    "enabled": _parse_flag,
}
