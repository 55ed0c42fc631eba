"""Reads JSON as a stream, because ten thousand persons with photos need more memory than a small machine has."""

from collections.abc import Iterator, Mapping
from typing import Any

import ijson

from bridge.import_export.rows import ByteSource, PersonFileError, Row
from bridge.model.messages import message

_MAXIMUM_PARTS = 2000
"""Keys, values and brackets of a person: twice those of seven days with twenty-four ranges each."""

_ROOT = message('must be a list of persons, or {"persons": [...]} without other keys')

_Event = tuple[str, Any]


def read_json(source: ByteSource) -> Iterator[Row]:
    """Read person by person.

    Raises:
        PersonFileError: the file, or the rest from some person on, is not JSON of persons.
    """
    events = _parse_events(source)
    kind, _ = next(events)
    if kind == "start_array":
        yield from _read_persons(source, events)
    elif kind == "start_map" and next(events) == ("map_key", "persons") and next(events)[0] == "start_array":
        yield from _read_persons(source, events)
        if next(events)[0] != "end_map":
            raise PersonFileError(_ROOT)
    else:
        raise PersonFileError(_ROOT)
    # Reading to the end of the file reports anything that follows.
    next(events, None)


def _read_persons(source: ByteSource, events: Iterator[_Event]) -> Iterator[Row]:
    number = 1
    source.begin("person 1")
    for kind, value in events:
        if kind == "end_array":
            source.begin("")
            return
        data = _read_value(source, events, (kind, value))
        if not isinstance(data, Mapping):
            raise source.error('must be an object like {"id": "1001", "name": "Ada"}')
        yield Row(number=number, data=data, picture=None)
        number += 1
        source.begin(f"person {number}")


def _read_value(source: ByteSource, events: Iterator[_Event], first: _Event) -> object:
    builder = ijson.ObjectBuilder()
    builder.event(*first)
    parts = 1
    # The builder lists the containers that are still open.
    while builder.containers:
        parts += 1
        if parts > _MAXIMUM_PARTS:
            raise source.error("contains more than a person can have")
        builder.event(*next(events))
    value: object = builder.value
    return value


def _parse_events(source: ByteSource) -> Iterator[_Event]:
    try:
        yield from ijson.basic_parse(source, use_float=True)
    except ijson.JSONError as error:
        # The library's message quotes the file, which contains personal data.
        raise source.error(_explain(str(error))) from None


def _explain(message: str) -> str:
    if "premature EOF" in message or "Incomplete" in message:
        return "the file ends in the middle of it; was it cut off?"
    if "UTF8" in message or "utf-8" in message:
        return "is not UTF-8"
    if "trailing" in message or "Additional" in message:
        return "something follows the end; put several persons into one list"
    if "overflow" in message:
        return "contains a number that is too large"
    return "is not JSON"
