"""Goes through a terminal's persons, few of them in memory at a time."""

from collections.abc import AsyncIterator, Sequence

from bridge.model.person_entry import PersonEntry
from bridge.persons.ports import PersonStore


async def pages(store: PersonStore, sn: str, limit: int) -> AsyncIterator[Sequence[PersonEntry]]:
    """Give a terminal's persons by id, up to `limit` at a time; never the removal of everyone.

    Raises:
        UnavailableError: the store cannot be read.
    """
    after = ""
    while entries := await store.page(sn, after, limit):
        yield entries
        after = entries[-1].person_id or ""
