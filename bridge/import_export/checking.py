"""Checks every row of a file of persons before anything is changed."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

from bridge.import_export.context import Progress
from bridge.import_export.photo_spool import PhotoSpool, SpooledPhoto
from bridge.import_export.reading import PersonFile
from bridge.import_export.rows import Row
from bridge.model.faults import Fault, InvalidError
from bridge.persons.photos.preparation import WORKERS, PhotoPreparer
from bridge.persons.photos.sources import InlinePhoto, PhotoFile, PhotoSource
from bridge.persons.schema import PersonPatch, parse_person


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFault:
    """What is wrong with a row.

    Attributes:
        row: its number.
        fault: what.
        sns: the terminals for which it is wrong; empty for all.
    """

    row: int
    fault: Fault
    sns: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"row {self.row}"
        if self.sns:
            where += f" (for {', '.join(self.sns[:3])}{f' and {len(self.sns) - 3} more' if len(self.sns) > 3 else ''})"
        return (
            f"{where}: {self.fault.path}: {self.fault.message}" if self.fault.path else f"{where}: {self.fault.message}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPerson:
    """A row that is right by itself.

    Attributes:
        row: its number.
        patch: what it gives.
        photo: the picture it gives, ready to be sent; None for none.
    """

    row: int
    patch: PersonPatch = field(repr=False)
    photo: SpooledPhoto | None = None


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What is in a file.

    Attributes:
        persons: the rows that are right, in the file's order.
        faults: what is wrong with the others, by row.
        unclaimed_pictures: pictures that belong to nobody in it.
    """

    persons: Sequence[CheckedPerson]
    faults: Sequence[RowFault]
    unclaimed_pictures: Sequence[str]


async def check_file(
    file: PersonFile, photos: PhotoPreparer, spool: PhotoSpool, timezone: tzinfo, progress: Progress
) -> CheckedFile:
    """Read all rows and put their pictures right.

    Raises:
        PersonFileError: the file cannot be read to its end.
        OSError: there is no room for the pictures.
    """
    rows = file.rows()
    persons: list[CheckedPerson] = []
    faults: list[RowFault] = []
    done = 0

    async def take(rows: Iterator[Row]) -> None:
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
                group.create_task(take(rows))
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
    # The picture is looked at also where the row is wrong otherwise: all that is wrong is told at once.
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
    """Return the picture that a row gives, whatever else is wrong with it."""
    given = {key: row.data[key] for key in (InlinePhoto.FIELD, PhotoFile.FIELD) if key in row.data}
    try:
        return parse_person({"id": "anybody", **given}, timezone=timezone).photo_source
    except InvalidError:
        return None
