"""Applies the jobs that a command depends on before it, in transactions of their own.

Each access to an entry applies the unfinished jobs of its terminal first. A command for a group of 500 members would
do so in one long transaction, if changes of the same persons are unfinished.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from bridge.core.ports import PersonCommand
from bridge.model.commands import RemovePersons, SetPersons
from bridge.persons.batches import LEAST_PAUSE_SECONDS, advance_changes
from bridge.persons.member_checks import depends_on_member
from bridge.persons.preparation import PreparedPerson
from bridge.persons.transaction_runner import TransactionRunner
from bridge.persons.transactions import DIRECT_ROWS, PersonTransaction
from bridge.store.group_change_queries import oldest_change

_SECONDS = 0.02
"""Time after which a transaction applies no further job."""

_PERSONS_PER_STEP = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The entries whose jobs must be applied before a command.

    Attributes:
        sns: terminals of which the command reads the persons.
        person_ids: these persons; None: all that unfinished changes of groups are about.
        joining: a group whose persons the command changes: terminals that are joining it get them first.
        kept_ids: these persons.
    """

    sns: Sequence[str] = ()
    person_ids: Sequence[str] | None = ()
    joining: str | None = None
    kept_ids: Sequence[str] = ()


Step = tuple[str, Sequence[str] | None]
"""A terminal, and persons to which its jobs are to be applied; None: all changes of groups."""


def needs(command: PersonCommand, persons: Sequence[PreparedPerson]) -> Iterator[Need]:
    """Yield what a command needs."""
    change, group = command.change, command.group
    if isinstance(change, SetPersons) and group is not None:
        patched = [one for one in persons if one.patch is not None and one.person_id is not None]
        ids = [one.person_id for one in patched if depends_on_member(one)]
        yield Need(
            sns=command.sns,
            person_ids=[one for one in ids if one is not None],
            joining=group,
            kept_ids=[one.person_id for one in patched if one.person_id is not None],
        )
    elif isinstance(change, RemovePersons) and change.ids is None and group is None:
        yield Need(sns=command.sns, person_ids=None)
    elif isinstance(change, RemovePersons) and change.ids is not None and group is not None:
        yield Need(joining=group, kept_ids=change.ids)


@dataclass(frozen=True, slots=True)
class EarlierJobs:
    """What must be applied before some commands.

    Attributes:
        last_change: changes of groups up to this id; None for none.
        steps: jobs of single terminals.
        joins: the ids of the changes of memberships that this includes.
    """

    last_change: int | None = None
    steps: Sequence[Step] = ()
    joins: frozenset[int] = frozenset()


def find_earlier(transaction: PersonTransaction, wanted: Sequence[Need]) -> EarlierJobs:
    """Return what must be applied before. If it is little, the transaction of the command does it."""
    steps: list[Step] = []
    joins: set[int] = set()
    last_change: int | None = None
    for need in wanted:
        transaction.kept.read_jobs(need.sns)
        if need.person_ids and len(need.sns) * len(need.person_ids) > DIRECT_ROWS:
            last_change = max(last_change or 0, transaction.changes.newest_of(need.person_ids) or 0) or None
        for sn in need.sns:
            if need.person_ids is None:
                if transaction.changes.has_jobs(sn):
                    steps.append((sn, None))
            elif need.person_ids and transaction.kept.jobs(sn):
                steps += _parts(sn, need.person_ids)
        if need.joining is not None and need.kept_ids:
            for job in transaction.joining(need.joining):
                joins.add(job.id)
                steps += _parts(job.sn, need.kept_ids)
    if sum(DIRECT_ROWS if ids is None else len(ids) for _, ids in steps) < DIRECT_ROWS:
        return EarlierJobs(last_change)
    return EarlierJobs(last_change, steps, frozenset(joins))


def take_steps(transaction: PersonTransaction, steps: Sequence[Step]) -> int:
    """Take the first steps; return their number."""
    until = perf_counter() + _SECONDS
    for number, (sn, person_ids) in enumerate(steps, 1):
        if person_ids is None:
            transaction.finish_changes(sn)
        else:
            transaction.entries(sn, person_ids)
        if perf_counter() >= until:
            return number
    return len(steps)


def _parts(sn: str, person_ids: Sequence[str]) -> Iterator[Step]:
    for start in range(0, len(person_ids), _PERSONS_PER_STEP):
        yield sn, person_ids[start : start + _PERSONS_PER_STEP]


async def finish_earlier_jobs(
    transactions: TransactionRunner, wanted: Sequence[Need], pause_seconds: float = LEAST_PAUSE_SECONDS
) -> frozenset[int]:
    """Apply the jobs that changes depend on, in short transactions.

    Args:
        transactions: runs the transactions.
        wanted: what the changes need.
        pause_seconds: between two transactions, for other changes.

    Returns:
        The changes of memberships that are applied to the persons of the changes (`PersonTransaction.finished_joins`).

    Raises:
        UnavailableError: the store cannot be changed now.
    """
    earlier = await transactions.run(partial(find_earlier, wanted=wanted))
    while earlier.last_change is not None and await _is_unfinished(transactions, earlier.last_change):
        await transactions.run(advance_changes)
        await asyncio.sleep(pause_seconds)
    steps = earlier.steps
    while steps:
        taken = await transactions.run(partial(take_steps, steps=steps))
        steps = steps[taken:]
        await asyncio.sleep(pause_seconds)
    return earlier.joins


async def _is_unfinished(transactions: TransactionRunner, change_id: int) -> bool:
    oldest = await transactions.context.database.read(oldest_change)
    return oldest is not None and oldest.id <= change_id
