"""Checks of a set of persons on many members of a group, before a job applies it.

The reply says on which members the set is invalid. The values that decide this are read before the transaction that
accepts the change: 50,000 entries take longer than a transaction may. The transaction reads again what changed since.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bridge.model.faults import Fault, InvalidError
from bridge.model.person import Person, fields_from_stored
from bridge.persons.preparation import PreparedPerson
from bridge.persons.schema import merge
from bridge.persons.transactions import PersonTransaction
from bridge.store import person_queries as queries
from bridge.store.database import Database
from bridge.store.group_change_queries import validity_on

_ROWS = 2000
"""Entries that are read at once, on a reader's thread."""

Validity = tuple[str | None, str | None]
"""The stored `valid_from` and `valid_until` of a person that a terminal should hold."""


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


@dataclass(frozen=True, slots=True)
class MemberResults:
    """The results of a set, which several members have in common; None for the group if it has no members."""

    sns: Sequence[str | None]
    results: Sequence[SetResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStates:
    """The persons that members should hold, as far as they decide whether a set is valid.

    Attributes:
        revision: the last one before they were read.
        validity: by SN and person; nothing for a person that the member should not hold.
    """

    revision: int
    validity: Mapping[tuple[str, str], Validity]


def depends_on_member(person: PreparedPerson) -> bool:
    """Return whether the stored person decides if a set is valid."""
    return not person.is_complete or (
        person.patch is not None and not person.patch.changes.keys().isdisjoint(("valid_from", "valid_until"))
    )


def dependent_ids(persons: Sequence[PreparedPerson]) -> set[str]:
    """Return the persons for which the stored person decides if a set is valid."""
    return {one.patch.id for one in persons if one.patch is not None and depends_on_member(one)}


async def read_states(database: Database, sns: Sequence[str], person_ids: Collection[str]) -> MemberStates:
    """Read the states of members. Raises UnavailableError."""
    revision = await database.read(queries.last_revision)
    validity: dict[tuple[str, str], Validity] = {}
    size = max(1, _ROWS // max(len(person_ids), 1))
    for start in range(0, len(sns), size):
        validity |= await database.read(validity_on, sns[start : start + size], person_ids)
    return MemberStates(revision=revision, validity=validity)


def results_on_members(
    transaction: PersonTransaction,
    sns: Sequence[str],
    persons: Sequence[PreparedPerson],
    states: MemberStates | None,
) -> Sequence[MemberResults]:
    """Return what a set of persons will change on each member; a job applies it later.

    Only whether a member should hold the person, and the validity of the present values, decide whether a set is valid.

    Args:
        transaction: the transaction that accepts the set.
        sns: the members.
        persons: the persons.
        states: read before; None: read them now.
    """
    ids = dependent_ids(persons)
    if not ids:
        same = [SetResult(one.person_id, one.faults, changed=not one.faults) for one in persons]
        return [MemberResults(sns, same)]
    validity = _present_states(transaction, sns, ids, states)
    order = sorted(ids)
    # Most members hold the same persons.
    members: dict[tuple[Validity | None, ...], list[str]] = {}
    for sn in sns:
        members.setdefault(tuple(validity.get((sn, person_id)) for person_id in order), []).append(sn)
    return [
        MemberResults(some, _results_with(persons, dict(zip(order, values, strict=True))))
        for values, some in members.items()
    ]


def _present_states(
    transaction: PersonTransaction, sns: Sequence[str], person_ids: Collection[str], states: MemberStates | None
) -> Mapping[tuple[str, str], Validity]:
    # `bridge.persons.earlier_jobs` has applied most of them.
    is_concerned = transaction.changes.newest_of(person_ids) is not None
    transaction.kept.read_jobs(sns)
    outdated = set(sns) if states is None else transaction.changed_since(sns, person_ids, states.revision)
    for sn in sns:
        if is_concerned or transaction.kept.jobs(sn):
            transaction.entries(sn, list(person_ids))
            outdated.add(sn)
    if not outdated:
        return {} if states is None else states.validity
    read_again = transaction.validity_on(sorted(outdated), person_ids)
    kept = {} if states is None else {key: one for key, one in states.validity.items() if key[0] not in outdated}
    return {**kept, **read_again}


def _results_with(persons: Sequence[PreparedPerson], states: Mapping[str, Validity | None]) -> list[SetResult]:
    """Return the results of a set on a member; `states` has the validity of the persons that the member holds."""
    present: dict[str, Person] = {}
    for person_id, state in states.items():
        if state is not None:
            times = fields_from_stored({"valid_from": state[0], "valid_until": state[1]})
            present[person_id] = Person(id=person_id, name="", photo="", **times)
    results: list[SetResult] = []
    for one in persons:
        if one.patch is None:
            results.append(SetResult(one.person_id, one.faults))
            continue
        # A complete person without times is valid everywhere.
        if one.patch.id in states:
            try:
                # The same person may come again further down the list.
                present[one.patch.id] = merge(one.patch, present.get(one.patch.id), one.photo_sha256)
            except InvalidError as error:
                results.append(SetResult(one.person_id, one.located(error.faults)))
                continue
        results.append(SetResult(one.person_id, changed=True))
    return results
