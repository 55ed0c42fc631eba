"""The effect of each person command on the stored entries of a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bridge.model.faults import Fault, InvalidError
from bridge.model.person import Person
from bridge.model.person_entry import OWN_SCOPE, GroupPerson, OpenSync, PersonEntry, RequestContext
from bridge.persons import batches
from bridge.persons.membership import GrantedPerson
from bridge.persons.preparation import PreparedPerson, PreparedPhoto
from bridge.persons.schema import added_again, merge, replacing
from bridge.persons.transactions import BATCH, SUPERSEDED, PersonTransaction

_T = TypeVar("_T")

_FORGOTTEN = "the terminal was forgotten"

_READ_AHEAD_ROWS = 1000
"""Entries of a group's members that are read with one query: some 5 MB."""


@dataclass(frozen=True, slots=True)
class SetResult:
    """The result for one person of a list.

    Attributes:
        person_id: the person; None if the id could not be read.
        faults: why the person could not be changed.
        changed: whether the person was changed; also False if the change would have made no difference.
    """

    person_id: str | None
    faults: Sequence[Fault] = ()
    changed: bool = False


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
            stored = None if before is None else before.person
            try:
                wanted = merge(person.patch, stored, person.photo_sha256)
            except InvalidError as error:
                results.append(SetResult(person.person_id, person.located(error.faults)))
                continue
            if before is not None and stored is None:
                wanted = added_again(wanted)
            access = () if before is None else before.access
            if person.is_complete:
                access = tuple(sorted({*access, scope}))
            if differing_only and before is not None and stored == wanted:
                if access != before.access:
                    transaction.grant(before, access)
                    entries[person.person_id] = replace(before, access=access)
                results.append(SetResult(person.person_id))
                continue
            transaction.supersede(before)
            after = _entry(transaction, sn, person.person_id, revision, request, GrantedPerson(wanted, access))
            # The same person may come again further down the list.
            entries[person.person_id] = _put(transaction, before, after, person.photo)
            revision += 1
            results.append(SetResult(person.person_id, changed=True))
    return results


def set_group_persons(
    transaction: PersonTransaction,
    group: str,
    sns: Sequence[str],
    persons: Sequence[PreparedPerson],
    request: RequestContext,
    *,
    differing_only: bool = False,
) -> dict[str, list[SetResult]]:
    """Set persons on each member of a group; let the group keep complete persons, and change those that it keeps.

    A person that the group cannot keep, because its fields contradict what the group keeps, is changed nowhere.

    Returns:
        The results by terminal.
    """
    persons, kept = _merged_into_group(transaction, group, persons)
    results: dict[str, list[SetResult]] = {sn: [] for sn in sns}
    for some in _portions(persons, sns):
        transaction.read_ahead(sns, {person.person_id for person in some if person.person_id is not None})
        for sn in sns:
            results[sn] += set_persons(transaction, sn, some, request, scope=group, differing_only=differing_only)
    # After the members: one that joined a moment ago must get the earlier state first.
    for before, after, photo in kept:
        if not differing_only or before is None or before.person != after.person:
            transaction.replace_kept(group, before, after, photo)
    return results


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


def copy_persons(
    transaction: PersonTransaction, source: CopySource, sn: str, person_ids: Sequence[str], request: RequestContext
) -> list[str]:
    """Copy persons to a terminal; return those for which that makes a difference."""
    changed: list[str] = []
    for start in range(0, len(person_ids), BATCH):
        originals = source.persons(transaction, person_ids[start : start + BATCH])
        changed += _copy(transaction, originals, sn, OWN_SCOPE, request)
    return changed


def copy_persons_to_group(
    transaction: PersonTransaction,
    source: CopySource,
    group: str,
    sns: Sequence[str],
    person_ids: Sequence[str],
    request: RequestContext,
) -> tuple[list[str], dict[str, list[str]]]:
    """Let a group keep persons of a terminal or of another group, and copy them to its members.

    Returns:
        The persons for which that makes a difference: in the group, and by terminal.
    """
    in_group: list[str] = []
    on_terminals: dict[str, list[str]] = {sn: [] for sn in sns}
    for batch in _portions(person_ids, sns):
        originals = source.persons(transaction, batch)
        transaction.read_ahead(sns, batch)
        for sn in sns:
            on_terminals[sn] += _copy(transaction, originals, sn, group, request)
        kept = transaction.kept.persons(group, batch)
        for person_id, original in originals.items():
            before = kept.get(person_id)
            person = replacing(original, None if before is None else before.person)
            if before is None or before.person != person:
                revision = transaction.next_revisions(1)
                after = GroupPerson(group=group, revision=revision, person=person, changed_at=transaction.now())
                # After the members, as in `set_group_persons`.
                transaction.replace_kept(group, before, after)
                in_group.append(person_id)
    return in_group, on_terminals


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
        _put(transaction, before, _entry(transaction, sn, person_id, revision, request, GrantedPerson(wanted, access)))
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
            _put(transaction, before, _entry(transaction, sn, person_id, revision, request))


def remove_group_persons(
    transaction: PersonTransaction, group: str, sns: Sequence[str], person_ids: Sequence[str], request: RequestContext
) -> None:
    """Remove persons from every member of a group, however they got there, and from the group."""
    for some in _portions(tuple(dict.fromkeys(person_ids)), sns):
        transaction.read_ahead(sns, some)
        for sn in sns:
            remove_persons(transaction, sn, some, request)
    for kept in transaction.kept.persons(group, person_ids).values():
        transaction.replace_kept(group, kept, None)


def remove_everyone(transaction: PersonTransaction, sn: str, request: RequestContext) -> None:
    """Remove all entries of a terminal, and let it remove everyone."""
    before = transaction.entries(sn, [None]).get(None)
    transaction.supersede(before)
    revision = transaction.next_revisions(1)
    _put(transaction, before, _entry(transaction, sn, None, revision, request))
    batches.remove_below(transaction, sn, revision, SUPERSEDED)


def sync(transaction: PersonTransaction, sn: str, request: RequestContext, *, clear: bool) -> None:
    """Mark everything to be sent again, refused changes included; with `clear` after the removal of everyone.

    Requests that wait for a pending change go on waiting: it is the same change, sent again.
    """
    below = transaction.next_revisions(1)
    if clear:
        removal = transaction.entries(sn, [None]).get(None)
        waiting = removal.request if removal is not None else None
        _put(transaction, removal, _entry(transaction, sn, None, below, waiting))
    transaction.add_sync(OpenSync(sn=sn, revision=below, request=request))
    batches.send_again(transaction, sn, below, include_pending=clear)


def forget_person(transaction: PersonTransaction, sn: str, person_id: str) -> None:
    """Delete a person's entry for a terminal that the bridge does not know any more."""
    entry = transaction.entries(sn, [person_id]).get(person_id)
    if entry is not None:
        transaction.supersede(entry, _FORGOTTEN)
        transaction.replace(entry, None)


def forget(transaction: PersonTransaction, sn: str) -> None:
    """Remove everything that is stored for a terminal; requests that wait get the final reply `superseded`."""
    transaction.kept.forget_memberships(sn)
    batches.remove_below(transaction, sn, transaction.next_revisions(1), _FORGOTTEN)
    transaction.drop_syncs(sn, _FORGOTTEN)


def _portions(persons: Sequence[_T], sns: Sequence[str]) -> Iterator[Sequence[_T]]:
    """Yield as many persons at a time as entries of all terminals are to be in memory."""
    size = max(1, min(BATCH, _READ_AHEAD_ROWS // max(len(sns), 1)))
    for start in range(0, len(persons), size):
        yield persons[start : start + size]


def _entry(
    transaction: PersonTransaction,
    sn: str,
    person_id: str | None,
    revision: int,
    request: RequestContext | None,
    held: GrantedPerson | None = None,
) -> PersonEntry:
    """Return a change that is pending from now on; without a person it is a removal."""
    return PersonEntry(
        sn=sn,
        person_id=person_id,
        revision=revision,
        person=None if held is None else held.person,
        changed_at=transaction.now(),
        request=request,
        access=() if held is None else held.access,
    )


def _put(
    transaction: PersonTransaction, before: PersonEntry | None, after: PersonEntry, photo: PreparedPhoto | None = None
) -> PersonEntry:
    """Store a change in place of an earlier one, and return it."""
    if before is not None:
        after = replace(after, confirmed_revision=before.confirmed_revision)
    transaction.replace(before, after, photo)
    return after
