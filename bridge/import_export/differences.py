"""What an import would change, found without changing anything."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.import_export.checking import CheckedPerson, RowFault
from bridge.import_export.ports import Progress, TransferStore
from bridge.model.faults import InvalidError
from bridge.model.person import Person
from bridge.persons.pages import pages
from bridge.persons.schema import merge
from bridge.persons.transaction import BATCH


class DifferenceKind(StrEnum):
    """What happens to a person."""

    NEW = "new"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a person that changes.

    Attributes:
        name: the field's, as users write it.
        before: what it was, None for a photo.
        after: what it will be, None for a photo.
    """

    name: str
    before: Any = field(repr=False)
    after: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class PersonDifference:
    """What happens to a person, on one or several terminals.

    Attributes:
        person_id: who.
        kind: what.
        fields: that change, where the person is there already.
    """

    person_id: str
    kind: DifferenceKind
    fields: tuple[FieldChange, ...] = ()


@dataclass(slots=True)
class Differences:
    """All that an import would change.

    Attributes:
        sns: the terminals it is for.
        terminals: on which of them each thing happens, in the order of the file.
        counts: by terminal how many persons of each kind.
        unchanged: by terminal how many stay as they are.
        held: by terminal how many persons there are now.
        faults: rows that are wrong in view of what is there.
    """

    sns: Sequence[str]
    terminals: dict[PersonDifference, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, Counter[DifferenceKind]] = field(default_factory=lambda: defaultdict(Counter))
    unchanged: Counter[str] = field(default_factory=Counter)
    held: dict[str, int] = field(default_factory=dict)
    faults: list[RowFault] = field(default_factory=list)

    def removed(self) -> dict[str, list[str]]:
        """Return by terminal whom an import would remove."""
        removed: defaultdict[str, list[str]] = defaultdict(list)
        for difference, sns in self.terminals.items():
            for sn in sns if difference.kind is DifferenceKind.REMOVED else ():
                removed[sn].append(difference.person_id)
        return removed

    def totals(self) -> Counter[DifferenceKind]:
        """Return how many persons of each kind there are on all terminals."""
        return sum(self.counts.values(), Counter())

    def add(self, difference: PersonDifference, sn: str) -> None:
        """Note that something happens on a terminal."""
        self.terminals[difference].append(sn)
        self.counts[sn][difference.kind] += 1


async def find_differences(
    store: TransferStore, persons: Sequence[CheckedPerson], sns: Sequence[str], *, prune: bool, progress: Progress
) -> Differences:
    """Compare what a file holds with what the terminals should hold now.

    Args:
        store: of the persons.
        persons: of the file.
        sns: the terminals.
        prune: whether those that are not in the file are to be removed.
        progress: told of each batch.

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
            entries = await store.entries(sn, [person.patch.id for person in batch])
            there = {entry.person_id: entry.person for entry in entries}
            for person in batch:
                _compare(person, there.get(person.patch.id), sn, differences, wrong)
            done = number * len(persons) + start + len(batch)
            progress("comparing", done, done / total)
        differences.held[sn] = await _look_over(store, sn, ids, differences, prune=prune)
    for (row, fault), of_terminals in sorted(wrong.items(), key=lambda one: one[0][0]):
        for_all = len(of_terminals) == len(sns)
        differences.faults.append(RowFault(row=row, fault=fault, sns=() if for_all else tuple(of_terminals)))
    return differences


def _compare(
    person: CheckedPerson,
    there: Person | None,
    sn: str,
    differences: Differences,
    wrong: Mapping[tuple[int, Any], list[str]],
) -> None:
    try:
        wanted = merge(person.patch, there, None if person.photo is None else person.photo.sha256)
    except InvalidError as error:
        for fault in error.faults:
            wrong[person.row, fault].append(sn)
        return
    if there is None:
        differences.add(PersonDifference(person.patch.id, DifferenceKind.NEW), sn)
    elif wanted != there:
        differences.add(PersonDifference(person.patch.id, DifferenceKind.CHANGED, _changed_fields(there, wanted)), sn)
    else:
        differences.unchanged[sn] += 1


def _changed_fields(before: Person, after: Person) -> tuple[FieldChange, ...]:
    old, new = before.as_json(), after.as_json()
    changed = [FieldChange(name, _frozen(old[name]), _frozen(new[name])) for name in old if old[name] != new[name]]
    if before.photo != after.photo:
        changed.append(FieldChange("photo", None, None))
    return tuple(changed)


def _frozen(value: Any) -> Any:
    """Make a weekly rule something that differences can be told apart by."""
    return tuple(value.items()) if isinstance(value, dict) else value


async def _look_over(
    store: TransferStore, sn: str, ids: Collection[str], differences: Differences, *, prune: bool
) -> int:
    """Count whom a terminal should hold, and note whom pruning removes."""
    held = 0
    async for entries in pages(store, sn, BATCH * 10):
        for entry in entries:
            if entry.person is None or entry.person_id is None:
                continue
            held += 1
            if prune and entry.person_id not in ids:
                differences.add(PersonDifference(entry.person_id, DifferenceKind.REMOVED), sn)
    return held
