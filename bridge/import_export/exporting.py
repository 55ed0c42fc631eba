"""Writes the persons of a terminal or a group into a file."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from bridge.import_export.context import Progress
from bridge.import_export.writing import PersonWriter
from bridge.model.person import Person
from bridge.persons.changes import CopySource
from bridge.persons.entry_transaction import BATCH
from bridge.store.database import Database
from bridge.store.group_queries import kept_pages
from bridge.store.person_queries import pages
from bridge.store.photos import PhotoCipher, read_photo


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        persons: the number of persons that were written.
        unreadable: the persons whose photo cannot be read; they were not written.
    """

    persons: int
    unreadable: Sequence[str]


async def export_persons(
    database: Database, cipher: PhotoCipher, source: CopySource, total: int, writer: PersonWriter, progress: Progress
) -> Exported:
    """Write the persons that a terminal should hold or that a group keeps, by id.

    Args:
        database: the store.
        cipher: decrypts photos.
        source: the terminal or the group.
        total: the expected number of persons.
        writer: writes the file.
        progress: called after each person.

    Raises:
        UnavailableError: the store cannot be read.
        PersonFileError: the file cannot be written.
    """
    unreadable: list[str] = []
    done = 0
    async for persons in _pages(database, source):
        for person in persons:
            jpeg = await database.read(read_photo, cipher, person.photo)
            if jpeg is None:
                unreadable.append(person.id)
            else:
                writer.add(person, jpeg)
            done += 1
            progress("exporting", done, min(done / max(total, 1), 1.0))
    return Exported(done - len(unreadable), unreadable)


async def _pages(database: Database, source: CopySource) -> AsyncIterator[Sequence[Person]]:
    if source.group is not None:
        async for kept in kept_pages(database, source.group, BATCH * 10):
            yield [one.person for one in kept]
    elif source.sn is not None:
        async for entries in pages(database, source.sn, BATCH * 10):
            yield [entry.person for entry in entries if entry.person is not None]
