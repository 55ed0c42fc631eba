"""Writes a file of persons that reads back without a difference."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from bridge.import_export.archive import MAXIMUM_MEMBERS
from bridge.import_export.drafts import FileDraft, PictureFolderDraft, told
from bridge.import_export.errors import PersonFileError
from bridge.import_export.tables import CsvWriter, JsonWriter, TableWriter
from bridge.model.person import Person

_OWNER_ONLY = 0o600 << 16
"""A member's mode as ZIP has it, for tools that unpack it."""


class PersonWriter(Protocol):
    """Takes the persons of a file that is being written."""

    def add(self, person: Person, jpeg: bytes) -> None:
        """Write a person that was not written before, and their photo. Raises PersonFileError."""
        ...


@contextmanager
def write_person_file(file: Path, photos: Path | None) -> Iterator[PersonWriter]:
    """Write a file of persons; it comes into its place at the end, and on any exception nothing does.

    Args:
        file: a .csv, .json or .zip; one that is there is replaced.
        photos: a folder for the pictures of a .csv or .json, made where it is missing; None leaves a CSV without
            pictures, and puts those of a JSON into it.

    Raises:
        PersonFileError: it cannot be written.
    """
    suffix = file.suffix.lower()
    if suffix not in (".csv", ".json", ".zip"):
        raise PersonFileError("must be a .csv, a .json or a .zip")
    if suffix == ".zip" and photos is not None:
        raise PersonFileError("an archive has its pictures inside; leave --photos out")
    with ExitStack() as stack:
        folder = None
        if photos is not None:
            folder = PictureFolderDraft(photos)
            stack.callback(folder.discard)
        draft = FileDraft(file)
        stack.callback(draft.discard)
        writer: _TableFile | _ArchiveFile
        with told():
            if suffix == ".zip":
                # An archive takes one member at a time, so the table waits beside it until the pictures are in.
                rows = FileDraft(file)
                stack.callback(rows.discard)
                writer = _ArchiveFile(draft.stream, rows.stream)
                stack.callback(writer.discard)
            elif suffix == ".csv":
                writer = _TableFile(CsvWriter(draft.stream), folder)
            else:
                writer = _TableFile(JsonWriter(draft.stream, photos=folder is None), folder)
        yield writer
        with told():
            writer.finish()
            draft.finish()
            if folder is not None:
                folder.finish()
                # Before the table: one that is in its place must not lack its pictures.
                folder.place()
            draft.place()


class _TableFile:
    """A table, and the folder of its pictures where there is one."""

    def __init__(self, table: TableWriter, folder: PictureFolderDraft | None) -> None:
        self._table = table
        self._folder = folder

    def add(self, person: Person, jpeg: bytes) -> None:
        if self._folder is not None:
            self._folder.add(person.id, jpeg)
        with told():
            self._table.add(person, jpeg)

    def finish(self) -> None:
        self._table.finish()


class _ArchiveFile:
    """A CSV and pictures in a ZIP."""

    def __init__(self, stream: IO[bytes], rows: IO[bytes]) -> None:
        self._rows = rows
        self._table = CsvWriter(rows)
        self._archive = ZipFile(stream, "w", ZIP_STORED)

    def add(self, person: Person, jpeg: bytes) -> None:
        if len(self._archive.filelist) + 1 >= MAXIMUM_MEMBERS:
            raise PersonFileError(f"an archive takes {MAXIMUM_MEMBERS - 1} persons; write a .csv with --photos")
        with told():
            # JPEGs do not get smaller.
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
        # It writes its list of members, for which there may be no room.
        with suppress(OSError):
            self._archive.close()


def _member(name: str) -> ZipInfo:
    member = ZipInfo(name)
    member.external_attr = _OWNER_ONLY
    return member
