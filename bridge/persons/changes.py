"""What each person command does to what is kept of a terminal."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from bridge.model.faults import Fault, InvalidError
from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, OpenSync, PersonEntry, RequestContext
from bridge.persons.photos.preparation import PreparedPhoto
from bridge.persons.preparation import PreparedPerson
from bridge.persons.schema import merge
from bridge.persons.transaction import BATCH, Transaction

_SUPERSEDED = "a later change took its place"
_FORGOTTEN = "the terminal was forgotten"


@dataclass(frozen=True, slots=True)
class SetResult:
    """What became of one person of a list.

    Attributes:
        person_id: who, None where that could not be read.
        faults: why it could not be changed.
        changed: whether it was; False also where it would have made no difference.
    """

    person_id: str | None
    faults: Sequence[Fault] = ()
    changed: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    sn: str
    person_id: str | None
    revision: int


async def set_persons(
    ledger: Transaction,
    sn: str,
    persons: Sequence[PreparedPerson],
    asked: RequestContext,
    *,
    differing_only: bool = False,
) -> AsyncIterator[Sequence[SetResult]]:
    """Merge each person into what is kept, to be sent in any case, or only where that makes a difference.

    Yields:
        What became of them, in batches.
    """
    for start in range(0, len(persons), BATCH):
        batch = persons[start : start + BATCH]
        entries = await ledger.entries(sn, {person.person_id for person in batch if person.person_id is not None})
        revision = await ledger.next_revisions(len(batch))
        results: list[SetResult] = []
        for person in batch:
            if person.patch is None:
                results.append(SetResult(person.person_id, person.faults))
                continue
            before = entries.get(person.person_id)
            try:
                wanted = merge(person.patch, before.person if before is not None else None, person.photo_sha256)
            except InvalidError as error:
                results.append(SetResult(person.person_id, person.placed(error.faults)))
                continue
            if differing_only and before is not None and before.person == wanted:
                results.append(SetResult(person.person_id))
                continue
            ledger.supersede(before, _SUPERSEDED)
            target = _Target(sn, person.person_id, revision)
            # The same person may come again further down the list.
            entries[person.person_id] = _put(ledger, before, target, asked, wanted, person.photo)
            revision += 1
            results.append(SetResult(person.person_id, changed=True))
        yield results


async def copy_persons(
    ledger: Transaction, source: str, sn: str, person_ids: Sequence[str], asked: RequestContext
) -> list[str]:
    """Let a terminal hold persons as another one should; return those for whom that makes a difference."""
    changed: list[str] = []
    for start in range(0, len(person_ids), BATCH):
        batch = person_ids[start : start + BATCH]
        originals = await ledger.entries(source, batch)
        entries = await ledger.entries(sn, batch)
        revision = await ledger.next_revisions(len(batch))
        for person_id in batch:
            original, before = originals.get(person_id), entries.get(person_id)
            if original is None or original.person is None:
                continue
            there = None if before is None else before.person
            had_rule = there is not None and (there.weekly is not None or there.weekly_taken_back)
            taken_back = original.person.weekly is None and (had_rule or original.person.weekly_taken_back)
            wanted = replace(original.person, weekly_taken_back=taken_back)
            if there == wanted:
                continue
            ledger.supersede(before, _SUPERSEDED)
            _put(ledger, before, _Target(sn, person_id, revision), asked, wanted)
            revision += 1
            changed.append(person_id)
    return changed


async def remove_persons(ledger: Transaction, sn: str, person_ids: Sequence[str], asked: RequestContext) -> None:
    """Remove persons; also those that are not known, whom the terminal may hold from before."""
    for start in range(0, len(person_ids), BATCH):
        batch = person_ids[start : start + BATCH]
        entries = await ledger.entries(sn, batch)
        first = await ledger.next_revisions(len(batch))
        for revision, person_id in enumerate(batch, first):
            before = entries.get(person_id)
            ledger.supersede(before, _SUPERSEDED)
            _put(ledger, before, _Target(sn, person_id, revision), asked)


async def remove_everyone(ledger: Transaction, sn: str, asked: RequestContext) -> None:
    """Drop whoever is kept for the terminal, and have it remove everyone."""
    revision = await ledger.next_revisions(1)
    async for entries in ledger.scan(sn, before=revision):
        for entry in entries:
            ledger.supersede(entry, _SUPERSEDED)
            ledger.replace(entry, None)
    _put(ledger, None, _Target(sn, None, revision), asked)


async def sync(ledger: Transaction, sn: str, asked: RequestContext, *, clear: bool) -> None:
    """Have all that is kept sent again, refused changes included; with `clear` after the removal of everyone.

    Whoever waits for a change that is pending goes on waiting: it is the same change, sent anew.
    """
    start = await ledger.next_revisions(0)
    if clear:
        removal = (await ledger.entries(sn, [None])).get(None)
        revision = await ledger.next_revisions(1)
        waiting = removal.request if removal is not None else None
        _put(ledger, removal, _Target(sn, None, revision), waiting)
    async for entries in ledger.scan(sn, before=start):
        # Whoever is disabled, and confirmed so, is not on the terminal and need not be removed again.
        again = [entry for entry in entries if entry.held or entry.delivery is not DeliveryState.CONFIRMED]
        first = await ledger.next_revisions(len(again))
        for revision, entry in enumerate(again, first):
            ledger.replace(
                entry, replace(entry, revision=revision, delivery=DeliveryState.PENDING, status=None, message=None)
            )
    last = await ledger.next_revisions(0) - 1
    await ledger.add_sync(OpenSync(sn=sn, revision=last, request=asked))


async def forget_person(ledger: Transaction, sn: str, person_id: str) -> None:
    """Drop what is kept of a person for a terminal that nobody will send anything any more."""
    entry = (await ledger.entries(sn, [person_id])).get(person_id)
    if entry is not None:
        ledger.supersede(entry, _FORGOTTEN)
        ledger.replace(entry, None)


async def forget(ledger: Transaction, sn: str) -> None:
    """Drop all that is kept for a terminal; whoever waits is told that it will not happen."""
    end = await ledger.next_revisions(0)
    async for entries in ledger.scan(sn, before=end):
        for entry in entries:
            ledger.supersede(entry, _FORGOTTEN)
            ledger.replace(entry, None)
    await ledger.forget(sn, _FORGOTTEN)


def _put(
    ledger: Transaction,
    before: PersonEntry | None,
    target: _Target,
    asked: RequestContext | None,
    person: Person | None = None,
    photo: PreparedPhoto | None = None,
) -> PersonEntry:
    """Keep a person as they should be, None for a removal, as yet to be sent."""
    entry = PersonEntry(
        sn=target.sn,
        person_id=target.person_id,
        revision=target.revision,
        person=person,
        delivery=DeliveryState.PENDING,
        confirmed_revision=None if before is None else before.confirmed_revision,
        status=None,
        message=None,
        changed_at=ledger.now(),
        request=asked,
    )
    ledger.replace(before, entry, photo)
    return entry
