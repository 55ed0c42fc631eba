"""What every transfer works with: the store, the transactions, and in whose name it asks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.import_export.ports import TransferStore
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.person_entry import RequestContext
from bridge.persons.transaction_runner import TransactionRunner

_PAUSE = 0.15
"""Seconds between two transactions: longer than a bridge that waits for SQLite's lock sleeps between tries (0.1)."""

ROWS_AT_ONCE = 1000
"""Rows that one transaction changes: some 100 ms, for which the bridge's own may have to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferContext:
    """Where the transfers are worked on.

    Attributes:
        store: of the persons.
        commits: changes them, beside a bridge.
        events: told of what was changed.
        clock: the time.
        boot_id: what `read_boot_id` returns.
        timezone: of times without an offset.
        origin: who asks.
        has_company: whether a bridge runs on the store, whose transactions are to come in between.
    """

    store: TransferStore
    commits: TransactionRunner
    events: EventBus
    clock: Clock
    boot_id: str
    timezone: tzinfo
    origin: Origin
    bridge_running: bool

    async def give_way(self) -> None:
        """Let a running bridge's transaction come in between two."""
        if self.bridge_running:
            await asyncio.sleep(_PAUSE)

    def asked(self, command: str, sn: str) -> ReplyBuilder:
        """Note that a command for a terminal is asked now."""
        return ReplyBuilder(command, None, sn, self.clock.boottime(), self.clock)

    def kept(self, asked: ReplyBuilder) -> RequestContext:
        """Return what is kept of a command until its last word."""
        return RequestContext(
            command=asked.command,
            request_id=None,
            origin=self.origin,
            received_at=asked.since,
            boot_id=self.boot_id,
        )

    def tell_accepted(self, asked: ReplyBuilder, person_ids: Sequence[str]) -> None:
        """Tell, and write down, that changes are stored."""
        dispatcher = ReplyDispatcher(self.events, self.clock)
        for person_id in person_ids:
            dispatcher.publish(asked.reply(Outcome.ACCEPTED, person_id=person_id, message="stored"), self.origin)
