"""Removes a person everywhere, and shows which terminals have confirmed that."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from bridge.core.commands import REMOVE_PERSONS
from bridge.import_export.context import ROWS_PER_TRANSACTION, TransferContext
from bridge.model.person_entry import PersonEntry, RequestContext
from bridge.persons import changes
from bridge.persons.transactions import PersonTransaction
from bridge.store.database import Database
from bridge.store.person_queries import entries_everywhere


@dataclass(frozen=True, slots=True)
class Purge:
    """A removal that is stored.

    Attributes:
        sns: the terminals that must confirm it.
        dropped: terminals that are no longer known; their entry was deleted, and the device gets no removal.
        is_unknown: whether the store had this person for no terminal.
    """

    sns: Sequence[str]
    dropped: Sequence[str]
    is_unknown: bool


async def purge(context: TransferContext, person_id: str, known: Collection[str]) -> Purge:
    """Remove a person from every known terminal, also from those without an entry: the device may hold the person.

    Raises:
        UnavailableError: the store is full, locked or unreachable; call it again.
    """
    entries = await context.database.read(entries_everywhere, person_id)
    unknown = [entry.sn for entry in entries if entry.sn not in known]
    sns = sorted(known)
    for start in range(0, len(sns), ROWS_PER_TRANSACTION):
        await _remove(context, person_id, sns[start : start + ROWS_PER_TRANSACTION])
        await context.let_bridge_write()
    if unknown:
        await context.transactions.run(partial(_forget_person, person_id=person_id, sns=unknown))
    return Purge(sns, unknown, is_unknown=all(entry.person is None for entry in entries))


async def unconfirmed(database: Database, purge: Purge, person_id: str) -> Sequence[PersonEntry]:
    """Return the removals that are not confirmed or were refused, by SN. Raises UnavailableError."""
    entries = await database.read(entries_everywhere, person_id)
    return [entry for entry in entries if entry.sn in purge.sns and entry.person is None]


async def _remove(context: TransferContext, person_id: str, sns: Sequence[str]) -> None:
    replies = {sn: context.reply_builder(REMOVE_PERSONS.name, sn) for sn in sns}
    requests = {sn: context.request(builder) for sn, builder in replies.items()}
    await context.transactions.run(partial(_remove_on_terminals, person_id=person_id, requests=requests))
    for builder in replies.values():
        context.publish_accepted(builder, [person_id])


def _remove_on_terminals(transaction: PersonTransaction, person_id: str, requests: dict[str, RequestContext]) -> None:
    for sn, request in requests.items():
        changes.remove_persons(transaction, sn, [person_id], request)


def _forget_person(transaction: PersonTransaction, person_id: str, sns: Sequence[str]) -> None:
    for sn in sns:
        changes.forget_person(transaction, sn, person_id)
