"""Removes persons everywhere some days after their time is over (`persons.remove_expired`)."""

import asyncio
import logging
from collections import defaultdict
from datetime import timedelta

from bridge.core.clock import Clock
from bridge.core.commands import REMOVE_PERSONS
from bridge.core.event_bus import EventBus
from bridge.core.replies import ReplyDispatcher
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.person_entry import RequestContext
from bridge.persons import changes
from bridge.persons.ports import PersonStore
from bridge.persons.transaction import BATCH, Transaction
from bridge.persons.transaction_runner import TransactionRunner

_LOGGER = logging.getLogger(__name__)

_INTERVAL = 3600.0
"""Seconds between two looks: days are what is counted, and nobody notices an hour."""

_ORIGIN = Origin(source="persons.remove_expired")


class ExpiryJob:
    """Looks at start and every hour for persons whose time is over."""

    def __init__(
        self, store: PersonStore, commits: TransactionRunner, events: EventBus, clock: Clock, boot_id: str, days: int
    ) -> None:
        """Take the days after `valid_until` that a person is kept; the rest as the roster has it."""
        self._store = store
        self._commits = commits
        self._replies = ReplyDispatcher(events, clock)
        self._clock = clock
        self._boot_id = boot_id
        self._kept = timedelta(days=days)

    async def run(self) -> None:
        """Remove until cancelled."""
        while True:
            try:
                await self.remove_expired()
            except UnavailableError as error:
                _LOGGER.warning("persons whose time is over cannot be removed now: %s", error)
            await asyncio.sleep(_INTERVAL)

    async def remove_expired(self) -> None:
        """Remove those whose time is over by now. Raises UnavailableError."""
        while True:
            before = self._clock.now() - self._kept
            found: defaultdict[str, list[str]] = defaultdict(list)
            for sn, person_id in await self._store.expired(before, BATCH):
                found[sn].append(person_id)
            if not found:
                return
            for sn, person_ids in found.items():
                await self._remove(sn, person_ids)

    async def _remove(self, sn: str, person_ids: list[str]) -> None:
        command = self._replies.builder(REMOVE_PERSONS.name, None, sn)
        asked = RequestContext(
            command=command.command,
            request_id=None,
            origin=_ORIGIN,
            received_at=command.since,
            boot_id=self._boot_id,
        )

        async def work(ledger: Transaction) -> list[str]:
            before = ledger.now() - self._kept
            entries = await ledger.entries(sn, person_ids)
            # Whoever was given more time meanwhile stays.
            over = [
                person_id
                for person_id in person_ids
                if (entry := entries.get(person_id)) is not None
                and entry.person is not None
                and entry.person.expires_at is not None
                and entry.person.expires_at < before
            ]
            await changes.remove_persons(ledger, sn, over, asked)
            return over

        for person_id in await self._commits.run(work):
            reply = command.reply(Outcome.ACCEPTED, person_id=person_id, message="their time is over")
            self._replies.publish(reply, _ORIGIN)
