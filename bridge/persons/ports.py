"""What the roster asks of the store."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from bridge.model.person_entry import FinalReply, OpenSync, PersonEntry
from bridge.model.terminal import PersonCounts


class PersonTransaction(Protocol):
    """What can be read and changed within one transaction."""

    async def next_revisions(self, count: int) -> int:
        """Give out `count` revisions in a row and return the first; 0 returns the one that comes next."""
        ...

    async def entries(self, sn: str, person_ids: Collection[str | None]) -> Sequence[PersonEntry]:
        """Return those of these persons (None: the removal of everyone) that have an entry."""
        ...

    def scan(self, sn: str, *, before: int, limit: int) -> AsyncIterator[Sequence[PersonEntry]]:
        """Go through a terminal's entries of revisions below `before`, by revision, up to `limit` at a time.

        They may be changed or dropped on the way.
        """
        ...

    async def put(self, entries: Sequence[PersonEntry]) -> None:
        """Add or replace entries; their photos are there already."""
        ...

    async def drop(self, entries: Sequence[PersonEntry]) -> None:
        """Delete entries."""
        ...

    async def add_photos(self, photos: Mapping[str, bytes]) -> None:
        """Keep photos by their SHA-256; one that is there already stays."""
        ...

    async def drop_unused_photos(self, candidates: Collection[str]) -> bool:
        """Delete those of the photos that no entry wants any more; return whether there was one."""
        ...

    async def add_sync(self, sync: OpenSync) -> None:
        """Keep a sync until it is finished."""
        ...

    async def syncs(self, sns: Collection[str]) -> Sequence[OpenSync]:
        """Return these terminals' syncs, oldest first."""
        ...

    async def extend_syncs(self, sn: str, revision: int) -> None:
        """Let a terminal's syncs go on until nothing up to `revision` is pending."""
        ...

    async def drop_syncs(self, ids: Collection[int]) -> None:
        """Drop syncs that are finished."""
        ...

    async def first_pending(self, sn: str) -> int | None:
        """Return the revision of a terminal's oldest pending change."""
        ...

    async def tell(self, words: Sequence[FinalReply]) -> None:
        """Put last words into the outbox."""
        ...

    async def last_word_id(self) -> int:
        """Return the id of the newest last word in the outbox, 0 where it is empty."""
        ...

    async def counts(self, sns: Collection[str]) -> Mapping[str, PersonCounts]:
        """Return how far those of these terminals are that have persons."""
        ...

    async def note_outside_changes(self, sns: Collection[str]) -> None:
        """Have a running bridge look at these terminals' persons; for programs beside it."""
        ...

    async def take_outside_changes(self) -> Sequence[str]:
        """Return the terminals whose persons another program has changed, and count them as looked at."""
        ...


class PersonStore(Protocol):
    """Where persons are kept. Everything raises UnavailableError where the store is full, locked or gone."""

    def transaction(self) -> AbstractAsyncContextManager[PersonTransaction]:
        """Change persons: all of it is on the disk at the end, or, on any exception, none of it."""
        ...

    async def counts(self) -> Mapping[str, PersonCounts]:
        """Return how far each terminal with persons is."""
        ...

    async def outside_changes(self) -> Sequence[str]:
        """Return the terminals whose persons another program has changed."""
        ...

    async def pending(self, sn: str, limit: int) -> Sequence[PersonEntry]:
        """Return a terminal's oldest changes that it has yet to answer, by revision."""
        ...

    async def page(self, sn: str, after: str, limit: int) -> Sequence[PersonEntry]:
        """Return a terminal's persons whose id comes after `after`, by id; never the removal of everyone."""
        ...

    async def entry(self, sn: str, person_id: str) -> PersonEntry | None:
        """Return one person of a terminal."""
        ...

    async def entries(self, sn: str, person_ids: Collection[str]) -> Sequence[PersonEntry]:
        """Return those of these persons that a terminal has an entry of."""
        ...

    async def expired(self, before: datetime, limit: int) -> Sequence[tuple[str, str]]:
        """Return SN and id of persons whose `valid_until` was over before then."""
        ...

    async def photo(self, sha256: str) -> bytes | None:
        """Return a photo's JPEG; None where it is not there, or not as it was kept."""
        ...

    async def shed(self) -> bool:
        """Let go of what was deleted, so that it can be read nowhere any more; return False where that waits."""
        ...
