"""The effect of each person command on the stored entries of a terminal."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bridge.model.faults import InvalidError
from bridge.model.person import Person
from bridge.model.person_entry import (
    OWN_SCOPE,
    ChangedPerson,
    GroupChangeKind,
    GroupPerson,
    PersonEntry,
    RequestContext,
)
from bridge.persons import group_change_jobs, whole_terminal
from bridge.persons.entry_changes import ChangeOrder, granted, pending_entry
from bridge.persons.entry_transaction import BATCH
from bridge.persons.member_checks import MemberResults, MemberStates, SetResult, results_on_members
from bridge.persons.membership import GrantedPerson
from bridge.persons.preparation import PreparedPerson, PreparedPhoto
from bridge.persons.schema import PersonPatch, added_again, merge, replacing
from bridge.persons.transactions import PersonTransaction

_T = TypeVar("_T")

_FORGOTTEN = "the terminal was forgotten"

_READ_AHEAD_ROWS = 1000
"""Entries of a group's members that are read with one query: some 5 MB."""


def set_persons(
    transaction: PersonTransaction,
    sn: str,
    persons: Sequence[PreparedPerson],
    request: RequestContext,
    *,
    scope: str = OWN_SCOPE,
    differing_only: bool = False,
) -> list[SetResult]:
    """Merge each person into the stored one and mark it to be sent.

    Args:
        transaction: the transaction.
        sn: the terminal.
        persons: the persons.
        request: the request.
        scope: through what the terminal will hold a person that is set with name and photo: `OWN_SCOPE` or a group.
        differing_only: whether to send only persons that change.
    """
    results: list[SetResult] = []
    for start in range(0, len(persons), BATCH):
        batch = persons[start : start + BATCH]
        entries = transaction.entries(sn, {person.person_id for person in batch if person.person_id is not None})
        revision = transaction.next_revisions(len(batch))
        for person in batch:
            if person.patch is None:
                results.append(SetResult(person.person_id, person.faults))
                continue
            before = entries.get(person.person_id)
            try:
                held = granted(before, person.patch, person.photo_sha256, scope if person.is_complete else None)
            except InvalidError as error:
                results.append(SetResult(person.person_id, person.located(error.faults)))
                continue
            if differing_only and before is not None and before.person == held.person:
                if held.access != before.access:
                    transaction.grant(before, held.access)
                    entries[person.person_id] = replace(before, access=held.access)
                results.append(SetResult(person.person_id))
                continue
            transaction.supersede(before)
            after = _entry(transaction, (sn, person.person_id), before, revision, request, held)
            transaction.replace(before, after, person.photo)
            # The same person may come again further down the list.
            entries[person.person_id] = after
            revision += 1
            results.append(SetResult(person.person_id, changed=True))
    return results


def set_group_persons(
    transaction: PersonTransaction,
    group: str,
    sns: Sequence[str],
    persons: Sequence[PreparedPerson],
    request: RequestContext,
    states: MemberStates | None = None,
) -> Sequence[MemberResults]:
    """Set persons on each member of a group; let the group keep complete persons, and change those that it keeps.

    A person that the group cannot keep, because its fields contradict what the group keeps, is changed nowhere. If the
    entries of all members are too many for one transaction, a job changes them (`bridge.persons.batches`).

    Args:
        transaction: the transaction.
        group: the group.
        sns: its members.
        persons: the persons.
        request: the request.
        states: of the members, read before (`bridge.persons.member_checks`).
    """
    persons, _ = set_kept_persons(transaction, group, persons)
    if not transaction.has_room(len(persons) * len(sns)):
        results = results_on_members(transaction, sns, persons, states)
        changed = [
            (_changed_person(number, one.patch, one.photo_sha256), one.photo)
            for number, one in enumerate(persons)
            if one.patch is not None
        ]
        if changed:
            group_change_jobs.add(transaction, group, GroupChangeKind.SET, sns, request, changed)
        return results
    direct: dict[str, list[SetResult]] = {sn: [] for sn in sns}
    for some in _portions(persons, sns):
        transaction.read_ahead(sns, {person.person_id for person in some if person.person_id is not None})
        for sn in sns:
            direct[sn] += set_persons(transaction, sn, some, request, scope=group)
    return [MemberResults([sn], results) for sn, results in direct.items()]


def _changed_person(position: int, patch: PersonPatch, photo: str | None) -> ChangedPerson:
    return ChangedPerson(position=position, person_id=patch.id, fields=patch.changes, photo=photo)


def set_kept_persons(
    transaction: PersonTransaction,
    group: str,
    persons: Sequence[PreparedPerson],
    *,
    differing_only: bool = False,
) -> tuple[Sequence[PreparedPerson], list[str]]:
    """Let a group keep complete persons, and change those that it keeps; its members are separate.

    Returns:
        The persons, those that contradict what the group keeps marked as invalid; and the ids of those that changed in
        the group.
    """
    persons, kept = _merged_into_group(transaction, group, persons)
    differing = [one for one in kept if not differing_only or one[0] is None or one[0].person != one[1].person]
    transaction.finish_joins(group, [after.person.id for _, after, _ in differing])
    for before, after, photo in differing:
        transaction.replace_kept(group, before, after, photo)
    return persons, [after.person.id for _, after, _ in differing]


def _merged_into_group(
    transaction: PersonTransaction, group: str, persons: Sequence[PreparedPerson]
) -> tuple[Sequence[PreparedPerson], Sequence[tuple[GroupPerson | None, GroupPerson, PreparedPhoto | None]]]:
    """Return the persons with those that fail marked as invalid, and before and after of those that the group keeps."""
    checked: list[PreparedPerson] = []
    first: dict[str, GroupPerson | None] = {}
    merged: dict[str, tuple[GroupPerson, PreparedPhoto | None]] = {}
    for start in range(0, len(persons), BATCH):
        batch = persons[start : start + BATCH]
        ids = {person.person_id for person in batch if person.person_id is not None}
        known = transaction.kept.persons(group, ids)
        revision = transaction.next_revisions(len(batch))
        for number, person in enumerate(batch):
            checked.append(person)
            if person.patch is None or person.person_id is None:
                continue
            person_id = person.person_id
            stored = first.setdefault(person_id, known.get(person_id))
            photo: PreparedPhoto | None = None
            if person_id in merged:
                # The same person comes again further down the list.
                stored, photo = merged[person_id]
            if stored is None and not person.is_complete:
                continue
            try:
                wanted = merge(person.patch, None if stored is None else stored.person, person.photo_sha256)
            except InvalidError as error:
                checked[-1] = replace(person, patch=None, photo=None, faults=person.located(error.faults))
                continue
            after = GroupPerson(group=group, revision=revision + number, person=wanted, changed_at=transaction.now())
            merged[person_id] = (after, person.photo or photo)
    return checked, [(first[person_id], after, photo) for person_id, (after, photo) in merged.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """The place that persons are copied from: a terminal or a group.

    Attributes:
        sn: the terminal; None for a group.
        group: the group; None for a terminal.
    """

    sn: str | None = None
    group: str | None = None

    def persons(self, transaction: PersonTransaction, person_ids: Sequence[str]) -> dict[str, Person]:
        """Return those of the persons that are there, in the given order."""
        found: dict[str | None, Person | None] = {}
        if self.group is not None:
            found |= {key: one.person for key, one in transaction.kept.persons(self.group, person_ids).items()}
        elif self.sn is not None:
            found |= {key: one.person for key, one in transaction.entries(self.sn, person_ids).items()}
        return {key: person for key in person_ids if (person := found.get(key)) is not None}

    def only_through_groups(
        self, transaction: PersonTransaction, person_ids: Collection[str]
    ) -> Mapping[str | None, Collection[str]]:
        """Return those of the persons that the terminal holds through groups only, with these groups."""
        entries = {} if self.sn is None else transaction.entries(self.sn, person_ids)
        return {key: one.access for key, one in entries.items() if one.access and OWN_SCOPE not in one.access}


def copy_persons(
    transaction: PersonTransaction,
    source: CopySource,
    sn: str,
    person_ids: Sequence[str],
    request: RequestContext,
    *,
    scope: str = OWN_SCOPE,
) -> list[str]:
    """Copy persons to a terminal, which holds them through `scope`; return those for which that makes a difference.

    Between terminals of one group, the persons that they hold through this group stay as they are: the terminal that
    gets the copy must lose them when it leaves the group.
    """
    changed: list[str] = []
    for start in range(0, len(person_ids), BATCH):
        originals: Mapping[str, Person] = source.persons(transaction, person_ids[start : start + BATCH])
        if scope == OWN_SCOPE:
            originals = _without_common(transaction, source, originals, sn)
        changed += _copy(transaction, originals, sn, scope, request)
    return changed


def _without_common(
    transaction: PersonTransaction, source: CopySource, originals: Mapping[str, Person], sn: str
) -> Mapping[str, Person]:
    """Leave out persons that a terminal holds already, through a group through which the source holds them."""
    groups = source.only_through_groups(transaction, originals)
    entries = transaction.entries(sn, list(originals)) if groups else {}
    return {
        person_id: person
        for person_id, person in originals.items()
        if (entry := entries.get(person_id)) is None
        or set(groups.get(person_id, ())).isdisjoint(entry.access)
        or entry.person != person
    }


def copy_kept_persons(
    transaction: PersonTransaction, source: CopySource, group: str, person_ids: Sequence[str]
) -> list[str]:
    """Let a group keep persons of a terminal or of another group; return those for which that makes a difference.

    Its members are separate (`copy_persons`).
    """
    differing: list[tuple[GroupPerson | None, GroupPerson]] = []
    kept = transaction.kept.persons(group, person_ids)
    for person_id, original in source.persons(transaction, person_ids).items():
        before = kept.get(person_id)
        person = replacing(original, None if before is None else before.person)
        if before is None or before.person != person:
            revision = transaction.next_revisions(1)
            after = GroupPerson(group=group, revision=revision, person=person, changed_at=transaction.now())
            differing.append((before, after))
    changed = [after.person.id for _, after in differing]
    transaction.finish_joins(group, changed)
    for before, after in differing:
        transaction.replace_kept(group, before, after)
    return changed


def _copy(
    transaction: PersonTransaction, originals: Mapping[str, Person], sn: str, scope: str, request: RequestContext
) -> list[str]:
    """Copy persons to a terminal, which holds them through `scope`; return those for which that makes a difference."""
    changed: list[str] = []
    entries = transaction.entries(sn, list(originals))
    revision = transaction.next_revisions(len(originals))
    for person_id, original in originals.items():
        before = entries.get(person_id)
        present = None if before is None else before.person
        wanted = replacing(original, present)
        if before is not None and present is None:
            wanted = added_again(wanted)
        access = tuple(sorted({*(() if before is None else before.access), scope}))
        if before is not None and present == wanted:
            if access != before.access:
                transaction.grant(before, access)
            continue
        transaction.supersede(before)
        after = _entry(transaction, (sn, person_id), before, revision, request, GrantedPerson(wanted, access))
        transaction.replace(before, after)
        revision += 1
        changed.append(person_id)
    return changed


def remove_persons(transaction: PersonTransaction, sn: str, person_ids: Sequence[str], request: RequestContext) -> None:
    """Remove persons, unknown ones included: the terminal may hold them from before."""
    person_ids = tuple(dict.fromkeys(person_ids))
    for start in range(0, len(person_ids), BATCH):
        batch = person_ids[start : start + BATCH]
        entries = transaction.entries(sn, batch)
        first = transaction.next_revisions(len(batch))
        for revision, person_id in enumerate(batch, first):
            before = entries.get(person_id)
            transaction.supersede(before)
            transaction.replace(before, _entry(transaction, (sn, person_id), before, revision, request))


def remove_group_persons(
    transaction: PersonTransaction, group: str, sns: Sequence[str], person_ids: Sequence[str], request: RequestContext
) -> None:
    """Remove persons from every member of a group, however they got there, and from the group."""
    person_ids = tuple(dict.fromkeys(person_ids))
    remove_kept_persons(transaction, group, person_ids)
    if not transaction.has_room(len(person_ids) * len(sns)):
        removed = [
            (ChangedPerson(position=number, person_id=person_id), None) for number, person_id in enumerate(person_ids)
        ]
        group_change_jobs.add(transaction, group, GroupChangeKind.REMOVE, sns, request, removed)
        return
    for some in _portions(person_ids, sns):
        transaction.read_ahead(sns, some)
        for sn in sns:
            remove_persons(transaction, sn, some, request)


def remove_kept_persons(transaction: PersonTransaction, group: str, person_ids: Sequence[str]) -> list[str]:
    """Let a group no longer keep persons; return those that it has kept. Its members are separate."""
    kept = transaction.kept.persons(group, person_ids)
    transaction.finish_joins(group, list(kept))
    for one in kept.values():
        transaction.replace_kept(group, one, None)
    return list(kept)


def remove_everyone(
    transaction: PersonTransaction, sns: Sequence[str], group: str | None, request: RequestContext
) -> None:
    """Remove everyone from terminals, and from their group."""
    _change_everything(transaction, sns, group, request, GroupChangeKind.REMOVE_EVERYONE)
    if group is not None:
        transaction.remove_everyone_from_group(group)


def sync(
    transaction: PersonTransaction, sns: Sequence[str], group: str | None, request: RequestContext, *, clear: bool
) -> None:
    """Mark everything on terminals to be sent again, refused changes included; with `clear` after removing everyone."""
    _change_everything(transaction, sns, group, request, GroupChangeKind.CLEAR if clear else GroupChangeKind.SYNC)


def _change_everything(
    transaction: PersonTransaction,
    sns: Sequence[str],
    group: str | None,
    request: RequestContext,
    kind: GroupChangeKind,
) -> None:
    if group is not None and not transaction.has_room(len(sns) * whole_terminal.ROWS):
        group_change_jobs.add(transaction, group, kind, sns, request)
        return
    for sn in sns:
        whole_terminal.change(transaction, sn, kind, request)


def forget_person(transaction: PersonTransaction, sn: str, person_id: str) -> None:
    """Delete a person's entry for a terminal that the bridge does not know any more."""
    entry = transaction.entries(sn, [person_id]).get(person_id)
    if entry is not None:
        transaction.supersede(entry, _FORGOTTEN)
        transaction.replace(entry, None)


def forget(transaction: PersonTransaction, sn: str) -> None:
    """Remove everything that is stored for a terminal; requests that wait get the final reply `superseded`."""
    transaction.kept.forget_memberships(sn)
    whole_terminal.remove_below(transaction, sn, transaction.next_revisions(1), _FORGOTTEN)
    transaction.drop_syncs(sn, _FORGOTTEN)


def _portions(persons: Sequence[_T], sns: Sequence[str]) -> Iterator[Sequence[_T]]:
    """Yield as many persons at a time as entries of all terminals are to be in memory."""
    size = max(1, min(BATCH, _READ_AHEAD_ROWS // max(len(sns), 1)))
    for start in range(0, len(persons), size):
        yield persons[start : start + size]


def _entry(
    transaction: PersonTransaction,
    key: tuple[str, str | None],
    before: PersonEntry | None,
    revision: int,
    request: RequestContext,
    held: GrantedPerson | None = None,
) -> PersonEntry:
    return pending_entry(key, before, revision, ChangeOrder(now=transaction.now(), request=request), held)
