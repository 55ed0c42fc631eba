"""A transaction on entries: reads them, collects their changes, and writes these in batches.

It knows no jobs: `bridge.persons.transactions.PersonTransaction` applies these.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from bridge.core.clock import Clock
from bridge.model.person_entry import (
    DeliveryState,
    FinalReply,
    OpenSync,
    PersonEntry,
    PersonJob,
    RequestContext,
)
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts
from bridge.persons.effects import NO_PERSONS, added
from bridge.persons.message_log import MessageLog
from bridge.persons.preparation import PreparedPhoto
from bridge.store import person_queries as queries
from bridge.store.person_names import PersonName
from bridge.store.photos import PhotoCipher, add_photos

BATCH = 100
"""Entries that are read, changed and written together: few enough for the memory, enough to share the cost."""

MAX_REPORTED_ENTRIES = 200
"""Changed entries that a transaction reports; the delivery reads the others from the store."""

MAX_SYNCS = 20
"""Syncs of a terminal that wait for their end: each change of the terminal reads them, and each sync extends them."""

SUPERSEDED = "a later change took its place"
"""The message of the final reply `superseded`."""


@dataclass(slots=True)
class _Unwritten:
    put: dict[tuple[str, str | None], PersonEntry] = field(default_factory=dict)
    drop: dict[tuple[str, str | None], PersonEntry] = field(default_factory=dict)
    names: set[PersonName] = field(default_factory=set)
    photos: dict[str, bytes] = field(default_factory=dict)
    final_replies: list[FinalReply] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.put) + len(self.drop) + len(self.final_replies)


class EntryTransaction:
    """Collects changes of entries, writes them in batches, and derives counts, photos and final replies.

    Attributes:
        messages: the stored messages.
    """

    def __init__(self, connection: Connection, cipher: PhotoCipher, clock: Clock, boot_id: str) -> None:
        self._connection = connection
        self._cipher = cipher
        self._clock = clock
        self._boot_id = boot_id
        self._unwritten = _Unwritten()
        self._state = queries.store_state(connection)
        self._may_have_syncs = self._state.has_syncs
        self._reserved_revisions = 0
        self._counts: defaultdict[str, PersonCounts] = defaultdict(PersonCounts)
        self._changed: set[str] = set()
        self._changed_entries: defaultdict[str, dict[str | None, PersonEntry | None]] = defaultdict(dict)
        self._reported_entries = 0
        # Terminals with pending changes that `_changed_entries` lacks.
        self._unreported: set[str] = set()
        self._written_photos: set[str] = set()
        # The part of the written photos that the store did not have, or only damaged.
        self._new_photos: set[str] = set()
        self._released_photos: set[str] = set()
        self._released_names: set[PersonName] = set()
        self._final_replies: list[FinalReply] = []
        self._last_final_reply_id = 0
        # What is stored, with None for no entry.
        self._read_ahead: dict[tuple[str, str | None], PersonEntry | None] = {}
        self.messages = MessageLog(connection, clock.now)

    def now(self) -> datetime:
        """Return the time for what is recorded."""
        return self._clock.now()

    def boottime(self) -> float:
        """Return the seconds since the start of the machine."""
        return self._clock.boottime()

    def next_revisions(self, count: int) -> int:
        """Reserve `count` consecutive revisions and return the first; 0 returns the one that comes next."""
        # No other transaction reserves any before this one has ended.
        first = self._state.next_revision + self._reserved_revisions
        self._reserved_revisions += count
        return first

    def read_ahead(self, sns: Collection[str], person_ids: Collection[str]) -> None:
        """Read the entries of these persons on many terminals in one query, for the calls of `entries` that follow.

        A query for each terminal takes as long as the writing of 20 entries.
        """
        self._write()
        self._read_ahead = {(sn, person_id): None for sn in sns for person_id in person_ids}
        for entry in queries.entries_on(self._connection, sns, person_ids):
            assert entry.person_id is not None
            self._read_ahead[entry.sn, entry.person_id] = entry

    def replace(
        self, before: PersonEntry | None, after: PersonEntry | None, photo: PreparedPhoto | None = None
    ) -> None:
        """Replace an entry by another; None stands for no entry.

        Args:
            before: the entry that is stored, or that this transaction put there.
            after: the new entry, of the same terminal and person.
            photo: of the person in `after`, if the store may not have it.
        """
        for entry in (before, after):
            if entry is not None:
                self._changed.add(entry.sn)
        self._add_photo(photo)
        self._put(before, after)

    def grant(self, entry: PersonEntry, access: tuple[str, ...]) -> None:
        """Change the scopes through which a terminal holds a person; nothing is sent."""
        self._put(entry, replace(entry, access=access))

    def supersede(self, before: PersonEntry | None, message: str = SUPERSEDED) -> None:
        """Send the final reply `superseded` for `before`, if its request still waits for one."""
        if before is not None and before.request is not None and before.delivery is DeliveryState.PENDING:
            self._reply(before.sn, before.person_id, before.request, Outcome.SUPERSEDED, message=message)

    def add_sync(self, sync: OpenSync) -> None:
        """Store a sync until it is finished, perhaps at once; the terminal's earlier syncs end with it."""
        self._counts[sync.sn] = added(self._counts[sync.sn])
        earlier = queries.syncs(self._connection, [sync.sn])
        for oldest in earlier[: len(earlier) - MAX_SYNCS + 1] if len(earlier) >= MAX_SYNCS else ():
            self._reply(sync.sn, None, oldest.request, Outcome.SUPERSEDED, message=SUPERSEDED)
            queries.drop_syncs(self._connection, [oldest.id])
        queries.extend_syncs(self._connection, sync.sn, sync.revision)
        queries.add_sync(self._connection, sync)
        self._may_have_syncs = True

    def drop_syncs(self, sn: str, message: str) -> None:
        """Delete a terminal's syncs, and send their final replies."""
        syncs = queries.syncs(self._connection, [sn])
        for sync in syncs:
            self._reply(sn, None, sync.request, Outcome.SUPERSEDED, message=message)
        queries.drop_syncs(self._connection, [sync.id for sync in syncs])

    def refused_removals(self, sn: str, limit: int) -> list[str | None]:
        """Return the persons (None: everyone) that the terminal has refused to remove, oldest first."""
        self._write()
        return queries.refused_removals(self._connection, sn, limit)

    def drop_below(self, sn: str, revision: int, message: str, limit: int) -> int:
        """Delete up to `limit` entries of lower revisions; requests that wait get the final reply `superseded`.

        Returns:
            The number of deleted entries.
        """
        self._write()
        dropped = queries.entries_below(self._connection, sn, revision, limit)
        for entry in dropped:
            self._drop(entry, message)
        return len(dropped)

    def send_again(self, job: PersonJob, limit: int) -> int | None:
        """Mark up to `limit` entries of a sync as pending.

        Returns:
            The revision up to which that is done; None if nothing is left.
        """
        self._write()
        self._read_ahead.clear()
        # The number of those that are marked is known later; a gap in the revisions does no harm.
        first = self.next_revisions(limit)
        marked = queries.mark_to_send(self._connection, job, first, limit)
        self._unreported.add(job.sn)
        if marked.marked:
            self._changed.add(job.sn)
            queries.extend_syncs(self._connection, job.sn, first + marked.marked - 1)
        lost = PersonCounts(confirmed=marked.confirmed, refused=marked.refused)
        gained = PersonCounts(pending=marked.confirmed + marked.refused)
        self._counts[job.sn] = added(self._counts[job.sn], gained, lost)
        return marked.next_after

    def _present_entries(self, sn: str, person_ids: Collection[str | None]) -> dict[str | None, PersonEntry]:
        """Return a terminal's entries, including the changes of this transaction."""
        if self._unwritten.length >= BATCH:
            self._write()
        found = self._stored_entries(sn, person_ids)
        # A change of a person for a group is an entry for each member: to write these one by one, before each read,
        # would cost several times as much.
        for person_id in person_ids:
            key = (sn, person_id)
            if key in self._unwritten.put:
                found[person_id] = self._unwritten.put[key]
            elif key in self._unwritten.drop:
                found.pop(person_id, None)
        return found

    def _stored_entries(self, sn: str, person_ids: Collection[str | None]) -> dict[str | None, PersonEntry]:
        keys = [(sn, person_id) for person_id in person_ids]
        if all(key in self._read_ahead for key in keys):
            ahead = (self._read_ahead[key] for key in keys)
            return {entry.person_id: entry for entry in ahead if entry is not None}
        return {entry.person_id: entry for entry in queries.entries(self._connection, sn, person_ids)}

    def _drop(self, entry: PersonEntry, message: str) -> None:
        self.supersede(entry, message)
        self.replace(entry, None)

    def _add_photo(self, photo: PreparedPhoto | None) -> None:
        # One photo may be for many terminals.
        if photo is not None and photo.sha256 not in self._written_photos:
            self._unwritten.photos[photo.sha256] = photo.jpeg

    def _put(self, before: PersonEntry | None, after: PersonEntry | None) -> None:
        changed = after or before
        if changed is None:
            return
        key = (changed.sn, changed.person_id)
        self._unwritten.put.pop(key, None)
        self._unwritten.drop.pop(key, None)
        (self._unwritten.drop if after is None else self._unwritten.put)[key] = changed
        self._reported_entries += 1
        if self._reported_entries <= MAX_REPORTED_ENTRIES:
            self._changed_entries[changed.sn][changed.person_id] = after
        else:
            self._unreported.add(changed.sn)
        if before is not None and before.person is not None:
            person = after.person if after is not None else None
            if person is None or person.photo != before.person.photo:
                self._released_photos.add(before.person.photo)
        name_before = None if before is None else queries.name_of(before)
        name_after = None if after is None else queries.name_of(after)
        if name_before != name_after:
            if name_before is not None:
                self._released_names.add(name_before)
            if name_after is not None:
                self._unwritten.names.add(name_after)
        gained = after.counts if after is not None else NO_PERSONS
        lost = before.counts if before is not None else NO_PERSONS
        self._counts[changed.sn] = added(self._counts[changed.sn], gained, lost)

    def _write(self) -> None:
        """Write what is collected."""
        unwritten, self._unwritten = self._unwritten, _Unwritten()
        self._new_photos.update(add_photos(self._connection, self._cipher, unwritten.photos))
        self._written_photos |= unwritten.photos.keys()
        for key, entry in unwritten.put.items():
            if key in self._read_ahead:
                self._read_ahead[key] = entry
        for key in unwritten.drop:
            if key in self._read_ahead:
                self._read_ahead[key] = None
        queries.put_entries(self._connection, list(unwritten.put.values()), unwritten.names)
        queries.drop_entries(self._connection, list(unwritten.drop.values()))
        self._last_final_reply_id = (
            queries.add_final_replies(self._connection, unwritten.final_replies) or self._last_final_reply_id
        )

    def _reply(self, sn: str, person_id: str | None, request: RequestContext, outcome: Outcome, **details: Any) -> None:
        is_same_boot = request.boot_id == self._boot_id
        if request.note is not None:
            details["message"] = ": ".join(part for part in (request.note, details.get("message")) if part)
        reply = Reply(
            command=request.command,
            request_id=request.request_id,
            sn=sn,
            person_id=person_id,
            outcome=outcome,
            at=self.now(),
            duration_ms=(self._clock.boottime() - request.received_at) * 1000 if is_same_boot else None,
            **details,
        )
        if request.message_id is not None:
            self.messages.note_final_reply(request.message_id, reply)
        final_reply = FinalReply(reply=reply, origin=request.origin)
        self._unwritten.final_replies.append(final_reply)
        self._final_replies.append(final_reply)
