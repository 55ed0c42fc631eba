"""Removes a person everywhere, and tells where that is confirmed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bridge.core.commands import REMOVE_PERSONS
from bridge.import_export.context import ROWS_AT_ONCE, TransferContext
from bridge.import_export.ports import TransferStore
from bridge.model.person_entry import PersonEntry
from bridge.persons import changes
from bridge.persons.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Purge:
    """A removal that is stored.

    Attributes:
        sns: the terminals that are to confirm it.
        dropped: terminals that are not known any more, of which what was kept was dropped; nobody can tell them.
    """

    sns: Sequence[str]
    dropped: Sequence[str]


async def purge(context: TransferContext, person_id: str, known: Collection[str]) -> Purge:
    """Remove a person from every known terminal, also from those that nobody has sent them to: they may be there.

    Raises:
        UnavailableError: the store is full, locked or gone; to be started again.
    """
    unknown = [entry.sn for entry in await context.store.everywhere(person_id) if entry.sn not in known]
    sns = sorted(known)
    for start in range(0, len(sns), ROWS_AT_ONCE):
        await _remove(context, person_id, sns[start : start + ROWS_AT_ONCE])
        await context.give_way()
    if unknown:
        await context.commits.run(lambda ledger: _drop(ledger, person_id, unknown))
    return Purge(sns, unknown)


async def unconfirmed(store: TransferStore, purge: Purge, person_id: str) -> Sequence[PersonEntry]:
    """Return the removals that are not confirmed, by SN; one that was refused stays so. Raises UnavailableError."""
    entries = await store.everywhere(person_id)
    return [entry for entry in entries if entry.sn in purge.sns and entry.person is None]


async def _drop(ledger: Transaction, person_id: str, sns: Sequence[str]) -> None:
    for sn in sns:
        await changes.forget_person(ledger, sn, person_id)


async def _remove(context: TransferContext, person_id: str, sns: Sequence[str]) -> None:
    asked = {sn: context.asked(REMOVE_PERSONS.name, sn) for sn in sns}

    async def work(ledger: Transaction) -> None:
        for sn in sns:
            await changes.remove_persons(ledger, sn, [person_id], context.kept(asked[sn]))

    await context.commits.run(work)
    for sn in sns:
        context.tell_accepted(asked[sn], [person_id])
