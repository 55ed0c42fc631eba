"""Opens a file of persons, whatever its format, with the pictures that lie beside it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from bridge.import_export.archive import open_archive, open_file
from bridge.import_export.byte_source import ByteSource
from bridge.import_export.csv_table import read_csv
from bridge.import_export.errors import PersonFileError
from bridge.import_export.json_table import read_json
from bridge.import_export.pictures import Pictures, pictures_in
from bridge.import_export.rows import Row
from bridge.model.faults import Fault


class PersonFile(Protocol):
    """The persons in a file."""

    def rows(self) -> Iterator[Row]:
        """Read the rows in the file's order, as they are asked for; once only.

        Raises:
            PersonFileError: the file cannot be read from here on.
        """
        ...

    @property
    def strays(self) -> Sequence[str]:
        """The names of pictures that belong to nobody in the file, sorted; known after the last row."""
        ...

    def progress(self) -> float:
        """Return how much of the file was read, 0 to 1."""
        ...


@contextmanager
def open_person_file(file: Path, photos: Path | None) -> Iterator[PersonFile]:
    """Open a file of persons; pictures can be read as long as it is open.

    Args:
        file: a .csv, .json or .zip.
        photos: a folder of pictures named by id; None for none.

    Raises:
        PersonFileError: it cannot be read, or a picture folder is given for an archive that has pictures itself.
    """
    suffix = file.suffix.lower()
    with ExitStack() as stack:
        pictures = Pictures() if photos is None else pictures_in(photos)
        if suffix == ".zip":
            archive = stack.enter_context(open_archive(file))
            if photos is not None and archive.pictures:
                raise PersonFileError("the archive has pictures of its own; leave --photos out")
            pictures = archive.pictures or pictures
            suffix = PurePosixPath(archive.table_name).suffix.lower()
            source = stack.enter_context(archive.open_table())
        elif suffix in (".csv", ".json"):
            stream = stack.enter_context(open_file(file))
            source = ByteSource(partial(_read, stream), os.fstat(stream.fileno()).st_size)
        else:
            raise PersonFileError("must be a .csv, a .json or a .zip")
        yield _OpenFile(source, read_csv(source) if suffix == ".csv" else read_json(source), pictures)


def _read(stream: BinaryIO, size: int) -> bytes:
    try:
        return stream.read(size)
    except OSError as error:
        raise PersonFileError(f"cannot be read: {error.strerror}") from None


class _OpenFile:
    """Adds to a table's rows what only the whole file can tell."""

    def __init__(self, source: ByteSource, rows: Iterator[Row], pictures: Pictures) -> None:
        self._source = source
        self._rows = rows
        self._pictures = pictures
        self._first_rows: dict[str, int] = {}

    def rows(self) -> Iterator[Row]:
        for row in self._rows:
            yield self._seen_in_the_file(row)

    @property
    def strays(self) -> Sequence[str]:
        return self._pictures.strays()

    def progress(self) -> float:
        return self._source.progress()

    def _seen_in_the_file(self, row: Row) -> Row:
        faults = list(row.faults)
        person_id = row.data.get("id")
        if isinstance(person_id, str) and person_id:
            first = self._first_rows.setdefault(person_id, row.number)
            if first != row.number:
                faults.append(Fault("id", f"is that of row {first} too; a person has one row"))
        pictures = self._pictures.claim(person_id)
        if len(pictures) > 1:
            names = ", ".join(sorted(picture.name for picture in pictures)[:5])
            faults.append(Fault("photo", f"there are several pictures of this person: {names}; keep one"))
        given = next((key for key in ("photo", "photo_file") if key in row.data), None)
        if pictures and given is not None:
            faults.append(
                Fault(given, f"there is a picture beside the table too, {pictures[0].name}; give one of them")
            )
        return replace(row, picture=pictures[0] if pictures else None, faults=tuple(faults))
