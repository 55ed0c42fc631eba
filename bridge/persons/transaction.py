"""The changes of one transaction, and what follows from them."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bridge.core.clock import Clock
from bridge.model.outcome import Outcome
from bridge.model.person_entry import DeliveryState, FinalReply, OpenSync, PersonEntry, RequestContext
from bridge.model.reply import Reply
from bridge.model.terminal import PersonCounts
from bridge.persons.photos.preparation import PreparedPhoto
from bridge.persons.ports import PersonTransaction

BATCH = 100
"""Entries that are read, changed and written in one go: a millisecond or two of the event loop, which also serves
presses."""

_NOTHING = PersonCounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAnswer:
    """What became of a change.

    Attributes:
        sn: the terminal.
        person_id: the person; None for everyone.
        revision: the change's.
        status: the terminal's, 0 for success; None where the change could not even be sent.
        message: its text.
        msgid: of the frame it answers.
    """

    sn: str
    person_id: str | None
    revision: int
    status: int | None
    message: str
    msgid: str | None = None

    @property
    def taken(self) -> bool:
        """Whether the terminal has done it."""
        return self.status == 0


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction has changed.

    Attributes:
        counts: by terminal, what is to be added to its counts; every terminal that was touched is in it.
        changed: those of the terminals that are to be sent something else than before.
        words: the last words it put into the outbox.
        last_word_id: the newest id in the outbox, 0 where no words were put in.
        photos_dropped: whether a photo was deleted.
    """

    counts: Mapping[str, PersonCounts]
    changed: Collection[str]
    words: Sequence[FinalReply]
    last_word_id: int
    photos_dropped: bool = False


@dataclass(slots=True)
class _Unwritten:
    put: dict[tuple[str, str | None], PersonEntry] = field(default_factory=dict)
    drop: dict[tuple[str, str | None], PersonEntry] = field(default_factory=dict)
    photos: dict[str, bytes] = field(default_factory=dict)
    words: list[FinalReply] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.put) + len(self.drop) + len(self.words)


class Transaction:
    """Collects a transaction's changes, writes them in batches, and keeps the books: counts, photos, last words."""

    def __init__(self, transaction: PersonTransaction, clock: Clock, boot_id: str) -> None:
        self._transaction = transaction
        self._clock = clock
        self._boot_id = boot_id
        self._unwritten = _Unwritten()
        self._first_revision: int | None = None
        self._given_revisions = 0
        self._counts: defaultdict[str, PersonCounts] = defaultdict(PersonCounts)
        self._changed: set[str] = set()
        self._written_photos: set[str] = set()
        self._released_photos: set[str] = set()
        self._words: list[FinalReply] = []

    def now(self) -> datetime:
        """Return the time of what is recorded."""
        return self._clock.now()

    async def next_revisions(self, count: int) -> int:
        """Give out `count` revisions in a row and return the first; 0 returns the one that comes next."""
        if self._first_revision is None:
            # From here on nobody else is given any until this transaction has ended.
            self._first_revision = await self._transaction.next_revisions(0)
        first = self._first_revision + self._given_revisions
        self._given_revisions += count
        return first

    async def entries(self, sn: str, person_ids: Collection[str | None]) -> dict[str | None, PersonEntry]:
        """Return a terminal's entries, the changes of this transaction included."""
        if self._unwritten.length >= BATCH:
            await self._write()
        found = {entry.person_id: entry for entry in await self._transaction.entries(sn, person_ids)}
        # A person of a group is an entry of each member: written one by one they would cost several times as much.
        for person_id in person_ids:
            key = (sn, person_id)
            if key in self._unwritten.put:
                found[person_id] = self._unwritten.put[key]
            elif key in self._unwritten.drop:
                found.pop(person_id, None)
        return found

    async def scan(self, sn: str, before: int) -> AsyncIterator[Sequence[PersonEntry]]:
        """Go through a terminal's entries of revisions below `before`, by revision, in batches."""
        await self._write()
        async for entries in self._transaction.scan(sn, before=before, limit=BATCH):
            yield entries
            await self._write()

    def replace(
        self, before: PersonEntry | None, after: PersonEntry | None, photo: PreparedPhoto | None = None
    ) -> None:
        """Put an entry in another's place; None for none.

        Args:
            before: what is stored, or was put by this transaction.
            after: what is to be stored, of the same terminal and person.
            photo: of the person in `after`, where it may be new to the store.
        """
        for entry in (before, after):
            if entry is not None:
                self._changed.add(entry.sn)
        # Once, however many terminals it is for.
        if photo is not None and photo.sha256 not in self._written_photos:
            self._unwritten.photos[photo.sha256] = photo.jpeg
        self._put(before, after)

    def supersede(self, before: PersonEntry | None, message: str) -> None:
        """Tell whoever asked for `before` and has no last word yet that it was superseded."""
        if before is not None and before.request is not None and before.delivery is DeliveryState.PENDING:
            self._tell(before.sn, before.person_id, before.request, Outcome.SUPERSEDED, message=message)

    def answer(self, entry: PersonEntry, answer: TerminalAnswer) -> None:
        """Keep what the terminal said of `entry`, and tell whoever asked for it."""
        if entry.request is not None:
            self._tell(
                entry.sn,
                entry.person_id,
                entry.request,
                Outcome.OK if answer.taken else Outcome.REFUSED,
                msgid=answer.msgid,
                status=answer.status,
                message=answer.message,
                delivered=answer.msgid is not None,
            )
        if answer.taken and entry.person is None:
            # Nothing is left to be held or to be shown.
            self._put(entry, None)
            return
        settled = replace(
            entry,
            delivery=DeliveryState.CONFIRMED if answer.taken else DeliveryState.REFUSED,
            confirmed_revision=entry.revision if answer.taken else entry.confirmed_revision,
            status=answer.status,
            message=answer.message,
            changed_at=self.now(),
            request=None,
        )
        self._put(entry, settled)

    async def add_sync(self, sync: OpenSync) -> None:
        """Keep a sync until it is finished, which it may be at once; earlier ones of the terminal end with it."""
        self._counts[sync.sn] = added(self._counts[sync.sn])
        await self._transaction.extend_syncs(sync.sn, sync.revision)
        await self._transaction.add_sync(sync)

    async def forget(self, sn: str, message: str) -> None:
        """Drop a terminal's syncs."""
        syncs = await self._transaction.syncs([sn])
        for sync in syncs:
            self._tell(sn, None, sync.request, Outcome.SUPERSEDED, message=message)
        await self._transaction.drop_syncs([sync.id for sync in syncs])

    async def finish(self) -> Committed:
        """Write what is left; nothing may be changed after."""
        await self._write()
        await self._end_syncs()
        await self._write()
        photos_dropped = await self._transaction.drop_unused_photos(self._released_photos)
        if self._given_revisions:
            await self._transaction.next_revisions(self._given_revisions)
        return Committed(
            counts=self._counts,
            changed=self._changed,
            words=self._words,
            last_word_id=await self._transaction.last_word_id() if self._words else 0,
            photos_dropped=photos_dropped,
        )

    def _put(self, before: PersonEntry | None, after: PersonEntry | None) -> None:
        changed = after or before
        if changed is None:
            return
        key = (changed.sn, changed.person_id)
        self._unwritten.put.pop(key, None)
        self._unwritten.drop.pop(key, None)
        (self._unwritten.drop if after is None else self._unwritten.put)[key] = changed
        if before is not None and before.person is not None:
            kept = after.person if after is not None else None
            if kept is None or kept.photo != before.person.photo:
                self._released_photos.add(before.person.photo)
        gained = after.counts if after is not None else _NOTHING
        lost = before.counts if before is not None else _NOTHING
        self._counts[changed.sn] = added(self._counts[changed.sn], gained, lost)

    async def _end_syncs(self) -> None:
        ended: list[int] = []
        first_pending: dict[str, int | None] = {}
        for sync in await self._transaction.syncs(self._counts):
            if sync.sn not in first_pending:
                first_pending[sync.sn] = await self._transaction.first_pending(sync.sn)
            first = first_pending[sync.sn]
            if first is None or first > sync.revision:
                self._tell(sync.sn, None, sync.request, Outcome.OK)
                ended.append(sync.id)
        await self._transaction.drop_syncs(ended)

    async def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, _Unwritten()
        await self._transaction.add_photos(unwritten.photos)
        self._written_photos |= unwritten.photos.keys()
        await self._transaction.put(list(unwritten.put.values()))
        await self._transaction.drop(list(unwritten.drop.values()))
        await self._transaction.tell(unwritten.words)

    def _tell(self, sn: str, person_id: str | None, asked: RequestContext, outcome: Outcome, **details: Any) -> None:
        same_boot = asked.boot_id == self._boot_id
        reply = Reply(
            command=asked.command,
            request_id=asked.request_id,
            sn=sn,
            person_id=person_id,
            outcome=outcome,
            at=self.now(),
            duration_ms=(self._clock.boottime() - asked.received_at) * 1000 if same_boot else None,
            **details,
        )
        word = FinalReply(reply=reply, origin=asked.origin)
        self._unwritten.words.append(word)
        self._words.append(word)


def added(counts: PersonCounts, gained: PersonCounts = _NOTHING, lost: PersonCounts = _NOTHING) -> PersonCounts:
    """Return `counts` with one entry's share added and another's taken away."""
    return PersonCounts(
        desired=counts.desired + gained.desired - lost.desired,
        confirmed=counts.confirmed + gained.confirmed - lost.confirmed,
        pending=counts.pending + gained.pending - lost.pending,
        refused=counts.refused + gained.refused - lost.refused,
    )
