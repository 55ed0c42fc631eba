"""Pictures beside a table, named by id: `p1.jpg` is the picture of the person p1."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from bridge.import_export.rows import PersonFileError
from bridge.model.faults import InvalidError, shorten
from bridge.model.messages import message
from bridge.persons.photos.sources import AttachedPhoto, check_size

MAXIMUM_PICTURES = 100_000
"""Pictures in a folder or an archive: ten times as many as the largest import that the bridge is designed for."""

MAXIMUM_SHOWN_NAME_LENGTH = 255
"""Characters of a file's name in a message: Linux's own limit."""

_SUFFIXES = frozenset(("jpg", "jpeg", "png", "webp", "heic", "heif"))


def picture_id(name: str) -> str | None:
    """Return the id of the person whose picture has this file name; None if the name is not that of a picture."""
    # Not `Path.suffix`: an id may begin with dots, and `..jpg` is the picture of the person `.`.
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.lower() in _SUFFIXES else None


class Pictures:
    """The pictures beside a table, and which of them a row has claimed."""

    def __init__(self, pictures: Iterable[tuple[str, AttachedPhoto]] = ()) -> None:
        """Take pairs of a person's id and a picture. Raises PersonFileError if there are too many."""
        self._by_id: dict[str, list[AttachedPhoto]] = {}
        self._claimed: set[str] = set()
        for count, (person_id, picture) in enumerate(pictures, 1):
            if count > MAXIMUM_PICTURES:
                raise PersonFileError(
                    message(
                        "there are more than %(max_pictures)s pictures; split them up", max_pictures=MAXIMUM_PICTURES
                    )
                )
            self._by_id.setdefault(person_id, []).append(picture)

    def __bool__(self) -> bool:
        return bool(self._by_id)

    def claim(self, person_id: object) -> Sequence[AttachedPhoto]:
        """Return the pictures of a person in the table."""
        if not isinstance(person_id, str) or person_id not in self._by_id:
            return ()
        self._claimed.add(person_id)
        return self._by_id[person_id]

    def unclaimed(self) -> list[str]:
        """Return the names of the pictures that no row has claimed, sorted."""
        return sorted(
            picture.name
            for person_id, pictures in self._by_id.items()
            if person_id not in self._claimed
            for picture in pictures
        )


def pictures_in(folder: Path) -> Pictures:
    """Return the pictures directly in a folder. Links are followed: the user gave the folder and may read it.

    Raises:
        PersonFileError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return Pictures(
                (
                    person_id,
                    AttachedPhoto(shorten(entry.name, MAXIMUM_SHOWN_NAME_LENGTH), partial(_read, Path(entry.path))),
                )
                for entry in entries
                if (person_id := picture_id(entry.name)) is not None and _is_file(entry)
            )
    except FileNotFoundError:
        raise PersonFileError(message("the folder of pictures %(folder)s does not exist", folder=folder)) from None
    except NotADirectoryError:
        raise PersonFileError(
            message("%(folder)s is not a folder; --photos takes a folder of pictures", folder=folder)
        ) from None
    except OSError as error:
        raise PersonFileError(
            message(
                "the folder of pictures %(folder)s cannot be read: %(strerror)s", folder=folder, strerror=error.strerror
            )
        ) from None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        # `_read` will raise the same error and report it.
        return True


def _read(file: Path, max_bytes: int) -> bytes:
    try:
        with file.open("rb") as stream:
            check_size(os.fstat(stream.fileno()).st_size, max_bytes)
            # The file may have grown since.
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise InvalidError.at("", message("cannot be read: %(strerror)s", strerror=error.strerror)) from None
    check_size(len(data), max_bytes)
    return data
