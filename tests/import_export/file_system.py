"""Files of persons in a test's folder, and reading them."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from bridge.import_export.reading import open_person_file
from bridge.import_export.rows import Row
from bridge.model.person import Person
from bridge.persons.photos.sources import AttachedPhoto

MAXIMUM = 1_000_000
"""The `photos.max_bytes` of these tests."""

PHOTO = "ab" * 32
JPEG = b"\xff\xd8 not looked at here \xff\xd9"


def person(person_id: str, name: str = "Ada", **fields: object) -> Person:
    return Person.from_stored({**Person(id=person_id, name=name, photo=PHOTO).as_stored(), **fields})


def read(file: Path, photos: Path | None = None) -> list[Row]:
    with open_person_file(file, photos) as opened:
        return list(opened.rows())


def read_with_unclaimed_pictures(file: Path, photos: Path | None = None) -> tuple[list[Row], list[str]]:
    with open_person_file(file, photos) as opened:
        return list(opened.rows()), list(opened.unclaimed_pictures)


def bytes_of(picture: AttachedPhoto | None) -> bytes:
    assert picture is not None
    return picture.read(MAXIMUM)


def write_zip(file: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file
