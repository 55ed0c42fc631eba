"""Prepared photos on the disk, from the check of a file to its import: ten thousand do not fit in memory."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cryptography.fernet import Fernet

from bridge.persons.preparation import PreparedPhoto


@dataclass(frozen=True, slots=True)
class SpooledPhoto:
    """The place of a photo in the spool.

    Attributes:
        sha256: the name of the photo.
        position: of its first byte in the file.
        length: its bytes in the file.
    """

    sha256: str
    position: int
    length: int


class PhotoSpool:
    """A file of photos, encrypted with a key that only this process has, because it contains faces."""

    def __init__(self, folder: Path | None, file: IO[bytes] | None = None) -> None:
        """Begin with an empty file.

        Args:
            folder: on a disk with enough space; None for the folder of temporary files.
            file: the file; None creates one without a name in the folder.
        """
        self._file = tempfile.TemporaryFile(dir=folder) if file is None else file  # noqa: SIM115  closed by __exit__
        self._cipher = Fernet(Fernet.generate_key())
        self._spooled: dict[str, SpooledPhoto] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._file.close()

    def add(self, photo: PreparedPhoto) -> SpooledPhoto:
        """Store a photo, once. Raises OSError if the disk is full."""
        spooled = self._spooled.get(photo.sha256)
        if spooled is None:
            content = self._cipher.encrypt(photo.jpeg)
            spooled = SpooledPhoto(photo.sha256, self._file.seek(0, 2), len(content))
            self._file.write(content)
            self._spooled[photo.sha256] = spooled
        return spooled

    def read(self, spooled: SpooledPhoto) -> PreparedPhoto:
        """Return a stored photo."""
        self._file.seek(spooled.position)
        return PreparedPhoto(spooled.sha256, self._cipher.decrypt(self._file.read(spooled.length)))
