"""Photos that are ready, on the disk between the check of a file and its import: ten thousand do not fit in memory."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.fernet import Fernet

from bridge.persons.photos.preparation import PreparedPhoto


@dataclass(frozen=True, slots=True)
class SpooledPhoto:
    """Where a photo lies.

    Attributes:
        sha256: names it.
        position: in the file.
        length: there, in bytes.
    """

    sha256: str
    position: int
    length: int


class PhotoSpool:
    """A file without a name, encrypted with a key that only this process has: it holds faces."""

    def __init__(self, folder: Path | None) -> None:
        """Begin with none.

        Args:
            folder: on a disk with room for them; None for wherever temporary files are.
        """
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by __exit__
        self._cipher = Fernet(Fernet.generate_key())
        self._spooled: dict[str, SpooledPhoto] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._file.close()

    def add(self, photo: PreparedPhoto) -> SpooledPhoto:
        """Keep a photo, once. Raises OSError where the disk is full."""
        spooled = self._spooled.get(photo.sha256)
        if spooled is None:
            content = self._cipher.encrypt(photo.jpeg)
            spooled = SpooledPhoto(photo.sha256, self._file.seek(0, 2), len(content))
            self._file.write(content)
            self._spooled[photo.sha256] = spooled
        return spooled

    def read(self, spooled: SpooledPhoto) -> PreparedPhoto:
        """Return a photo that was kept."""
        self._file.seek(spooled.position)
        return PreparedPhoto(spooled.sha256, self._cipher.decrypt(self._file.read(spooled.length)))
