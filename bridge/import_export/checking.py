"""Checks every row of a file with persons, before anything is changed."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

from bridge.import_export.context import Progress
from bridge.import_export.photo_spool import PhotoSpool, SpooledPhoto
from bridge.import_export.reading import PersonFile
from bridge.import_export.rows import Row
from bridge.model.faults import Fault, InvalidError
from bridge.model.messages import message
from bridge.persons.photos.sources import InlinePhoto, PhotoFile, PhotoSource
from bridge.persons.preparation import WORKERS, PhotoPreparer
from bridge.persons.schema import PersonPatch, parse_person


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFault:
    """A fault in a row.

    Attributes:
        row: the number of the row.
        fault: the fault.
        places: the terminals for which the row is wrong, and `group NAME`; empty for all.
    """

    row: int
    fault: Fault
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.described())

    def described(self) -> str:
        """Return the fault with its place, as a message that can be translated."""
        where = message("row %(row)s", row=self.row)
        if self.places:
            more = message(" and %(num)s more", num=len(self.places) - 3) if len(self.places) > 3 else ""
            listed = ", ".join(self.places[:3])
            where = message("row %(row)s (for %(places)s%(more)s)", row=self.row, places=listed, more=more)
        fault = self.fault.message
        if self.fault.path:
            fault = message("%(place)s: %(fault)s", place=self.fault.path, fault=fault)
        return message("%(place)s: %(fault)s", place=where, fault=fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPerson:
    """A row that has no fault by itself.

    Attributes:
        row: the number of the row.
        patch: the given fields.
        photo: the photo, prepared to be sent; None if none is given.
    """

    row: int
    patch: PersonPatch = field(repr=False)
    photo: SpooledPhoto | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it has all that a new person needs: a name and a photo."""
        return "name" in self.patch.changes and self.photo is not None


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """The content of a file.

    Attributes:
        persons: the rows without faults, in the order of the file.
        faults: the faults of the other rows, by row.
        unclaimed_pictures: pictures that belong to no person of the file.
    """

    persons: Sequence[CheckedPerson]
    faults: Sequence[RowFault]
    unclaimed_pictures: Sequence[str]


async def check_file(
    file: PersonFile, photos: PhotoPreparer, spool: PhotoSpool, timezone: tzinfo, progress: Progress
) -> CheckedFile:
    """Read and check all rows, and prepare their photos.

    Raises:
        PersonFileError: the file cannot be read to its end.
        OSError: there is no space for the photos.
    """
    rows = file.rows()
    persons: list[CheckedPerson] = []
    faults: list[RowFault] = []
    done = 0

    async def check_rows(rows: Iterator[Row]) -> None:
        nonlocal done
        for row in rows:
            try:
                persons.append(await _check(row, photos, spool, timezone))
            except InvalidError as error:
                faults.extend(RowFault(row=row.number, fault=fault) for fault in error.faults)
            done += 1
            progress("checking", done, file.progress())

    try:
        async with asyncio.TaskGroup() as group:
            # One picture for each thread, and one that is read meanwhile.
            for _ in range(WORKERS + 1):
                group.create_task(check_rows(rows))
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    persons.sort(key=lambda person: person.row)
    faults.sort(key=lambda fault: fault.row)
    return CheckedFile(persons, faults, file.unclaimed_pictures)


async def _check(row: Row, photos: PhotoPreparer, spool: PhotoSpool, timezone: tzinfo) -> CheckedPerson:
    faults = list(row.faults)
    patch: PersonPatch | None = None
    try:
        patch = parse_person(row.data, timezone=timezone)
    except InvalidError as error:
        paths = {fault.path for fault in faults}
        faults += [fault for fault in error.faults if fault.path not in paths]
    spooled: SpooledPhoto | None = None
    # The picture of a wrong row is checked too: all faults are reported at once.
    source = row.picture or (_picture_in(row, timezone) if patch is None else patch.photo_source)
    if source is not None:
        try:
            spooled = spool.add(await photos.prepare(source))
        except InvalidError as error:
            faults += error.faults
    if faults or patch is None:
        raise InvalidError(faults)
    return CheckedPerson(row=row.number, patch=replace(patch, photo_source=None), photo=spooled)


def _picture_in(row: Row, timezone: tzinfo) -> PhotoSource | None:
    """Return the picture of a row that has faults in other fields."""
    given = {key: row.data[key] for key in (InlinePhoto.FIELD, PhotoFile.FIELD) if key in row.data}
    try:
        return parse_person({"id": "any", **given}, timezone=timezone).photo_source
    except InvalidError:
        return None
