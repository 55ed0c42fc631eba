"""Prepares photos: reads the picture that a user gives, and converts it for the store and the terminals."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bridge.model.faults import InvalidError
from bridge.model.person import PhotoReference
from bridge.persons.photos.conversion import (
    MAXIMUM_SIDE_PIXELS,
    MINIMUM_SIDE_PIXELS,
    convert_photo,
    ignore_decoder_warnings,
)
from bridge.persons.photos.sources import AttachedPhoto, InlinePhoto, PhotoSource, read_file, read_inline

MAXIMUM_BYTES = 10 * 1024 * 1024
"""Of a picture before the conversion; the default of `photos.max_bytes`."""

WORKERS = 2
"""Threads that decode and encode. Pillow releases the interpreter lock, so presses are carried out meanwhile. More
threads would only hold more large pictures in memory at once."""


@dataclass(frozen=True, slots=True)
class PreparedPhoto:
    """A photo as it is stored and sent: a baseline JPEG that every terminal can read.

    Attributes:
        sha256: of the bytes, in hexadecimal; names the photo.
        jpeg: the file's bytes.
    """

    sha256: PhotoReference
    jpeg: bytes = field(repr=False)


class PhotoPreparer:
    """Reads and converts pictures in threads of its own, so that no press waits for a picture."""

    def __init__(
        self,
        folders: Sequence[Path] = (),
        max_bytes: int = MAXIMUM_BYTES,
        size: tuple[int, int] | None = None,
        workers: int = WORKERS,
    ) -> None:
        """Create the thread pool; a thread starts when there is work.

        Args:
            folders: the folders that files may be read from (`photos.folders`).
            max_bytes: of a picture before the conversion, not in base64 (`photos.max_bytes`).
            size: the largest width and height in pixels of a converted photo (`photos.size`).
            workers: pictures that are converted at once.

        Raises:
            ValueError: the size is below the smallest photo.
        """
        self._folders = tuple(folders)
        self._max_bytes = max_bytes
        width, height = (MAXIMUM_SIDE_PIXELS, MAXIMUM_SIDE_PIXELS) if size is None else size
        self._box = (min(width, MAXIMUM_SIDE_PIXELS), min(height, MAXIMUM_SIDE_PIXELS))
        if min(self._box) < MINIMUM_SIDE_PIXELS:
            raise ValueError(f"a photo has at least {MINIMUM_SIDE_PIXELS} pixels on each side")
        ignore_decoder_warnings()
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="photo")

    async def prepare(self, source: PhotoSource) -> PreparedPhoto:
        """Read and convert a picture.

        The queue has no limit; the caller limits how many pictures it prepares at once.

        Raises:
            InvalidError: the picture cannot be read or converted; at the path `photo` or `photo_file`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._prepare, source)

    def close(self) -> None:
        """Start no more conversions. Calls of `prepare` whose conversion has not started are cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, source: PhotoSource) -> PreparedPhoto:
        try:
            if isinstance(source, InlinePhoto):
                data = read_inline(source.text, self._max_bytes)
            elif isinstance(source, AttachedPhoto):
                data = source.read(self._max_bytes)
            else:
                data = read_file(source.path, self._folders, self._max_bytes)
            jpeg = convert_photo(data, self._box)
        except InvalidError as error:
            raise InvalidError([fault.below(source.FIELD) for fault in error.faults]) from None
        return PreparedPhoto(hashlib.sha256(jpeg).hexdigest(), jpeg)


def encode_base64(jpeg: bytes) -> str:
    """Return a prepared photo as base64 text, for `bridge.protocol.photos.escape_photo` and for JSON files."""
    return b64encode(jpeg).decode("ascii")
