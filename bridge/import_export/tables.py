"""Writes persons as rows of a table, CSV or JSON."""

import csv
from typing import IO, Protocol

import orjson

from bridge.model.person import Person
from bridge.persons.photos.preparation import wire_photo

_COLUMNS = (
    "id",
    "name",
    "card",
    "id_number",
    "valid_from",
    "valid_until",
    "pass_count",
    "visitor",
    "weekly",
    "enabled",
)


class TableWriter(Protocol):
    """Writes a table to a stream; all methods raise OSError."""

    def add(self, person: Person, jpeg: bytes) -> None:
        """Write a person, with the photo where the table holds photos."""
        ...

    def finish(self) -> None:
        """Write what belongs behind the last person."""
        ...


class CsvWriter:
    """Writes a CSV with commas, without photos."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._writer = csv.writer(_Utf8(stream), lineterminator="\n")
        self._writer.writerow(_COLUMNS)

    def add(self, person: Person, jpeg: bytes) -> None:  # noqa: ARG002  a CSV's photos lie beside it
        """Write a person."""
        fields = person.as_json()
        self._writer.writerow([_cell(fields[column]) for column in _COLUMNS])

    def finish(self) -> None:
        """Do nothing: a CSV ends with its last row."""


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Numbers, true and false are written as in JSON, and so are the days of a week.
    return orjson.dumps(value).decode()


class _Utf8:
    """What the csv module writes to, without a buffer of its own that would have to be closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text.encode())


class JsonWriter:
    """Writes JSON, a person a line."""

    def __init__(self, stream: IO[bytes], *, photos: bool) -> None:
        """Begin the list.

        Args:
            stream: where to.
            photos: whether they are written as base64 with the persons.
        """
        self._stream = stream
        self._photos = photos
        self._before = b'{"persons": [\n'

    def add(self, person: Person, jpeg: bytes) -> None:
        """Write a person."""
        fields = person.as_json()
        if self._photos:
            fields["photo"] = wire_photo(jpeg)
        self._stream.write(self._before)
        self._stream.write(orjson.dumps(fields))
        self._before = b",\n"

    def finish(self) -> None:
        """End the list."""
        self._stream.write(b'{"persons": []}\n' if self._before.startswith(b"{") else b"\n]}\n")
