"""Persons: what each terminal should hold, the photos, and the syncs that are not finished."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, case, delete, exists, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.person_entry import DeliveryState, FinalReply, OpenSync, PersonEntry
from bridge.model.terminal import PersonCounts
from bridge.store.database import Database
from bridge.store.errors import PhotoKeyError
from bridge.store.photo_cipher import PhotoCipher
from bridge.store.records import entry_row, person_key, read_entry, read_sync, sync_row, word_row
from bridge.store.tables import COUNTER, OUTBOX, OUTSIDE_CHANGE, PERSON_ENTRY, PERSON_SYNC, PHOTO, REVISION

_LOGGER = logging.getLogger(__name__)

_MAXIMUM_PARAMETERS = 500
"""Values in one `IN (…)`: far below any database's limit."""


PLAIN = PhotoCipher()
"""Keeps photos as they are."""


class StoredPersons:
    """The roster's `PersonStore`."""

    def __init__(self, database: Database, cipher: PhotoCipher = PLAIN) -> None:
        """Take the database, and what encrypts and decrypts its photos."""
        self._database = database
        self._cipher = cipher

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["PersonTransaction"]:
        """Change persons: all of it is on the disk at the end, or, on any exception, none of it.

        Raises:
            UnavailableError: the store is full, locked or gone; nothing was changed.
        """
        async with self._database.writing() as connection:
            yield PersonTransaction(connection, self._cipher)

    async def counts(self) -> Mapping[str, PersonCounts]:
        """Return how far each terminal with persons is. Raises UnavailableError."""
        async with self._database.reading() as connection:
            return await _counts(connection)

    async def outside_changes(self) -> Sequence[str]:
        """Return the terminals whose persons another program has changed. Raises UnavailableError."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(OUTSIDE_CHANGE.c.sn))).scalars().all()

    async def pending(self, sn: str, limit: int) -> Sequence[PersonEntry]:
        """Return a terminal's oldest changes that it has yet to answer, by revision. Raises UnavailableError."""
        query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, _is(DeliveryState.PENDING))
        async with self._database.reading() as connection:
            return await _entries(connection, query.order_by(PERSON_ENTRY.c.revision).limit(limit))

    async def page(self, sn: str, after: str, limit: int) -> Sequence[PersonEntry]:
        """Return a terminal's persons whose id comes after `after`, by id; never the removal of everyone.

        Raises:
            UnavailableError: the store cannot be read.
        """
        query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, PERSON_ENTRY.c.person_id > after)
        async with self._database.reading() as connection:
            return await _entries(connection, query.order_by(PERSON_ENTRY.c.person_id).limit(limit))

    async def entry(self, sn: str, person_id: str) -> PersonEntry | None:
        """Return one person of a terminal. Raises UnavailableError."""
        query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, PERSON_ENTRY.c.person_id == person_id)
        async with self._database.reading() as connection:
            return next(iter(await _entries(connection, query)), None)

    async def entries(self, sn: str, person_ids: Collection[str]) -> Sequence[PersonEntry]:
        """Return those of these persons that a terminal has an entry of. Raises UnavailableError."""
        async with self._database.reading() as connection:
            return await _entries_of(connection, sn, person_ids)

    async def everywhere(self, person_id: str) -> Sequence[PersonEntry]:
        """Return a person's entries on all terminals, by SN. Raises UnavailableError."""
        query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.person_id == person_id).order_by(PERSON_ENTRY.c.sn)
        async with self._database.reading() as connection:
            return await _entries(connection, query)

    async def unconfirmed(
        self, after: tuple[str, str], limit: int, *, sns: Collection[str] | None = None
    ) -> Sequence[PersonEntry]:
        """Return what terminals have yet to confirm or have refused, the removals of everyone included.

        Args:
            after: SN and person id (empty for everyone) that the result begins behind.
            limit: how many.
            sns: only of these terminals.

        Returns:
            By SN and person id.

        Raises:
            UnavailableError: the store cannot be read.
        """
        key = tuple_(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id)
        query = select(PERSON_ENTRY).where(key > after, PERSON_ENTRY.c.delivery != DeliveryState.CONFIRMED.value)
        if sns is not None:
            query = query.where(PERSON_ENTRY.c.sn.in_(sns))
        async with self._database.reading() as connection:
            return await _entries(connection, query.order_by(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id).limit(limit))

    async def expired(self, before: datetime, limit: int) -> Sequence[tuple[str, str]]:
        """Return SN and id of persons whose `valid_until` was over before then. Raises UnavailableError."""
        query = select(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id).where(PERSON_ENTRY.c.valid_until < before)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(PERSON_ENTRY.c.valid_until).limit(limit))
            return [(row.sn, row.person_id) for row in rows]

    async def photo(self, sha256: str) -> bytes | None:
        """Return a photo's JPEG; None where it is not there, or not as it was kept. Raises UnavailableError."""
        query = select(PHOTO.c.jpeg, PHOTO.c.key_id).where(PHOTO.c.sha256 == sha256)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None or row.key_id is None:
            return None if row is None else row.jpeg
        try:
            # Half a millisecond for an ordinary photo, five for the largest: no press is to wait for it.
            return await asyncio.to_thread(self._cipher.decrypt, row.jpeg, row.key_id)
        except PhotoKeyError as error:
            _LOGGER.warning("a photo cannot be read: %s", error)
            return None

    async def shed(self) -> bool:
        """Let go of what was deleted, so that it can be read nowhere any more; return False where that waits.

        Raises:
            UnavailableError: not now.
        """
        return await self._database.shed()


class PersonTransaction:
    """What can be read and changed within one transaction; its exceptions are mapped by whoever opened it."""

    def __init__(self, connection: AsyncConnection, cipher: PhotoCipher) -> None:
        self._connection = connection
        self._cipher = cipher
        self._insert = _insert_of(connection.dialect.name)

    async def next_revisions(self, count: int) -> int:
        """Give out `count` revisions in a row and return the first; 0 returns the one that comes next."""
        row = update(COUNTER).where(COUNTER.c.name == REVISION).values(value=COUNTER.c.value + count)
        last: int = (await self._connection.execute(row.returning(COUNTER.c.value))).scalar_one()
        return last - count + 1

    async def entries(self, sn: str, person_ids: Collection[str | None]) -> Sequence[PersonEntry]:
        """Return those of these persons (None: the removal of everyone) that have an entry."""
        return await _entries_of(self._connection, sn, person_ids)

    async def scan(self, sn: str, *, before: int, limit: int) -> AsyncIterator[Sequence[PersonEntry]]:
        """Go through a terminal's entries of revisions below `before`, by revision, up to `limit` at a time.

        They may be changed or dropped on the way.
        """
        revision = PERSON_ENTRY.c.revision
        after = -1
        while True:
            query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, revision > after, revision < before)
            found = await _entries(self._connection, query.order_by(revision).limit(limit))
            if not found:
                return
            after = found[-1].revision
            yield found

    async def put(self, entries: Sequence[PersonEntry]) -> None:
        """Add or replace entries."""
        if entries:
            statement = _put_entry(self._connection.dialect.name)
            await self._connection.execute(statement, [entry_row(entry) for entry in entries])

    async def drop(self, entries: Sequence[PersonEntry]) -> None:
        """Delete entries."""
        for sn in {entry.sn for entry in entries}:
            for keys in _batches([person_key(entry.person_id) for entry in entries if entry.sn == sn]):
                await self._connection.execute(
                    delete(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, PERSON_ENTRY.c.person_id.in_(keys))
                )

    async def add_photos(self, photos: Mapping[str, bytes]) -> None:
        """Keep photos by their SHA-256; one that is there already stays."""
        if not photos:
            return
        kept = photos if self._cipher.key_id is None else await asyncio.to_thread(self._encrypted, photos)
        await self._connection.execute(
            self._insert(PHOTO).on_conflict_do_nothing(index_elements=["sha256"]),
            [{"sha256": sha256, "jpeg": jpeg, "key_id": self._cipher.key_id} for sha256, jpeg in kept.items()],
        )

    def _encrypted(self, photos: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return {sha256: self._cipher.encrypt(jpeg) for sha256, jpeg in photos.items()}

    async def drop_unused_photos(self, candidates: Collection[str]) -> bool:
        """Delete those of the photos that no entry wants any more; return whether there was one."""
        used = exists().where(PERSON_ENTRY.c.photo_sha256 == PHOTO.c.sha256)
        dropped = 0
        for sha256s in _batches(sorted(candidates)):
            dropped += (
                await self._connection.execute(delete(PHOTO).where(PHOTO.c.sha256.in_(sha256s), ~used))
            ).rowcount
        return dropped > 0

    async def add_sync(self, sync: OpenSync) -> None:
        """Keep a sync until it is finished."""
        await self._connection.execute(insert(PERSON_SYNC), [sync_row(sync)])

    async def syncs(self, sns: Collection[str]) -> Sequence[OpenSync]:
        """Return these terminals' syncs, oldest first."""
        found: list[OpenSync] = []
        for batch in _batches(sorted(sns)):
            query = select(PERSON_SYNC).where(PERSON_SYNC.c.sn.in_(batch)).order_by(PERSON_SYNC.c.id)
            found += [read_sync(row) for row in (await self._connection.execute(query)).mappings()]
        return found

    async def extend_syncs(self, sn: str, revision: int) -> None:
        """Let a terminal's syncs go on until nothing up to `revision` is pending."""
        await self._connection.execute(update(PERSON_SYNC).where(PERSON_SYNC.c.sn == sn).values(revision=revision))

    async def drop_syncs(self, ids: Collection[int]) -> None:
        """Drop syncs that are finished."""
        for batch in _batches(sorted(ids)):
            await self._connection.execute(delete(PERSON_SYNC).where(PERSON_SYNC.c.id.in_(batch)))

    async def first_pending(self, sn: str) -> int | None:
        """Return the revision of a terminal's oldest pending change."""
        query = select(func.min(PERSON_ENTRY.c.revision)).where(PERSON_ENTRY.c.sn == sn, _is(DeliveryState.PENDING))
        first: int | None = (await self._connection.execute(query)).scalar()
        return first

    async def tell(self, words: Sequence[FinalReply]) -> None:
        """Put last words into the outbox."""
        if words:
            await self._connection.execute(insert(OUTBOX), [word_row(word) for word in words])

    async def last_word_id(self) -> int:
        """Return the id of the newest last word in the outbox, 0 where it is empty."""
        return (await self._connection.execute(select(func.max(OUTBOX.c.id)))).scalar() or 0

    async def counts(self, sns: Collection[str]) -> Mapping[str, PersonCounts]:
        """Return how far those of these terminals are that have persons."""
        return await _counts(self._connection, sns)

    async def note_outside_changes(self, sns: Collection[str]) -> None:
        """Have a running bridge look at these terminals' persons; for programs beside it."""
        if sns:
            await self._connection.execute(
                self._insert(OUTSIDE_CHANGE).on_conflict_do_nothing(index_elements=["sn"]), [{"sn": sn} for sn in sns]
            )

    async def take_outside_changes(self) -> Sequence[str]:
        """Return the terminals whose persons another program has changed, and count them as looked at."""
        taken = await self._connection.execute(delete(OUTSIDE_CHANGE).returning(OUTSIDE_CHANGE.c.sn))
        return taken.scalars().all()


def _insert_of(dialect: str) -> Callable[[Table], sqlite.Insert | postgresql.Insert]:
    """Return what makes an INSERT that can say what happens on a conflict: the same in each dialect."""
    return sqlite.insert if dialect == "sqlite" else postgresql.insert


@cache
def _put_entry(dialect: str) -> sqlite.Insert | postgresql.Insert:
    # Made once: putting it together costs as much as running it.
    statement = _insert_of(dialect)(PERSON_ENTRY)
    replaced = {column.name: statement.excluded[column.name] for column in PERSON_ENTRY.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=["sn", "person_id"], set_=replaced)


async def _entries(connection: AsyncConnection, query: Select[Any]) -> list[PersonEntry]:
    return [read_entry(row) for row in (await connection.execute(query)).mappings()]


async def _entries_of(
    connection: AsyncConnection, sn: str, person_ids: Collection[str | None]
) -> Sequence[PersonEntry]:
    found: list[PersonEntry] = []
    for keys in _batches([person_key(person_id) for person_id in person_ids]):
        query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, PERSON_ENTRY.c.person_id.in_(keys))
        found += await _entries(connection, query)
    return found


async def _counts(connection: AsyncConnection, sns: Collection[str] | None = None) -> dict[str, PersonCounts]:
    entry = PERSON_ENTRY.c
    query = select(
        entry.sn,
        _count(entry.held).label("desired"),
        _count(and_(entry.held, _is(DeliveryState.CONFIRMED))).label("confirmed"),
        _count(_is(DeliveryState.PENDING)).label("pending"),
        _count(_is(DeliveryState.REFUSED)).label("refused"),
    ).group_by(entry.sn)
    queries = [query] if sns is None else [query.where(entry.sn.in_(batch)) for batch in _batches(sorted(sns))]
    return {
        row["sn"]: PersonCounts(row["desired"], row["confirmed"], row["pending"], row["refused"])
        for one in queries
        for row in (await connection.execute(one)).mappings()
    }


def _is(delivery: DeliveryState) -> ColumnElement[bool]:
    return PERSON_ENTRY.c.delivery == delivery.value


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MAXIMUM_PARAMETERS):
        yield values[start : start + _MAXIMUM_PARAMETERS]
