"""Opens a file of persons in any of the formats, with the pictures beside its table."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bridge.import_export.archive import open_archive, open_file
from bridge.import_export.csv_reading import read_csv
from bridge.import_export.json_reading import read_json
from bridge.import_export.pictures import Pictures, pictures_in
from bridge.import_export.rows import ByteSource, PersonFileError, Row
from bridge.model.faults import Fault
from bridge.model.messages import message


class PersonFile:
    """The persons in an open file. Adds to each row what only the whole file shows: its picture, and duplicate ids."""

    def __init__(self, source: ByteSource, rows: Iterator[Row], pictures: Pictures) -> None:
        self._source = source
        self._rows = rows
        self._pictures = pictures
        self._first_rows: dict[str, int] = {}

    def rows(self) -> Iterator[Row]:
        """Read the rows lazily, in the file's order; only once.

        Raises:
            PersonFileError: the file cannot be read from here on.
        """
        for row in self._rows:
            yield self._complete(row)

    @property
    def unclaimed_pictures(self) -> Sequence[str]:
        """The names of the pictures without a row, sorted; complete after the last row."""
        return self._pictures.unclaimed()

    def progress(self) -> float:
        """Return the share of the file that was read, 0 to 1."""
        return self._source.progress()

    def _complete(self, row: Row) -> Row:
        faults = list(row.faults)
        person_id = row.data.get("id")
        if isinstance(person_id, str) and person_id:
            first = self._first_rows.setdefault(person_id, row.number)
            if first != row.number:
                faults.append(
                    Fault("id", message("is also the id of row %(first)s; keep one row for each person", first=first))
                )
        pictures = self._pictures.claim(person_id)
        if len(pictures) > 1:
            names = ", ".join(sorted(picture.name for picture in pictures)[:5])
            faults.append(
                Fault("photo", message("there are several pictures of this person: %(names)s; keep one", names=names))
            )
        given = next((key for key in ("photo", "photo_file") if key in row.data), None)
        if pictures and given is not None:
            faults.append(
                Fault(
                    given,
                    message(
                        "there is also a picture beside the table, %(name)s; give one of them", name=pictures[0].name
                    ),
                )
            )
        return replace(row, picture=pictures[0] if pictures else None, faults=tuple(faults))


@contextmanager
def open_person_file(file: Path, photos: Path | None) -> Iterator[PersonFile]:
    """Open a file of persons. Its pictures can be read while it is open.

    Args:
        file: a .csv, .json or .zip.
        photos: a folder of pictures named by id; None for none.

    Raises:
        PersonFileError: the file cannot be read, or a folder is given for an archive that contains pictures.
    """
    suffix = file.suffix.lower()
    with ExitStack() as stack:
        pictures = Pictures() if photos is None else pictures_in(photos)
        if suffix == ".zip":
            archive = stack.enter_context(open_archive(file))
            if photos is not None and archive.pictures:
                raise PersonFileError("the archive contains pictures; leave --photos out")
            pictures = archive.pictures or pictures
            suffix = PurePosixPath(archive.table_name).suffix.lower()
            source = stack.enter_context(archive.open_table())
        elif suffix in (".csv", ".json"):
            stream = stack.enter_context(open_file(file))
            source = ByteSource(partial(_read, stream), os.fstat(stream.fileno()).st_size)
        else:
            raise PersonFileError("must be a .csv, a .json or a .zip")
        yield PersonFile(source, read_csv(source) if suffix == ".csv" else read_json(source), pictures)


def _read(stream: BinaryIO, size: int) -> bytes:
    try:
        return stream.read(size)
    except OSError as error:
        raise PersonFileError(message("cannot be read: %(strerror)s", strerror=error.strerror)) from None
