"""Background jobs of the persons' service: expiry, changes by other programs, and the erasure of deleted photos."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from bridge.core.clock import sleep_ticks
from bridge.core.commands import REMOVE_PERSONS
from bridge.core.replies import ReplyDispatcher
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.person import Person
from bridge.model.person_entry import RequestContext
from bridge.model.reply import Outcome
from bridge.persons import changes
from bridge.persons.clock_trust import ClockTrust, kernel_clock_is_synchronised
from bridge.persons.earlier_jobs import Need, finish_earlier_jobs
from bridge.persons.effects import Committed
from bridge.persons.entry_transaction import BATCH
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.persons.transactions import PersonTransaction
from bridge.store import group_queries, received_messages
from bridge.store import person_queries as queries
from bridge.store.database import Database
from bridge.store.file_changes import FileChanges

_LOGGER = logging.getLogger(__name__)

_EXPIRY_SECONDS = 3600.0
"""Interval of the search for expired persons; `persons.remove_expired` counts days."""

_EXTERNAL_CHANGES_TICKS = 5
"""Interval of the search for other programs' changes (`TICK_SECONDS`): short for the user who waits."""

_RETRY_SECONDS = 5.0
"""Pause after which a store that failed is tried again."""

_ERASURE_SECONDS = 30.0
"""Time for which deletions are collected: erasing them costs a write of all recent changes."""

_MAX_DATED_MESSAGES = 100_000
"""Received messages with `asked_at` that are remembered: some 50 MB. The oldest are forgotten first."""

_BATCH_PAUSE_SECONDS = 0.05
"""Pause between two batches of deletions, for changes and for other programs."""

_ORIGIN = Origin(source="persons.remove_expired")


class ExpiryJob:
    """Removes persons from every terminal and group some days after their `valid_until` (`persons.remove_expired`)."""

    def __init__(
        self,
        transactions: TransactionRunner,
        days: int,
        is_clock_synchronised: Callable[[], bool] = kernel_clock_is_synchronised,
    ) -> None:
        """Store the dependencies.

        Args:
            transactions: changes persons.
            days: how long a person is kept after `valid_until`.
            is_clock_synchronised: returns whether a time server sets the clock.
        """
        self._clock_trust = ClockTrust(transactions.context.clock, is_clock_synchronised)
        self._transactions = transactions
        self._context = transactions.context
        self._replies = ReplyDispatcher(self._context.events, self._context.clock)
        self._kept = timedelta(days=days)

    async def run(self) -> None:
        """Remove expired persons now and every hour, until cancelled."""
        while True:
            try:
                await self.remove_expired()
            except UnavailableError as error:
                _LOGGER.warning("expired persons cannot be removed now: %s", error)
            await asyncio.sleep(_EXPIRY_SECONDS)

    async def remove_expired(self) -> None:
        """Remove the persons that have expired by now, unless the clock has jumped. Raises UnavailableError."""
        now = self._clock_trust.now(await self._context.database.read(queries.last_trusted_time))
        if now is None:
            return
        await self._context.database.write(queries.put_trusted_time, now)
        while True:
            before = now - self._kept
            found: defaultdict[str, list[str]] = defaultdict(list)
            # Groups come first: a terminal that joins meanwhile must not get these persons.
            for group, person_id in await self._context.database.read(group_queries.kept_expired, before, BATCH):
                found[group].append(person_id)
            if found:
                for group, person_ids in found.items():
                    await self.remove_from_group(group, person_ids)
                continue
            for sn, person_id in await self._context.database.read(queries.expired, before, BATCH // 2):
                found[sn].append(person_id)
            if not found:
                return
            for sn, person_ids in found.items():
                await self.remove(sn, person_ids)

    async def remove_from_group(self, group: str, person_ids: Sequence[str]) -> None:
        """Remove those of a group's persons that have expired by now; its members are separate.

        A member may hold the person with a later time, which was set on the terminal.

        Raises:
            UnavailableError: the store cannot be written to.
        """
        # Terminals that are joining get these persons before, in short transactions.
        joins = await finish_earlier_jobs(self._transactions, [Need(joining=group, kept_ids=person_ids)])
        work = partial(_remove_expired_from_group, group=group, person_ids=person_ids, kept=self._kept, joins=joins)
        removed = await self._transactions.run(work)
        command = self._replies.builder(REMOVE_PERSONS.name, None, None)
        for person_id in removed:
            reply = command.reply(Outcome.ACCEPTED, person_id=person_id, message="their time is over")
            self._replies.publish_group_change(reply, group, _ORIGIN)
        if removed:
            _LOGGER.info("group %s keeps %d persons less: their time is over", group, len(removed))

    async def remove(self, sn: str, person_ids: Sequence[str]) -> None:
        """Remove those of a terminal's persons that have expired by now. Raises UnavailableError."""
        command = self._replies.builder(REMOVE_PERSONS.name, None, sn)
        work = partial(_remove_expired, sn=sn, person_ids=person_ids, kept=self._kept, request=self._request())
        for person_id in await self._transactions.run(work):
            reply = command.reply(Outcome.ACCEPTED, person_id=person_id, message="their time is over")
            self._replies.publish(reply, _ORIGIN)

    def _request(self) -> RequestContext:
        return RequestContext(
            command=REMOVE_PERSONS.name,
            request_id=None,
            origin=_ORIGIN,
            received_at=self._context.clock.boottime(),
            boot_id=self._context.boot_id,
        )


class ExternalChangesJob:
    """Notices what another program (`facebridge persons …`) changed in the store of this bridge."""

    def __init__(self, transactions: TransactionRunner) -> None:
        self._transactions = transactions
        self._files = FileChanges(transactions.context.database.file)

    async def run(self) -> None:
        """Take the changes whenever there are some, until cancelled."""
        while True:
            try:
                if self._files.may_have_changed():
                    await self._take()
                await sleep_ticks(_EXTERNAL_CHANGES_TICKS)
            except UnavailableError as error:
                # The changes are still there.
                self._files.forget()
                _LOGGER.warning("changes of persons by other programs cannot be read now: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _take(self) -> None:
        while await self._transactions.context.database.read(queries.external_changes):
            await self._transactions.take_external_changes()


class MessageExpiryJob:
    """Deletes received messages with `asked_at` that no equal message is compared with any more."""

    def __init__(self, context: PersonContext, keep: int = _MAX_DATED_MESSAGES) -> None:
        self._context = context
        self._keep = keep

    async def run(self) -> None:
        """Delete them now and every hour, until cancelled."""
        while True:
            try:
                await self.drop_expired()
            except UnavailableError as error:
                _LOGGER.warning("expired messages cannot be deleted now: %s", error)
            await asyncio.sleep(_EXPIRY_SECONDS)

    async def drop_expired(self) -> None:
        """Delete the messages that have expired by now, in batches. Raises UnavailableError."""
        database, now = self._context.database, self._context.clock.now()
        while ids := await database.read(received_messages.superfluous_messages, now, self._keep, BATCH):
            await database.write(received_messages.drop_messages, ids)
            await asyncio.sleep(_BATCH_PAUSE_SECONDS)


class PhotoGarbageCollector:
    """Erases deleted photos from the disk: they must not be readable any more."""

    def __init__(self, database: Database, delay_seconds: float = _ERASURE_SECONDS) -> None:
        self._database = database
        self._delay_seconds = delay_seconds
        self._dropped = asyncio.Event()

    def committed(self, committed: Committed) -> None:
        """Note whether a transaction deleted photos."""
        if committed.photos_dropped:
            self._dropped.set()

    async def run(self) -> None:
        """Erase until cancelled."""
        while True:
            await self._dropped.wait()
            await asyncio.sleep(self._delay_seconds)
            self._dropped.clear()
            try:
                done = await self._database.checkpoint()
            except UnavailableError as error:
                _LOGGER.warning("deleted photos cannot be erased now, trying again: %s", error)
                done = False
            if not done:
                self._dropped.set()


def _remove_expired(
    transaction: PersonTransaction, *, sn: str, person_ids: Sequence[str], kept: timedelta, request: RequestContext
) -> list[str]:
    before = transaction.now() - kept
    entries = transaction.entries(sn, person_ids)
    # The time of a person may have been extended meanwhile.
    expired = [
        person_id
        for person_id in person_ids
        if (entry := entries.get(person_id)) is not None and _is_over(entry.person, before)
    ]
    changes.remove_persons(transaction, sn, expired, request)
    return expired


def _remove_expired_from_group(
    transaction: PersonTransaction,
    *,
    group: str,
    person_ids: Sequence[str],
    kept: timedelta,
    joins: frozenset[int],
) -> list[str]:
    transaction.finished_joins = joins
    before = transaction.now() - kept
    persons = transaction.kept.persons(group, person_ids).values()
    expired = [one.person.id for one in persons if _is_over(one.person, before)]
    return changes.remove_kept_persons(transaction, group, expired)


def _is_over(person: Person | None, before: datetime) -> bool:
    expires_at = None if person is None else person.expires_at
    return expires_at is not None and expires_at < before
