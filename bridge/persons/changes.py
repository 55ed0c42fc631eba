"""The effect of each person command on the stored entries of a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.model.faults import Fault, InvalidError
from bridge.model.person import Person
from bridge.model.person_entry import OpenSync, PersonEntry, RequestContext
from bridge.persons import batches
from bridge.persons.preparation import PreparedPerson, PreparedPhoto
from bridge.persons.schema import merge
from bridge.persons.transactions import BATCH, PersonTransaction

_SUPERSEDED = "a later change took its place"
_FORGOTTEN = "the terminal was forgotten"


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
    differing_only: bool = False,
) -> list[SetResult]:
    """Merge each person into the stored one and mark it to be sent; with `differing_only` only if that changes it."""
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
                wanted = merge(person.patch, before.person if before is not None else None, person.photo_sha256)
            except InvalidError as error:
                results.append(SetResult(person.person_id, person.located(error.faults)))
                continue
            if differing_only and before is not None and before.person == wanted:
                results.append(SetResult(person.person_id))
                continue
            transaction.supersede(before, _SUPERSEDED)
            after = _entry(transaction, sn, person.person_id, revision, request, wanted)
            # The same person may come again further down the list.
            entries[person.person_id] = _put(transaction, before, after, person.photo)
            revision += 1
            results.append(SetResult(person.person_id, changed=True))
    return results


def copy_persons(
    transaction: PersonTransaction, source: str, sn: str, person_ids: Sequence[str], request: RequestContext
) -> list[str]:
    """Copy persons from one terminal to another; return those for which that makes a difference."""
    changed: list[str] = []
    for start in range(0, len(person_ids), BATCH):
        batch = person_ids[start : start + BATCH]
        originals = transaction.entries(source, batch)
        entries = transaction.entries(sn, batch)
        revision = transaction.next_revisions(len(batch))
        for person_id in batch:
            original, before = originals.get(person_id), entries.get(person_id)
            if original is None or original.person is None:
                continue
            present = None if before is None else before.person
            had_rule = present is not None and (present.weekly is not None or present.weekly_taken_back)
            taken_back = original.person.weekly is None and (had_rule or original.person.weekly_taken_back)
            wanted = replace(original.person, weekly_taken_back=taken_back)
            if present == wanted:
                continue
            transaction.supersede(before, _SUPERSEDED)
            _put(transaction, before, _entry(transaction, sn, person_id, revision, request, wanted))
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
            transaction.supersede(before, _SUPERSEDED)
            _put(transaction, before, _entry(transaction, sn, person_id, revision, request))


def remove_everyone(transaction: PersonTransaction, sn: str, request: RequestContext) -> None:
    """Remove all entries of a terminal, and let it remove everyone."""
    before = transaction.entries(sn, [None]).get(None)
    transaction.supersede(before, _SUPERSEDED)
    revision = transaction.next_revisions(1)
    _put(transaction, before, _entry(transaction, sn, None, revision, request))
    batches.remove_below(transaction, sn, revision, _SUPERSEDED)


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
    batches.remove_below(transaction, sn, transaction.next_revisions(1), _FORGOTTEN)
    transaction.drop_syncs(sn, _FORGOTTEN)


def _entry(
    transaction: PersonTransaction,
    sn: str,
    person_id: str | None,
    revision: int,
    request: RequestContext | None,
    person: Person | None = None,
) -> PersonEntry:
    """Return a change that is pending from now on; without a person it is a removal."""
    return PersonEntry(
        sn=sn, person_id=person_id, revision=revision, person=person, changed_at=transaction.now(), request=request
    )


def _put(
    transaction: PersonTransaction, before: PersonEntry | None, after: PersonEntry, photo: PreparedPhoto | None = None
) -> PersonEntry:
    """Store a change in place of an earlier one, and return it."""
    if before is not None:
        after = replace(after, confirmed_revision=before.confirmed_revision)
    transaction.replace(before, after, photo)
    return after
