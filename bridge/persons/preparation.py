"""Reads the persons of changes and prepares their photos, before anything is stored."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path

from bridge.model.commands import PersonChange, SetPersons
from bridge.model.faults import Fault, InvalidError
from bridge.model.names import is_person_id
from bridge.model.person import PhotoReference
from bridge.persons.photos import MAXIMUM_SIDE_PIXELS, MINIMUM_SIDE_PIXELS
from bridge.persons.photos.sources import AttachedPhoto, InlinePhoto, PhotoSource, read_file, read_inline
from bridge.persons.photos.worker_pool import PhotoWorkerPool, WorkerLimits
from bridge.persons.schema import PersonPatch, parse_person

MAXIMUM_BYTES = 10 * 1024 * 1024
"""Of a picture before the conversion; the default of `photos.max_bytes`."""

WORKERS = 2
"""Pictures that are converted at once, each by a thread with a process of its own: a slow one does not hold up the
others. More would only hold more large pictures in memory."""

_IDLE_SECONDS = 60.0
"""After this time without a picture the processes are ended. Each takes some 30 MB of memory, and 0.1 s to start."""


_CONCURRENT_PERSONS = 4
"""Persons that are prepared at the same time: enough for the photo threads, few enough pictures in memory."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPerson:
    """One person of a change, as far as it can be evaluated without the store.

    Attributes:
        position: in its list; None if it came alone.
        person_id: the id; None if it cannot be read.
        patch: the given fields; None if they are invalid.
        photo: the photo, if one is given.
        faults: why the person is invalid.
    """

    position: int | None
    person_id: str | None
    patch: PersonPatch | None = field(default=None, repr=False)
    photo: PreparedPhoto | None = field(default=None, repr=False)
    faults: tuple[Fault, ...] = ()

    @property
    def photo_sha256(self) -> str | None:
        """The name of the given photo."""
        return None if self.photo is None else self.photo.sha256

    @property
    def is_complete(self) -> bool:
        """Whether it has all that a new person needs: a name and a photo."""
        return self.patch is not None and "name" in self.patch.changes and self.photo is not None

    def located(self, faults: Sequence[Fault]) -> tuple[Fault, ...]:
        """Return faults of this person with their path in the whole command."""
        if self.position is None:
            return tuple(faults)
        return tuple(fault.below(f"persons.{self.position}") for fault in faults)


class Preparation:
    """Prepares the persons of several requests together."""

    def __init__(self, photos: PhotoPreparer, timezone: tzinfo) -> None:
        """Store the dependencies.

        Args:
            photos: prepares photos.
            timezone: of times without an offset.
        """
        self._photos = photos
        self._timezone = timezone

    async def prepare(self, changes: Sequence[PersonChange]) -> Sequence[list[PreparedPerson]]:
        """Prepare the persons of each change.

        Returns:
            For each change its persons in their order; nothing for a change that sets none.

        Raises:
            UnavailableError: the bridge cannot convert pictures now.
        """
        prepared = [unprepared(change) for change in changes]
        unread = [
            (persons, position, value)
            for change, persons in zip(changes, prepared, strict=True)
            if isinstance(change, SetPersons)
            for position, value in enumerate(change.persons)
        ]
        waiting = iter(unread)

        async def prepare_waiting() -> None:
            for persons, position, value in waiting:
                persons[position] = await self._prepare(persons[position], value)

        if len(unread) <= 1:
            await prepare_waiting()
            return prepared
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_CONCURRENT_PERSONS, len(unread))):
                    group.create_task(prepare_waiting())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return prepared

    async def _prepare(self, person: PreparedPerson, value: object) -> PreparedPerson:
        # Lets other tasks run between two persons, however long the list is.
        await asyncio.sleep(0)
        try:
            patch = parse_person(value, timezone=self._timezone)
            photo = None if patch.photo_source is None else await self._photos.prepare(patch.photo_source)
        except InvalidError as error:
            return replace(person, faults=person.located(error.faults))
        return replace(person, person_id=patch.id, patch=patch, photo=photo)


def unprepared(change: PersonChange) -> list[PreparedPerson]:
    """Return the persons that a change sets, with nothing but their ids."""
    if not isinstance(change, SetPersons):
        return []
    is_list = len(change.persons) > 1
    return [
        PreparedPerson(position=position if is_list else None, person_id=_readable_id(value))
        for position, value in enumerate(change.persons)
    ]


def _readable_id(value: object) -> str | None:
    person_id = value.get("id") if isinstance(value, Mapping) else None
    return person_id if isinstance(person_id, str) and is_person_id(person_id) else None
