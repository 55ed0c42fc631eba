"""What the header and the cells of a CSV mean."""

import re
from collections.abc import Callable, Mapping, Sequence

from bridge.import_export.errors import PersonFileError
from bridge.model.faults import Fault, InvalidError, unknown_key
from bridge.persons.schema import KNOWN_KEYS, VENDOR_NAMES

_NUMBER = re.compile(r"-?[0-9]{1,20}")
"""Bounded: what is longer is no number of anything here, and `int` takes its time for long ones."""
_FRACTION = re.compile(r"-?[0-9]{1,20}\.[0-9]{1,9}")

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_FIELDS = frozenset(name.lower() for name in KNOWN_KEYS)
_PICTURES = frozenset(("photo", "photo_file"))


def read_header(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns.

    Raises:
        PersonFileError: a name is unknown or given twice, or there is no `id`.
    """
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not any(is_field(name) for name in names):
        # Nothing of it is shown: it may be somebody's name.
        raise PersonFileError("row 1: must be the header, with names like id,name,card,valid_until")
    given: set[str] = set()
    for column, name in enumerate(names, 1):
        if not name:
            raise PersonFileError(f"row 1, column {column}: has no name")
        if name not in KNOWN_KEYS:
            raise PersonFileError(f"row 1, column {column}: {unknown_key(name, KNOWN_KEYS)}")
        ours = VENDOR_NAMES.get(name, name)
        if ours in given:
            raise PersonFileError(f"row 1, column {column}: {name!r} comes twice; keep one such column")
        given.add(ours)
    if "id" not in given:
        raise PersonFileError("row 1: has no column 'id', which says whose the row is")
    return tuple(names)


def is_field(name: str) -> bool:
    """Tell whether a cell is meant for a field's name, capital letters or not."""
    return name.strip().lower() in _FIELDS


def read_cells(columns: Sequence[str], cells: Sequence[str]) -> tuple[dict[str, object], list[Fault]]:
    """Return what `parse_person` takes for a row's trimmed cells, and what is wrong with them."""
    data: dict[str, object] = {}
    faults: list[Fault] = []
    for column, text in zip(columns, cells, strict=False):
        name = VENDOR_NAMES.get(column, column)
        if not text and name in _PICTURES:
            # Nobody can be without a photo, so an empty cell can only mean to leave it as it is.
            continue
        try:
            data[column] = _READERS[name](text)
        except InvalidError as error:
            faults += (fault.below(column) for fault in error.faults)
    return data, faults


def _text(text: str) -> object:
    return text


def _optional_text(text: str) -> object:
    return text or None


def _moment(text: str) -> object:
    if _NUMBER.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text or None


def _whole_number(text: str) -> object:
    return int(text) if _NUMBER.fullmatch(text) else text or None


def _visitor(text: str) -> object:
    return _boolean(text) if text else None


def _boolean(text: str) -> object:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise InvalidError.at("", "must be true, false, yes, no, 1 or 0")
    return value


def _weekly(text: str) -> object:
    if not text:
        return None
    return text if text.startswith("{") else {"default": text}


_READERS: Mapping[str, Callable[[str], object]] = {
    "id": _text,
    "name": _text,
    "card": _optional_text,
    "id_number": _optional_text,
    "photo": _text,
    "photo_file": _text,
    "valid_from": _moment,
    "valid_until": _moment,
    "pass_count": _whole_number,
    "visitor": _visitor,
    "weekly": _weekly,
    "enabled": _boolean,
}
"""How a cell of each field is read. What is neither is handed on as text, and `parse_person` says what it must be."""
