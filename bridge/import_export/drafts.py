"""Files that appear complete or not at all. They contain names and photos, so only their owner may read them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from bridge.import_export.pictures import picture_id
from bridge.import_export.rows import PersonFileError

_PREFIX = ".facebridge-"

_SYNC_THREADS = 8
"""Pictures that are forced to the disk at once. File systems write those that wait together in one step; one by one,
ten thousand would take minutes on a small machine's memory card."""

_SYNC_BATCH = 1000


@contextmanager
def map_write_errors(path: str = "") -> Iterator[None]:
    """Raise PersonFileError for OSError: the disk is full, a folder is missing or read-only, and the like.

    Args:
        path: names what cannot be written; empty for the file itself.
    """
    try:
        yield
    except OSError as error:
        raise PersonFileError(f"{path} cannot be written: {error.strerror}".lstrip()) from None


class FileDraft:
    """A file that is written under another name beside its path, and renamed when it is complete."""

    def __init__(self, file: Path) -> None:
        """Begin an empty draft. Raises PersonFileError if the folder does not allow it."""
        self._file = file
        with map_write_errors():
            if file.is_dir():
                raise PersonFileError("is a folder; give the name of a file")
            # `mkstemp` creates the file with mode 0600.
            descriptor, draft = tempfile.mkstemp(prefix=_PREFIX, dir=file.parent)
        self._draft = Path(draft)
        self.stream = os.fdopen(descriptor, "w+b")

    def finish(self) -> None:
        """Force the draft to the disk. Raises OSError."""
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def publish(self) -> None:
        """Rename the draft to its path. Raises OSError."""
        self._draft.replace(self._file)
        _sync(self._file.parent)

    def discard(self) -> None:
        """Delete the draft if it was not published."""
        # Closing writes the buffer, and the disk may be full.
        with suppress(OSError):
            self.stream.close()
        self._draft.unlink(missing_ok=True)


class PictureFolderDraft:
    """Pictures that are written to a folder within their folder, and renamed when all are complete."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it is missing. Raises PersonFileError."""
        self._folder = folder
        self._title = f"the folder of pictures {folder}"
        self._published = False
        with map_write_errors(self._title):
            self._created = not folder.is_dir()
            if self._created:
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
                f"{self._folder} already contains another picture of this person, {self._others[person_id]}; "
                "give an empty folder"
            )
        with map_write_errors(self._title):
            descriptor = os.open(self._draft / _picture_name(person_id), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(jpeg)

    def finish(self) -> None:
        """Force all pictures to the disk. Raises OSError."""
        pictures = self._draft.iterdir()
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:
            # In batches, because a future takes 2 kB of memory until its batch is done.
            while batch := list(islice(pictures, _SYNC_BATCH)):
                list(pool.map(_sync, batch))

    def publish(self) -> None:
        """Rename all pictures to their paths. Raises OSError."""
        self._published = True
        for picture in list(self._draft.iterdir()):
            picture.replace(self._folder / picture.name)
        _sync(self._folder)

    def discard(self) -> None:
        """Delete what was not published."""
        shutil.rmtree(self._draft, ignore_errors=True)
        if self._created and not self._published:
            # Fails if another program has written to the folder; then it stays.
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
