"""Removes a person everywhere, and tells where that is confirmed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bridge.hub.commands import REMOVE_PERSONS
from bridge.model.person_entry import PersonEntry
from bridge.roster import changes
from bridge.roster.ledger import Ledger
from bridge.transfer.desk import ROWS_AT_ONCE, Desk
from bridge.transfer.ports import TransferStore


@dataclass(frozen=True, slots=True)
class Purge:
    """A removal that is stored.

    Attributes:
        sns: the terminals that are to confirm it.
        dropped: terminals that are not known any more, of which what was kept was dropped; nobody can tell them.
    """

    sns: Sequence[str]
    dropped: Sequence[str]


async def purge(desk: Desk, person_id: str, known: Collection[str]) -> Purge:
    """Remove a person from every known terminal, also from those that nobody has sent them to: they may be there.

    Raises:
        UnavailableError: the store is full, locked or gone; to be started again.
    """
    unknown = [entry.sn for entry in await desk.store.everywhere(person_id) if entry.sn not in known]
    sns = sorted(known)
    for start in range(0, len(sns), ROWS_AT_ONCE):
        await _remove(desk, person_id, sns[start : start + ROWS_AT_ONCE])
        await desk.give_way()
    if unknown:
        await desk.commits.run(lambda ledger: _drop(ledger, person_id, unknown))
    return Purge(sns, unknown)


async def unconfirmed(store: TransferStore, purge: Purge, person_id: str) -> Sequence[PersonEntry]:
    """Return the removals that are not confirmed, by SN; one that was refused stays so. Raises UnavailableError."""
    entries = await store.everywhere(person_id)
    return [entry for entry in entries if entry.sn in purge.sns and entry.person is None]


async def _drop(ledger: Ledger, person_id: str, sns: Sequence[str]) -> None:
    for sn in sns:
        await changes.forget_person(ledger, sn, person_id)


async def _remove(desk: Desk, person_id: str, sns: Sequence[str]) -> None:
    asked = {sn: desk.asked(REMOVE_PERSONS.name, sn) for sn in sns}

    async def work(ledger: Ledger) -> None:
        for sn in sns:
            await changes.remove_persons(ledger, sn, [person_id], desk.kept(asked[sn]))

    await desk.commits.run(work)
    for sn in sns:
        desk.tell_accepted(asked[sn], [person_id])
