"""From a picture as a user gives it to the photo that is stored and sent."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bridge.model.faults import InvalidError
from bridge.model.person import PhotoReference
from bridge.persons.photos.conversion import MAXIMUM_SIDE, MINIMUM_SIDE, convert_photo, ignore_decoder_warnings
from bridge.persons.photos.sources import AttachedPhoto, InlinePhoto, PhotoSource, read_file, read_inline

MAXIMUM_BYTES = 10 * 1024 * 1024
"""Of a picture as it comes in, unless the configuration says otherwise (`photos.max_bytes`)."""

WORKERS = 2
"""Threads that decode and encode. Pillow lets go of the interpreter lock, so presses go on meanwhile; more threads
would only hold more large pictures in memory at once."""


@dataclass(frozen=True, slots=True)
class PreparedPhoto:
    """A photo as it is stored and sent: a baseline JPEG that any terminal can read.

    Attributes:
        sha256: names it.
        jpeg: the bytes.
    """

    sha256: PhotoReference
    jpeg: bytes = field(repr=False)


class PhotoPreparer:
    """Reads pictures and puts them right, in threads of its own, so that no press waits for a picture."""

    def __init__(
        self,
        folders: Sequence[Path] = (),
        max_bytes: int = MAXIMUM_BYTES,
        size: tuple[int, int] | None = None,
        workers: int = WORKERS,
    ) -> None:
        """Start no thread before there is work.

        Args:
            folders: that files may be read from (`photos.folders`).
            max_bytes: of a picture as it comes in, decoded (`photos.max_bytes`).
            size: width and height in pixels that every photo has to fit into (`photos.size`).
            workers: pictures that are worked on at once.

        Raises:
            ValueError: no picture fits into that size.
        """
        self._folders = tuple(folders)
        self._max_bytes = max_bytes
        width, height = (MAXIMUM_SIDE, MAXIMUM_SIDE) if size is None else size
        self._box = (min(width, MAXIMUM_SIDE), min(height, MAXIMUM_SIDE))
        if min(self._box) < MINIMUM_SIDE:
            raise ValueError(f"a photo has at least {MINIMUM_SIDE} pixels on each side")
        ignore_decoder_warnings()
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="photo")

    async def prepare(self, source: PhotoSource) -> PreparedPhoto:
        """Read a picture and put it right.

        How many wait is bounded by how many the caller asks for at once.

        Raises:
            InvalidError: it cannot be read, or is no picture that can be sent; at `photo` or `photo_file`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._prepare, source)

    def close(self) -> None:
        """Begin nothing more; whoever still waits for a picture that was not begun is cancelled."""
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
    """Return the base64 text of a prepared photo, for the codec's `escape_photo`."""
    return b64encode(jpeg).decode("ascii")
