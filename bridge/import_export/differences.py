"""Finds what an import would change, without changing anything."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.import_export.checking import CheckedPerson, RowFault
from bridge.import_export.context import Progress
from bridge.model.faults import InvalidError
from bridge.model.person import Person
from bridge.persons.schema import merge
from bridge.persons.transactions import BATCH
from bridge.store.database import Database
from bridge.store.person_queries import entries as entries_of
from bridge.store.person_queries import pages


class DifferenceKind(StrEnum):
    """The kind of a difference."""

    NEW = "new"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a person that changes.

    Attributes:
        name: the field's name, as users write it.
        before: the present value; None for a photo.
        after: the new value; None for a photo.
    """

    name: str
    before: Any = field(repr=False)
    after: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class PersonDifference:
    """What an import changes of a person, on one or several terminals.

    Attributes:
        person_id: the person.
        kind: the kind of the difference.
        fields: the fields that change, of a person that is stored already.
    """

    person_id: str
    kind: DifferenceKind
    fields: tuple[FieldChange, ...] = ()


@dataclass(slots=True)
class Differences:
    """Everything that an import would change.

    Attributes:
        sns: the terminals of the import.
        terminals: the terminals of each difference, in the order of the file.
        counts: by terminal the number of persons of each kind.
        unchanged: by terminal the number of persons that stay as they are.
        held: by terminal the number of persons that are stored now.
        faults: rows that are wrong in view of the stored persons.
    """

    sns: Sequence[str]
    terminals: dict[PersonDifference, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, Counter[DifferenceKind]] = field(default_factory=lambda: defaultdict(Counter))
    unchanged: Counter[str] = field(default_factory=Counter)
    held: dict[str, int] = field(default_factory=dict)
    faults: list[RowFault] = field(default_factory=list)

    def removed(self) -> dict[str, list[str]]:
        """Return the persons that an import would remove, by terminal."""
        removed: defaultdict[str, list[str]] = defaultdict(list)
        for difference, sns in self.terminals.items():
            for sn in sns if difference.kind is DifferenceKind.REMOVED else ():
                removed[sn].append(difference.person_id)
        return removed

    def totals(self) -> Counter[DifferenceKind]:
        """Return the number of persons of each kind on all terminals."""
        return sum(self.counts.values(), Counter())

    def add(self, difference: PersonDifference, sn: str) -> None:
        """Add a difference on a terminal."""
        self.terminals[difference].append(sn)
        self.counts[sn][difference.kind] += 1


async def find_differences(
    database: Database, persons: Sequence[CheckedPerson], sns: Sequence[str], *, prune: bool, progress: Progress
) -> Differences:
    """Compare the persons of a file with those that are stored for the terminals.

    Args:
        database: the store.
        persons: the persons of the file.
        sns: the terminals.
        prune: whether persons that are not in the file will be removed.
        progress: called after each batch.

    Raises:
        UnavailableError: the store cannot be read.
    """
    differences = Differences(sns)
    wrong: defaultdict[tuple[int, Any], list[str]] = defaultdict(list)
    ids = {person.patch.id for person in persons}
    total = max(len(persons) * len(sns), 1)
    for number, sn in enumerate(sns):
        for start in range(0, len(persons), BATCH):
            batch = persons[start : start + BATCH]
            entries = await database.read(entries_of, sn, [person.patch.id for person in batch])
            stored = {entry.person_id: entry.person for entry in entries}
            for person in batch:
                _compare(person, stored.get(person.patch.id), sn, differences, wrong)
            done = number * len(persons) + start + len(batch)
            progress("comparing", done, done / total)
        differences.held[sn] = await _count_and_prune(database, sn, ids, differences, prune=prune)
    for (row, fault), of_terminals in sorted(wrong.items(), key=lambda one: one[0][0]):
        for_all = len(of_terminals) == len(sns)
        differences.faults.append(RowFault(row=row, fault=fault, sns=() if for_all else tuple(of_terminals)))
    return differences


def _compare(
    person: CheckedPerson,
    stored: Person | None,
    sn: str,
    differences: Differences,
    wrong: Mapping[tuple[int, Any], list[str]],
) -> None:
    try:
        wanted = merge(person.patch, stored, None if person.photo is None else person.photo.sha256)
    except InvalidError as error:
        for fault in error.faults:
            wrong[person.row, fault].append(sn)
        return
    if stored is None:
        differences.add(PersonDifference(person.patch.id, DifferenceKind.NEW), sn)
    elif wanted != stored:
        differences.add(PersonDifference(person.patch.id, DifferenceKind.CHANGED, _changed_fields(stored, wanted)), sn)
    else:
        differences.unchanged[sn] += 1


def _changed_fields(before: Person, after: Person) -> tuple[FieldChange, ...]:
    old, new = before.as_json(), after.as_json()
    changed = [FieldChange(name, _frozen(old[name]), _frozen(new[name])) for name in old if old[name] != new[name]]
    if before.photo != after.photo:
        changed.append(FieldChange("photo", None, None))
    return tuple(changed)


def _frozen(value: Any) -> Any:
    """Return a weekly rule as a hashable value."""
    return tuple(value.items()) if isinstance(value, dict) else value


async def _count_and_prune(
    database: Database, sn: str, ids: Collection[str], differences: Differences, *, prune: bool
) -> int:
    """Return the number of a terminal's persons, and add those that pruning removes to the differences."""
    held = 0
    async for entries in pages(database, sn, BATCH * 10):
        for entry in entries:
            if entry.person is None or entry.person_id is None:
                continue
            held += 1
            if prune and entry.person_id not in ids:
                differences.add(PersonDifference(entry.person_id, DifferenceKind.REMOVED), sn)
    return held
