"""Files that appear whole or not at all. They hold names and faces: only their owner may read them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from bridge.import_export.errors import PersonFileError
from bridge.import_export.pictures import picture_id

_PREFIX = ".facebridge-"

_SYNCS = 8
"""Pictures that are forced to the disk at once. File systems do those that wait together in one go; one by one, ten
thousand would take minutes on a small machine's card."""


@contextmanager
def told(what: str = "") -> Iterator[None]:
    """Raise PersonFileError where the disk is full, a folder is missing or may not be written, and the like.

    Args:
        what: cannot be written; empty for the file itself.
    """
    try:
        yield
    except OSError as error:
        raise PersonFileError(f"{what} cannot be written: {error.strerror}".lstrip()) from None


class FileDraft:
    """A file that is written beside its place and renamed into it once it is whole."""

    def __init__(self, file: Path) -> None:
        """Begin an empty draft. Raises PersonFileError where none can be made there."""
        self._file = file
        with told():
            if file.is_dir():
                raise PersonFileError("is a folder; give the name of a file")
            # Made with mode 0600.
            descriptor, draft = tempfile.mkstemp(prefix=_PREFIX, dir=file.parent)
        self._draft = Path(draft)
        self.stream = os.fdopen(descriptor, "w+b")

    def finish(self) -> None:
        """Have all of it on the disk. Raises OSError."""
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def place(self) -> None:
        """Put it in its place. Raises OSError."""
        self._draft.replace(self._file)
        _sync(self._file.parent)

    def discard(self) -> None:
        """Leave nothing behind, unless it is in its place."""
        # What is still to be written may find no room either.
        with suppress(OSError):
            self.stream.close()
        self._draft.unlink(missing_ok=True)


class PictureFolderDraft:
    """Pictures that are written into a folder within their folder, and renamed once all are whole."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing. Raises PersonFileError."""
        self._folder = folder
        self._told_of = f"the folder of pictures {folder}"
        self._placed = False
        with told(self._told_of):
            self._made = not folder.is_dir()
            if self._made:
                folder.mkdir(mode=0o700)
            self._others = {
                person_id: entry.name
                for entry in folder.iterdir()
                if (person_id := picture_id(entry.name)) is not None and entry.name != _picture_name(person_id)
            }
            self._draft = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))

    def add(self, person_id: str, jpeg: bytes) -> None:
        """Write a person's picture. Raises PersonFileError."""
        if person_id in self._others:
            raise PersonFileError(
                f"{self._folder} has another picture of the same person already, {self._others[person_id]}; "
                "give an empty folder"
            )
        with told(self._told_of):
            descriptor = os.open(self._draft / _picture_name(person_id), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(jpeg)

    def finish(self) -> None:
        """Have all of them on the disk. Raises OSError."""
        with ThreadPoolExecutor(_SYNCS) as pool:
            list(pool.map(_sync, self._draft.iterdir()))

    def place(self) -> None:
        """Put all of them in their places. Raises OSError."""
        self._placed = True
        for picture in list(self._draft.iterdir()):
            picture.replace(self._folder / picture.name)
        _sync(self._folder)

    def discard(self) -> None:
        """Leave nothing behind but what is in its place."""
        shutil.rmtree(self._draft, ignore_errors=True)
        if self._made and not self._placed:
            # Unless somebody has put something in meanwhile.
            with suppress(OSError):
                self._folder.rmdir()


def _picture_name(person_id: str) -> str:
    return f"{person_id}.jpg"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
