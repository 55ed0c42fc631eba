"""Finds what an import would change, without changing anything."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.import_export.checking import CheckedPerson, RowFault
from bridge.import_export.context import Progress, TransferTarget
from bridge.model.faults import InvalidError
from bridge.model.person import Person
from bridge.persons.entry_transaction import BATCH
from bridge.persons.schema import merge
from bridge.store.database import Database
from bridge.store.group_queries import kept_pages, kept_persons
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
class GroupDifferences:
    """What an import would change of the persons that a group keeps.

    Attributes:
        name: the group.
        persons: the differences, in the order of the file.
        unchanged: the number of persons that stay as they are.
        held: the number of persons that the group keeps now.
        incomplete: the persons in the file that the group cannot keep, because their rows have no name or no photo.
        absent: by person the members that do not hold the person and do not get them: the removal was requested on the
            terminal, and a row without a photo does not give access again.
        others: the persons of members that the group does not keep and the file does not have; only for pruning.
    """

    name: str
    persons: list[PersonDifference] = field(default_factory=list)
    unchanged: int = 0
    held: int = 0
    incomplete: set[str] = field(default_factory=set)
    absent: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    others: set[str] = field(default_factory=set)

    @property
    def counts(self) -> Counter[DifferenceKind]:
        """The number of persons of each kind."""
        return Counter(difference.kind for difference in self.persons)

    @property
    def removed(self) -> list[str]:
        """The persons that an import would remove."""
        return [one.person_id for one in self.persons if one.kind is DifferenceKind.REMOVED]


@dataclass(slots=True)
class Differences:
    """Everything that an import would change.

    Attributes:
        sns: the terminals of the import.
        group: what changes in the group; None for an import on single terminals.
        terminals: the terminals of each difference, in the order of the file.
        counts: by terminal the number of persons of each kind.
        unchanged: by terminal the number of persons that stay as they are.
        held: by terminal the number of persons that are stored now.
        faults: rows that are wrong in view of the stored persons.
    """

    sns: Sequence[str]
    group: GroupDifferences | None = None
    terminals: dict[PersonDifference, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, Counter[DifferenceKind]] = field(default_factory=lambda: defaultdict(Counter))
    unchanged: Counter[str] = field(default_factory=Counter)
    held: dict[str, int] = field(default_factory=dict)
    faults: list[RowFault] = field(default_factory=list)

    @property
    def changed_ids(self) -> set[str]:
        """The persons that change anywhere."""
        return {difference.person_id for difference in self.changes}

    @property
    def changes(self) -> dict[PersonDifference, Sequence[str]]:
        """All differences, with the terminals; those of the group come first, and may have none."""
        in_group = [] if self.group is None else self.group.persons
        return {difference: self.terminals.get(difference, ()) for difference in [*in_group, *self.terminals]}

    @property
    def held_persons(self) -> int:
        """The number of persons that are stored now: those of the group, or of all terminals together."""
        return sum(self.held.values()) if self.group is None else self.group.held

    @property
    def removed_persons(self) -> int:
        """The number of those that would be removed, counted as `held_persons`."""
        return self.totals()[DifferenceKind.REMOVED] if self.group is None else len(self.group.removed)

    def removes_more_than(self, part: float) -> bool:
        """Return whether more than this part of the group's persons, or of a terminal's, would be removed."""
        if self.group is not None:
            return len(self.group.removed) > self.group.held * part
        return any(self.counts[sn][DifferenceKind.REMOVED] > self.held[sn] * part for sn in self.sns)

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
    database: Database, persons: Sequence[CheckedPerson], target: TransferTarget, *, prune: bool, progress: Progress
) -> Differences:
    """Compare the persons of a file with those that are stored for terminals, or for a group and its members.

    Args:
        database: the store.
        persons: the persons of the file.
        target: the terminals or the group.
        prune: whether persons that are not in the file will be removed. From a group, those that it keeps are removed;
            other persons of its members stay.
        progress: called after each batch.

    Raises:
        UnavailableError: the store cannot be read.
    """
    return await _Comparison(database, persons, target, progress, prune=prune).run()


class _Comparison:
    """One comparison of a file with the store."""

    def __init__(
        self,
        database: Database,
        persons: Sequence[CheckedPerson],
        target: TransferTarget,
        progress: Progress,
        *,
        prune: bool,
    ) -> None:
        self._database = database
        self._persons = persons
        self._ids = {person.patch.id for person in persons}
        self._progress = progress
        self._prune = prune
        self._total = max(len(persons) * target.places, 1)
        self._compared = 0
        self._group_ids: set[str] = set()
        self._wrong: defaultdict[tuple[int, Any], list[str]] = defaultdict(list)
        group = None if target.group is None else GroupDifferences(target.group)
        self._differences = Differences(target.sns, group)

    async def run(self) -> Differences:
        """Compare, and return the differences."""
        group, sns = self._differences.group, self._differences.sns
        if group is not None:
            await self._compare_group(group)
        for sn in sns:
            await self._compare_terminal(sn)
        for (row, fault), places in sorted(self._wrong.items(), key=lambda one: one[0][0]):
            for_all = set(sns) <= set(places)
            self._differences.faults.append(RowFault(row=row, fault=fault, places=() if for_all else tuple(places)))
        return self._differences

    async def _compare_group(self, group: GroupDifferences) -> None:
        async for page in kept_pages(self._database, group.name, BATCH * 10):
            self._group_ids.update(one.person.id for one in page)
        group.held = len(self._group_ids)
        for batch in self._batches():
            kept = await self._database.read(kept_persons, group.name, [person.patch.id for person in batch])
            for person in batch:
                found = kept.get(person.patch.id)
                if found is None and not person.is_complete:
                    group.incomplete.add(person.patch.id)
                    if self._differences.sns:
                        # The members that hold the person may change.
                        continue
                stored = None if found is None else found.person
                wanted = self._merged(person, stored, f"group {group.name}")
                if wanted is None:
                    continue
                difference = _difference(stored, wanted)
                if difference is None:
                    group.unchanged += 1
                else:
                    group.persons.append(difference)
            self._compared_batch(batch)
        if self._prune:
            removed = sorted(self._group_ids - self._ids)
            group.persons += [PersonDifference(person_id, DifferenceKind.REMOVED) for person_id in removed]

    async def _compare_terminal(self, sn: str) -> None:
        differences, group = self._differences, self._differences.group
        for batch in self._batches():
            entries = await self._database.read(entries_of, sn, [person.patch.id for person in batch])
            held = {entry.person_id: entry.person for entry in entries}
            for person in batch:
                person_id = person.patch.id
                stored = held.get(person_id)
                if stored is None and not person.is_complete and person_id in self._group_ids and group is not None:
                    group.absent[person_id].append(sn)
                    continue
                wanted = self._merged(person, stored, sn)
                if wanted is None:
                    continue
                difference = _difference(stored, wanted)
                if difference is None:
                    differences.unchanged[sn] += 1
                else:
                    differences.add(difference, sn)
            self._compared_batch(batch)
        differences.held[sn] = await self._count_and_prune(sn)

    async def _count_and_prune(self, sn: str) -> int:
        """Return the number of a terminal's persons, and add those that pruning removes to the differences."""
        group = self._differences.group
        held = 0
        async for entries in pages(self._database, sn, BATCH * 10):
            for entry in entries:
                if entry.person is None or entry.person_id is None:
                    continue
                held += 1
                if not self._prune or entry.person_id in self._ids:
                    continue
                if group is None or entry.person_id in self._group_ids:
                    self._differences.add(PersonDifference(entry.person_id, DifferenceKind.REMOVED), sn)
                else:
                    group.others.add(entry.person_id)
        return held

    def _batches(self) -> Iterator[Sequence[CheckedPerson]]:
        for start in range(0, len(self._persons), BATCH):
            yield self._persons[start : start + BATCH]

    def _compared_batch(self, batch: Sequence[CheckedPerson]) -> None:
        self._compared += len(batch)
        self._progress("comparing", self._compared, self._compared / self._total)

    def _merged(self, person: CheckedPerson, stored: Person | None, place: str) -> Person | None:
        """Return the person after the import; note the faults and return None if the row is wrong for this place."""
        try:
            return merge(person.patch, stored, None if person.photo is None else person.photo.sha256)
        except InvalidError as error:
            for fault in error.faults:
                self._wrong[person.row, fault].append(place)
            return None


def _difference(stored: Person | None, wanted: Person) -> PersonDifference | None:
    if stored is None:
        return PersonDifference(wanted.id, DifferenceKind.NEW)
    if wanted != stored:
        return PersonDifference(wanted.id, DifferenceKind.CHANGED, _changed_fields(stored, wanted))
    return None


def _changed_fields(before: Person, after: Person) -> tuple[FieldChange, ...]:
    old, new = before.as_json(), after.as_json()
    changed = [FieldChange(name, _frozen(old[name]), _frozen(new[name])) for name in old if old[name] != new[name]]
    if before.photo != after.photo:
        changed.append(FieldChange("photo", None, None))
    return tuple(changed)


def _frozen(value: Any) -> Any:
    """Return a weekly rule as a hashable value."""
    return tuple(value.items()) if isinstance(value, dict) else value
