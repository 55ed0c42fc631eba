"""Reads JSON as a stream: ten thousand persons with their photos are more than a machine may have memory for."""

from collections.abc import Iterator, Mapping
from typing import Any

import ijson

from bridge.import_export.byte_source import ByteSource
from bridge.import_export.errors import PersonFileError
from bridge.import_export.rows import Row

_MAXIMUM_PARTS = 2000
"""Keys, values and brackets of a person: seven days of twenty-four ranges each, and as much again."""

_ROOT = 'must be a list of persons, or {"persons": [...]} with nothing beside it'

_Event = tuple[str, Any]


def read_json(source: ByteSource) -> Iterator[Row]:
    """Read person by person.

    Raises:
        PersonFileError: it is no JSON of persons, or not from some person on.
    """
    events = _events(source)
    kind, _ = next(events)
    if kind == "start_array":
        yield from _persons(source, events)
    elif kind == "start_map" and next(events) == ("map_key", "persons") and next(events)[0] == "start_array":
        yield from _persons(source, events)
        if next(events)[0] != "end_map":
            raise PersonFileError(_ROOT)
    else:
        raise PersonFileError(_ROOT)
    # Reads on to the end, so that what follows is told.
    next(events, None)


def _persons(source: ByteSource, events: Iterator[_Event]) -> Iterator[Row]:
    number = 1
    source.begin("person 1")
    for kind, value in events:
        if kind == "end_array":
            source.begin("")
            return
        data = _value(source, events, (kind, value))
        if not isinstance(data, Mapping):
            raise source.error('must be an object like {"id": "1001", "name": "Ada"}')
        yield Row(number=number, data=data, picture=None)
        number += 1
        source.begin(f"person {number}")


def _value(source: ByteSource, events: Iterator[_Event], first: _Event) -> object:
    builder = ijson.ObjectBuilder()
    builder.event(*first)
    parts = 1
    # Of containers the builder keeps those that are open.
    while builder.containers:
        parts += 1
        if parts > _MAXIMUM_PARTS:
            raise source.error("has more in it than a person can have")
        builder.event(*next(events))
    value: object = builder.value
    return value


def _events(source: ByteSource) -> Iterator[_Event]:
    try:
        yield from ijson.basic_parse(source, use_float=True)
    except ijson.JSONError as error:
        # Its own message shows the text around, which is somebody's.
        raise source.error(_why(str(error))) from None


def _why(message: str) -> str:
    if "premature EOF" in message or "Incomplete" in message:
        return "the file ends in the middle of it; was it cut off?"
    if "UTF8" in message or "utf-8" in message:
        return "is not UTF-8"
    if "trailing" in message or "Additional" in message:
        return "something follows the end; several persons go into one list"
    if "overflow" in message:
        return "holds a number that is too large"
    return "is not JSON"
