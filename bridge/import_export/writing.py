"""Writes a file of persons that `reading` reads back without a difference."""

import csv
import shutil
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import orjson

from bridge.import_export.archive import MAXIMUM_MEMBERS
from bridge.import_export.csv_cells import escape_cell
from bridge.import_export.drafts import FileDraft, PictureFolderDraft, map_write_errors
from bridge.import_export.rows import PersonFileError
from bridge.model.person import Person
from bridge.persons.fields import SHOWN_FIELDS

_OWNER_ONLY = 0o600 << 16
"""The mode of a member in ZIP's form, for tools that unpack it."""


class PersonWriter(Protocol):
    """Writes the persons of a file."""

    def add(self, person: Person, jpeg: bytes) -> None:
        """Write a person and the photo; each person only once. Raises PersonFileError."""
        ...


@contextmanager
def write_person_file(file: Path, photos: Path | None) -> Iterator[PersonWriter]:
    """Write a file of persons. It appears at its path when it is complete; on any exception nothing changes.

    Args:
        file: a .csv, .json or .zip; an existing one is replaced.
        photos: a folder for the pictures of a .csv or .json, created if it is missing. With None a CSV has no
            pictures, and a JSON contains them.

    Raises:
        PersonFileError: the file cannot be written.
    """
    suffix = file.suffix.lower()
    if suffix not in (".csv", ".json", ".zip"):
        raise PersonFileError("must be a .csv, a .json or a .zip")
    if suffix == ".zip" and photos is not None:
        raise PersonFileError("an archive contains its pictures; leave --photos out")
    with ExitStack() as stack:
        folder = None
        if photos is not None:
            folder = PictureFolderDraft(photos)
            stack.callback(folder.discard)
        draft = FileDraft(file)
        stack.callback(draft.discard)
        writer: _TableFile | _ArchiveFile
        with map_write_errors():
            if suffix == ".zip":
                # ZipFile writes one member at a time, so the table waits in a second draft until the pictures are in.
                rows = FileDraft(file)
                stack.callback(rows.discard)
                writer = _ArchiveFile(draft.stream, rows.stream)
                stack.callback(writer.discard)
            elif suffix == ".csv":
                writer = _TableFile(_CsvWriter(draft.stream), folder)
            else:
                writer = _TableFile(_JsonWriter(draft.stream, photos=folder is None), folder)
        yield writer
        with map_write_errors():
            writer.finish()
            draft.finish()
            if folder is not None:
                folder.finish()
                # Before the table, so that a table never lacks its pictures.
                folder.publish()
            draft.publish()


class _TableWriter(Protocol):
    """Writes a table to a stream. All methods raise OSError."""

    def add(self, person: Person, jpeg: bytes) -> None:
        """Write a person, and the photo if the table contains photos."""
        ...

    def finish(self) -> None:
        """Write what follows the last person."""
        ...


class _CsvWriter:
    """Writes a CSV with commas, without photos."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._writer = csv.writer(_Utf8(stream), lineterminator="\n")
        self._writer.writerow([field.name for field in SHOWN_FIELDS])

    def add(self, person: Person, jpeg: bytes) -> None:  # noqa: ARG002  the photos of a CSV are files beside it
        shown = person.as_json()
        self._writer.writerow([escape_cell(field.kind.write_cell(shown[field.name])) for field in SHOWN_FIELDS])

    def finish(self) -> None:
        """Do nothing: a CSV ends with its last row."""


class _Utf8:
    """What the csv module writes to. It has no buffer that would need to be closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text.encode())


class _JsonWriter:
    """Writes JSON with one person a line."""

    def __init__(self, stream: IO[bytes], *, photos: bool) -> None:
        """Begin the list; `photos` says whether to write them as base64 with the persons."""
        self._stream = stream
        self._photos = photos
        self._separator = b'{"persons": [\n'

    def add(self, person: Person, jpeg: bytes) -> None:
        shown = person.as_json()
        if self._photos:
            shown["photo"] = b64encode(jpeg).decode()
        self._stream.write(self._separator)
        self._stream.write(orjson.dumps(shown))
        self._separator = b",\n"

    def finish(self) -> None:
        """End the list."""
        self._stream.write(b'{"persons": []}\n' if self._separator.startswith(b"{") else b"\n]}\n")


class _TableFile:
    """A table, and the folder of its pictures if there is one."""

    def __init__(self, table: _TableWriter, folder: PictureFolderDraft | None) -> None:
        self._table = table
        self._folder = folder

    def add(self, person: Person, jpeg: bytes) -> None:
        if self._folder is not None:
            self._folder.add(person.id, jpeg)
        with map_write_errors():
            self._table.add(person, jpeg)

    def finish(self) -> None:
        self._table.finish()


class _ArchiveFile:
    """A CSV and pictures in a ZIP."""

    def __init__(self, stream: IO[bytes], rows: IO[bytes]) -> None:
        self._rows = rows
        self._table = _CsvWriter(rows)
        self._archive = ZipFile(stream, "w", ZIP_STORED)

    def add(self, person: Person, jpeg: bytes) -> None:
        if len(self._archive.filelist) + 1 >= MAXIMUM_MEMBERS:
            raise PersonFileError(f"an archive holds at most {MAXIMUM_MEMBERS - 1} persons; write a .csv with --photos")
        with map_write_errors():
            # Stored, because compression does not make a JPEG smaller.
            self._archive.writestr(_member(f"photos/{person.id}.jpg"), jpeg)
            self._table.add(person, jpeg)

    def finish(self) -> None:
        self._rows.seek(0)
        member = _member("persons.csv")
        member.compress_type = ZIP_DEFLATED
        with self._archive.open(member, "w") as stream:
            shutil.copyfileobj(self._rows, stream)
        self._archive.close()

    def discard(self) -> None:
        # Closing writes the list of members, and the disk may be full.
        with suppress(OSError):
            self._archive.close()


def _member(name: str) -> ZipInfo:
    member = ZipInfo(name)
    member.external_attr = _OWNER_ONLY
    return member
