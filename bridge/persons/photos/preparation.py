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
from bridge.persons.photos.conversion import MAXIMUM_SIDE_PIXELS, MINIMUM_SIDE_PIXELS
from bridge.persons.photos.sources import AttachedPhoto, InlinePhoto, PhotoSource, read_file, read_inline
from bridge.persons.photos.worker_pool import PhotoWorkerPool, WorkerLimits

MAXIMUM_BYTES = 10 * 1024 * 1024
"""Of a picture before the conversion; the default of `photos.max_bytes`."""

WORKERS = 2
"""Pictures that are converted at once, each by a thread with a process of its own: a slow one does not hold up the
others. More would only hold more large pictures in memory."""

_IDLE_SECONDS = 60.0
"""After this time without a picture the processes are ended. Each takes some 30 MB of memory, and 0.1 s to start."""


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
    """Reads pictures in threads of its own and converts them in worker processes: no press waits for a picture."""

    def __init__(
        self,
        folders: Sequence[Path] = (),
        max_bytes: int = MAXIMUM_BYTES,
        size: tuple[int, int] | None = None,
        workers: int = WORKERS,
        limits: WorkerLimits | None = None,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        """Create the pools; threads and processes start when there is work.

        Args:
            folders: the folders that files may be read from (`photos.folders`).
            max_bytes: of a picture before the conversion, not in base64 (`photos.max_bytes`).
            size: the largest width and height in pixels of a converted photo (`photos.size`).
            workers: pictures that are converted at once.
            limits: what the conversion of a picture may use; None for the usual limits.
            idle_seconds: time without a picture after which the processes end.

        Raises:
            ValueError: the size is below the smallest photo.
        """
        self._folders = tuple(folders)
        self._max_bytes = max_bytes
        width, height = (MAXIMUM_SIDE_PIXELS, MAXIMUM_SIDE_PIXELS) if size is None else size
        self._box = (min(width, MAXIMUM_SIDE_PIXELS), min(height, MAXIMUM_SIDE_PIXELS))
        if min(self._box) < MINIMUM_SIDE_PIXELS:
            raise ValueError(f"a photo has at least {MINIMUM_SIDE_PIXELS} pixels on each side")
        self._pool = PhotoWorkerPool(limits)
        self._idle_seconds = idle_seconds
        self._running = 0
        self._is_closed = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="photo")

    @property
    def process_ids(self) -> list[int]:
        """The ids of the worker processes that run."""
        return self._pool.process_ids

    async def prepare(self, source: PhotoSource) -> PreparedPhoto:
        """Read and convert a picture.

        The queue has no limit; the caller limits how many pictures it prepares at once.

        Raises:
            InvalidError: the picture cannot be read or converted; at the path `photo` or `photo_file`.
            UnavailableError: the bridge cannot convert pictures now.
        """
        loop = asyncio.get_running_loop()
        self._cancel_idle_timer()
        self._running += 1
        try:
            return await loop.run_in_executor(self._executor, self._prepare, source)
        finally:
            self._running -= 1
            if self._running == 0 and not self._is_closed:
                self._cancel_idle_timer()
                self._idle_timer = loop.call_later(self._idle_seconds, self._executor.submit, self._pool.end_idle)

    def close(self) -> None:
        """End the conversions: calls of `prepare` that wait are cancelled, the others raise RuntimeError."""
        self._is_closed = True
        self._cancel_idle_timer()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._pool.close()

    def _cancel_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def _prepare(self, source: PhotoSource) -> PreparedPhoto:
        try:
            if isinstance(source, InlinePhoto):
                data = read_inline(source.text, self._max_bytes)
            elif isinstance(source, AttachedPhoto):
                data = source.read(self._max_bytes)
            else:
                data = read_file(source.path, self._folders, self._max_bytes)
            jpeg = self._pool.convert(data, self._box)
        except InvalidError as error:
            raise InvalidError([fault.below(source.FIELD) for fault in error.faults]) from None
        return PreparedPhoto(hashlib.sha256(jpeg).hexdigest(), jpeg)


def encode_base64(jpeg: bytes) -> str:
    """Return a prepared photo as base64 text, for `bridge.protocol.encoding.escape_photo` and for JSON files."""
    return b64encode(jpeg).decode("ascii")
