"""Writes the persons of terminals into a file."""

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.import_export.context import Progress
from bridge.import_export.writing import PersonWriter
from bridge.model.person import Person
from bridge.model.person_entry import PersonEntry
from bridge.persons.transactions import BATCH
from bridge.store.database import Database
from bridge.store.person_queries import pages
from bridge.store.photos import PhotoCipher, read_photo


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        persons: the number of persons that were written.
        differing: the number of persons that differ between the terminals; the newest change was written.
        unreadable: the persons whose photo cannot be read; they were not written.
    """

    persons: int
    differing: int
    unreadable: Sequence[str]


async def export_persons(
    database: Database, cipher: PhotoCipher, sns: Sequence[str], writer: PersonWriter, progress: Progress
) -> Exported:
    """Write the persons of one terminal, or of several together, by id.

    Raises:
        UnavailableError: the store cannot be read.
        PersonFileError: the file cannot be written.
    """
    newest: dict[str, tuple[int, Person]] = {}
    differing: set[str] = set()
    for sn in sns:
        async for entries in pages(database, sn, BATCH * 10):
            for entry in entries:
                _add(entry, newest, differing)
    unreadable: list[str] = []
    for done, (person_id, (_, person)) in enumerate(sorted(newest.items()), 1):
        jpeg = await database.read(read_photo, cipher, person.photo)
        if jpeg is None:
            unreadable.append(person_id)
        else:
            writer.add(person, jpeg)
        progress("exporting", done, done / len(newest))
    return Exported(len(newest) - len(unreadable), len(differing), unreadable)


def _add(entry: PersonEntry, newest: dict[str, tuple[int, Person]], differing: set[str]) -> None:
    """Keep the newest entry of each person, and note who differs."""
    if entry.person is None:
        return
    before = newest.get(entry.person.id)
    if before is not None and before[1].as_stored() != entry.person.as_stored():
        differing.add(entry.person.id)
    if before is None or before[0] < entry.revision:
        newest[entry.person.id] = (entry.revision, entry.person)
