"""Writes whom terminals should hold into a file."""

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.import_export.ports import Progress, TransferStore
from bridge.import_export.writing import PersonWriter
from bridge.model.person import Person
from bridge.model.person_entry import PersonEntry
from bridge.persons.pages import pages
from bridge.persons.transaction import BATCH


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        persons: how many.
        differing: of how many the terminals should hold different things; the newest was written.
        unreadable: whose photo cannot be read; they were left out.
    """

    persons: int
    differing: int
    unreadable: Sequence[str]


async def export_persons(
    store: TransferStore, sns: Sequence[str], writer: PersonWriter, progress: Progress
) -> Exported:
    """Write the persons of one terminal, or of several together, by id.

    Raises:
        UnavailableError: the store cannot be read.
        PersonFileError: the file cannot be written.
    """
    newest: dict[str, tuple[int, Person]] = {}
    differing: set[str] = set()
    for sn in sns:
        async for entries in pages(store, sn, BATCH * 10):
            for entry in entries:
                _take(entry, newest, differing)
    unreadable: list[str] = []
    for done, (person_id, (_, person)) in enumerate(sorted(newest.items()), 1):
        jpeg = await store.photo(person.photo)
        if jpeg is None:
            unreadable.append(person_id)
        else:
            writer.add(person, jpeg)
        progress("exporting", done, done / len(newest))
    return Exported(len(newest) - len(unreadable), len(differing), unreadable)


def _take(entry: PersonEntry, newest: dict[str, tuple[int, Person]], differing: set[str]) -> None:
    if entry.person is None:
        return
    before = newest.get(entry.person.id)
    if before is not None and before[1].as_stored() != entry.person.as_stored():
        differing.add(entry.person.id)
    if before is None or before[0] < entry.revision:
        newest[entry.person.id] = (entry.revision, entry.person)
