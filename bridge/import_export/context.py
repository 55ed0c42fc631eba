"""What imports, copies and removals work with: the transactions, and the requester of the changes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from time import perf_counter
from typing import Protocol, TypeVar

from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.model.origin import Origin
from bridge.model.person_entry import RequestContext
from bridge.model.reply import Outcome
from bridge.persons.earlier_jobs import Need, finish_earlier_jobs
from bridge.persons.transaction_runner import TransactionRunner
from bridge.persons.transactions import PersonTransaction
from bridge.store.database import Database

_T = TypeVar("_T")

_PAUSE_SECONDS = 0.15
"""Pause between two transactions: longer than a bridge that waits for SQLite's lock sleeps between attempts (0.1)."""

ROWS_PER_TRANSACTION = 1000
"""Rows that are read together, and that one step of an import or a copy changes in a few transactions."""

PERSONS_PER_TRANSACTION = 50
"""Persons that one transaction changes on one terminal: with their photos some five megabytes, and some 50 ms, for
which the bridge's own transactions may have to wait."""

_SECONDS = 0.05
"""Time after which a transaction changes no further terminals."""

_ROWS = 50
"""Rows that are read together, between two looks at the clock: some 10 ms."""


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

    def batch_size(self, target: TransferTarget) -> int:
        """Return how many persons one step changes in all places of a target."""
        return max(min(ROWS_PER_TRANSACTION // max(target.places, 1), PERSONS_PER_TRANSACTION), 1)

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

    async def on_terminals(
        self, target: TransferTarget, person_ids: Sequence[str], change: Callable[[PersonTransaction, str], _T]
    ) -> dict[str, _T]:
        """Change persons on each terminal of a target, in transactions that end after some time.

        Args:
            target: the target.
            person_ids: the persons that `change` looks at.
            change: changes them on one terminal.

        Returns:
            The results by terminal.

        Raises:
            UnavailableError: the store is full, locked or unreachable; what was changed before stays.
        """
        results: dict[str, _T] = {}
        after: str | None = ""
        while after is not None:
            found, after = await self.transactions.run(
                partial(self._on_some, target=target, person_ids=person_ids, change=change, after=after)
            )
            results |= found
            await self.let_bridge_write()
        return results

    def _on_some(
        self,
        transaction: PersonTransaction,
        *,
        target: TransferTarget,
        person_ids: Sequence[str],
        change: Callable[[PersonTransaction, str], _T],
        after: str,
    ) -> tuple[dict[str, _T], str | None]:
        """Change persons on the next terminals; return the results, and the last terminal if there are more."""
        until = perf_counter() + _SECONDS
        sns = sorted(sn for sn in self.members(transaction, target) if sn > after)
        step = max(_ROWS // max(len(person_ids), 1), 1)
        results: dict[str, _T] = {}
        for start in range(0, len(sns), step):
            some = sns[start : start + step]
            if len(person_ids) <= _ROWS:
                transaction.read_ahead(some, person_ids)
            results |= {sn: change(transaction, sn) for sn in some}
            if perf_counter() >= until and start + step < len(sns):
                return results, some[-1]
        return results, None

    async def change_kept(self, group: str, person_ids: Sequence[str], change: Callable[[PersonTransaction], _T]) -> _T:
        """Change persons that a group keeps; terminals that are joining it get them before, in short transactions.

        Raises:
            UnavailableError: the store is full, locked or unreachable; the group was not changed.
        """
        pause = _PAUSE_SECONDS if self.bridge_running else 0.0
        joins = await finish_earlier_jobs(self.transactions, [Need(joining=group, kept_ids=person_ids)], pause)

        def change_now(transaction: PersonTransaction) -> _T:
            transaction.finished_joins = joins
            return change(transaction)

        return await self.transactions.run(change_now)

    def request(self, command: str) -> RequestContext:
        """Return what is stored of a command that is requested now, until its final reply."""
        return RequestContext(
            command=command,
            request_id=None,
            origin=self.origin,
            received_at=self.transactions.context.clock.boottime(),
            boot_id=self.transactions.context.boot_id,
        )

    def publish_changed_in_group(
        self, request: RequestContext, target: TransferTarget, person_ids: Sequence[str]
    ) -> None:
        """Publish, for the audit, that a group without members keeps other persons. Members have own records."""
        if target.group is None or target.sns:
            return
        context = self.transactions.context
        dispatcher = ReplyDispatcher(context.events, context.clock)
        replies = ReplyBuilder(request.command, None, None, request.received_at, context.clock)
        for person_id in person_ids:
            reply = replies.reply(Outcome.ACCEPTED, person_id=person_id, message="the group has no members")
            dispatcher.publish_group_change(reply, target.group, self.origin)

    def publish_accepted(self, request: RequestContext, sn: str, person_ids: Sequence[str]) -> None:
        """Publish, for the audit, that changes of a terminal's persons are stored."""
        context = self.transactions.context
        dispatcher = ReplyDispatcher(context.events, context.clock)
        replies = ReplyBuilder(request.command, None, sn, request.received_at, context.clock)
        for person_id in person_ids:
            dispatcher.publish(replies.reply(Outcome.ACCEPTED, person_id=person_id, message="stored"), self.origin)
