"""Finds out whether a store with a damaged part still accepts changes."""

from contextlib import suppress

from sqlalchemy import Connection

from bridge.core.commands import SET_PERSONS
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.person import Person
from bridge.model.person_entry import PersonEntry, RequestContext
from bridge.persons.preparation import PreparedPhoto
from bridge.persons.transaction_runner import PersonContext
from bridge.persons.transactions import PersonTransaction

_SN = " "
"""Of no terminal: an SN has no space."""

_PHOTO = PreparedPhoto(sha256=_SN, jpeg=bytes(100_000))
"""As large as other photos, so that the store must find free pages for it."""


class _UndoneError(Exception):
    """The change was applied, and is undone by this exception."""


async def accepts_changes(context: PersonContext) -> bool:
    """Return whether a made-up change of a person can be applied; it is undone at once."""
    with suppress(UnavailableError):
        try:
            await context.database.write(_apply_and_undo, context)
        except _UndoneError:
            return True
    return False


def _apply_and_undo(connection: Connection, context: PersonContext) -> None:
    transaction = PersonTransaction(connection, context.cipher, context.clock, context.boot_id)
    request = RequestContext(
        command=SET_PERSONS.name,
        request_id=None,
        origin=Origin(source="check of a damaged store"),
        received_at=context.clock.boottime(),
        boot_id=context.boot_id,
    )
    entry = PersonEntry(
        sn=_SN,
        person_id=_SN,
        revision=transaction.next_revisions(1),
        person=Person(id=_SN, name=_SN, photo=_PHOTO.sha256),
        changed_at=transaction.now(),
        request=request,
    )
    transaction.replace(None, entry, _PHOTO)
    transaction.supersede(entry)
    transaction.finish()
    raise _UndoneError
