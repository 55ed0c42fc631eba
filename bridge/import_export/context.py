"""What imports, copies and removals work with: the transactions, and the requester of the changes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Protocol

from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.model.origin import Origin
from bridge.model.person_entry import RequestContext
from bridge.model.reply import Outcome
from bridge.persons.transaction_runner import TransactionRunner
from bridge.persons.transactions import PersonTransaction
from bridge.store.database import Database

_PAUSE_SECONDS = 0.15
"""Pause between two transactions: longer than a bridge that waits for SQLite's lock sleeps between attempts (0.1)."""

ROWS_PER_TRANSACTION = 1000
"""Rows that one transaction changes: some 100 ms, for which the bridge's own transactions may have to wait."""


@dataclass(frozen=True, slots=True)
class TransferTarget:
    """The terminals or the group that persons are moved to or from.

    Attributes:
        sns: the terminals; of a group its members.
        group: the group whose persons are meant; None for single terminals.
    """

    sns: Sequence[str]
    group: str | None = None

    @property
    def places(self) -> int:
        """The number of places that hold each person."""
        return len(self.sns) + (self.group is not None)


class Progress(Protocol):
    """A function that shows the progress of a job."""

    def __call__(self, what: str, done: int, part: float) -> None:
        """Show the progress.

        Args:
            what: what is being done.
            done: the number of persons that are done.
            part: the part of the job that is done, from 0 to 1.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferContext:
    """The environment of imports, copies and removals.

    Attributes:
        transactions: changes persons, as another program than the bridge.
        timezone: of times without an offset.
        origin: the requester.
        bridge_running: whether a bridge runs on the store; its transactions must get their turn.
    """

    transactions: TransactionRunner
    timezone: tzinfo
    origin: Origin
    bridge_running: bool

    @property
    def database(self) -> Database:
        """The store."""
        return self.transactions.context.database

    async def let_bridge_write(self) -> None:
        """Pause between two transactions, so that a running bridge gets the writer's lock."""
        if self.bridge_running:
            await asyncio.sleep(_PAUSE_SECONDS)

    def members(self, transaction: PersonTransaction, target: TransferTarget) -> Sequence[str]:
        """Return the terminals of a target in a transaction.

        A terminal may have joined or left the group since the command has begun. A bridge that runs has stored it.
        Without a bridge, the groups of the configuration count: the next bridge compares them with the stored ones.
        """
        if target.group is None or not self.bridge_running:
            return target.sns
        return transaction.kept.members(target.group)

    def request(self, command: str) -> RequestContext:
        """Return what is stored of a command that is requested now, until its final reply."""
        return RequestContext(
            command=command,
            request_id=None,
            origin=self.origin,
            received_at=self.transactions.context.clock.boottime(),
            boot_id=self.transactions.context.boot_id,
        )

    def publish_accepted(self, request: RequestContext, sn: str, person_ids: Sequence[str]) -> None:
        """Publish, for the audit, that changes of a terminal's persons are stored."""
        context = self.transactions.context
        dispatcher = ReplyDispatcher(context.events, context.clock)
        replies = ReplyBuilder(request.command, None, sn, request.received_at, context.clock)
        for person_id in person_ids:
            dispatcher.publish(replies.reply(Outcome.ACCEPTED, person_id=person_id, message="stored"), self.origin)
