"""The persons of all terminals: accepted changes are stored and delivered; none is lost (docs/promises.md)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

import orjson
from sqlalchemy import Connection

from bridge.core.ports import PersonCommand
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyBuilder
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import RemovePersons, SetPersons, SyncPersons
from bridge.model.faults import Fault, UnavailableError
from bridge.model.person_entry import PersonEntry, RequestContext
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts
from bridge.persons import changes
from bridge.persons.batches import PersonJobs, RefusedRemovals
from bridge.persons.delivery.manager import DeliveryManager
from bridge.persons.delivery.worker import DEFAULT_TIMES, DeliveryTimes
from bridge.persons.fifo_gate import FifoGate
from bridge.persons.maintenance import ExpiryJob, ExternalChangesJob, MessageExpiryJob, PhotoGarbageCollector
from bridge.persons.outbox import Outbox
from bridge.persons.preparation import PhotoPreparer, Preparation, PreparedPerson, unprepared
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.persons.transactions import BATCH, PersonTransaction
from bridge.store import person_queries as queries
from bridge.store import received_messages
from bridge.store.errors import CommitUnknownError

_NOT_ASSURED = "stored; it came with QoS 0, which the broker may drop on the way: publish persons with QoS 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonOptions:
    """Settings of the persons' service.

    Attributes:
        timezone: of persons' times without an offset: the bridge's own.
        times: how long to wait for terminals and store.
        remove_expired_days: days after `valid_until` at which a person is removed everywhere; None for never.
    """

    timezone: tzinfo
    times: DeliveryTimes = DEFAULT_TIMES
    remove_expired_days: int | None = None


@dataclass(slots=True)
class _Applied:
    """What a transaction has applied.

    Attributes:
        replies: to each command.
        message_ids: the messages that it has stored, with their ids.
    """

    replies: list[list[Reply]] = field(default_factory=list)
    message_ids: list[tuple[ReceivedMessage, int]] = field(default_factory=list)


class PersonService:
    """Stores person changes and delivers them to their terminals."""

    def __init__(
        self,
        registry: TerminalRegistry,
        transactions: TransactionRunner,
        photos: PhotoPreparer,
        options: PersonOptions,
        new_msgid: Callable[[], str],
        random: Callable[[], float],
    ) -> None:
        """Build the service; it starts with `start`.

        Args:
            registry: the terminals.
            transactions: changes persons in the store; not loaded yet.
            photos: prepares photos.
            options: settings.
            new_msgid: returns an id that was never used before.
            random: returns a number from 0 up to 1, for the jitter of repeats.
        """
        self._transactions = transactions
        self._database = transactions.context.database
        self._preparation = Preparation(photos, options.timezone)
        self._order = FifoGate()
        self._outbox = Outbox(self._database)
        transactions.listen(self._outbox.committed)
        self._garbage_collector = PhotoGarbageCollector(self._database)
        transactions.listen(self._garbage_collector.committed)
        self._jobs = PersonJobs(transactions)
        transactions.listen(self._jobs.committed)
        self._refused_removals = RefusedRemovals(transactions, registry)
        self._delivery = DeliveryManager(registry, transactions, options.times, new_msgid, random)
        days = options.remove_expired_days
        self._expiry = None if days is None else ExpiryJob(transactions, days)
        self._tasks = BackgroundTasks()

    @property
    def outbox(self) -> Outbox:
        """The final replies that wait for the broker."""
        return self._outbox

    @property
    def delivery(self) -> DeliveryManager:
        """The delivery to the terminals."""
        return self._delivery

    async def start(self) -> None:
        """Load what an earlier process left, and continue with it. Raises UnavailableError."""
        await self._transactions.load()
        await self._outbox.load()
        self._delivery.start()
        self._tasks.start(self._jobs.run(), name="syncs and removals of everyone")
        self._tasks.start(self._refused_removals.run(), name="refused removals")
        self._tasks.start(ExternalChangesJob(self._transactions).run(), name="external changes of persons")
        self._tasks.start(MessageExpiryJob(self._transactions.context).run(), name="expiry of received messages")
        self._tasks.start(self._garbage_collector.run(), name="erasure of photos")
        if self._expiry is not None:
            self._tasks.start(self._expiry.run(), name="removal of expired persons")

    async def stop(self) -> None:
        """Stop sending, and store the answers that came in; the store may be closed afterwards."""
        await self._tasks.stop()
        await self._delivery.stop()
        await self._transactions.stop()

    async def change(self, commands: Sequence[PersonCommand]) -> Sequence[Sequence[Reply]]:
        """Check the commands, apply them in their order in one transaction, and return once it is committed.

        For each terminal, calls take effect in the order in which they were made; their photos are prepared at the same
        time. A call whose photo takes long holds up only later calls for the same terminals.

        Returns:
            For each command its replies, one per terminal and person: `accepted`, `invalid` (that person stays as it
            was) or `unavailable` (nothing of any command was changed, except after a COMMIT that failed).
        """
        context = self._transactions.context

        def apply(transaction: PersonTransaction) -> _Applied:
            applied = _Applied()
            for command, persons in zip(commands, prepared, strict=True):
                applied.replies.append(_apply_once(transaction, context, command, persons, applied))
            return applied

        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self._prepare(commands))
            async with self._order.reserve(sn for command in commands for sn in command.sns):
                prepared, failure = await preparing
                stored = None if failure is not None else self._transactions.run(apply)
        try:
            if stored is not None:
                return (await stored).replies
        except CommitUnknownError as error:
            applied, _ = error.result
            for message, message_id in applied.message_ids:
                message.possible_ids.append(message_id)
            failure = error
        except UnavailableError as error:
            failure = error
        return [
            _unavailable(context, command, persons, str(failure))
            for command, persons in zip(commands, prepared, strict=True)
        ]

    async def _prepare(
        self, commands: Sequence[PersonCommand]
    ) -> tuple[Sequence[Sequence[PreparedPerson]], UnavailableError | None]:
        """Prepare the persons of each command; if pictures cannot be converted now, return them unprepared."""
        try:
            return await self._preparation.prepare([command.change for command in commands]), None
        except UnavailableError as error:
            return [unprepared(command.change) for command in commands], error

    async def forget_deliveries(self) -> None:
        """Forget the packet ids of received messages: the broker has begun a new session. Raises UnavailableError."""
        await self._database.write(received_messages.forget_deliveries)

    async def persons(self, sn: str, person_id: str | None = None) -> Sequence[orjson.Fragment]:
        """Return the persons and unconfirmed removals of a terminal, without photos, as `persons` of a reply.

        Each is encoded already, on a reader's thread: encoding 100,000 persons at once takes longer than a press.

        Raises:
            UnavailableError: the store cannot be read.
        """
        if person_id is not None:
            return await self._database.read(_encoded_entry, sn, person_id)
        # The removal of everyone comes first, as it does on the way to the terminal.
        persons = await self._database.read(_encoded_entry, sn, None)
        after: str | None = ""
        while after is not None:
            page, after = await self._database.read(_encoded_page, sn, after)
            persons += page
        return persons

    def counts(self, sn: str) -> PersonCounts:
        """Return the counts of a terminal; all zero for one without persons."""
        return self._transactions.counts(sn)

    async def forget(self, sn: str) -> None:
        """Delete everything that is stored for a terminal. Raises UnavailableError."""
        async with self._order.reserve([sn]):
            forgotten = self._transactions.run(lambda transaction: changes.forget(transaction, sn))
        await forgotten


def _apply_once(
    transaction: PersonTransaction,
    context: PersonContext,
    command: PersonCommand,
    persons: Sequence[PreparedPerson],
    applied: _Applied,
) -> list[Reply]:
    """Apply a command, unless its message was applied before; return the replies."""
    message = command.message
    if message is None:
        return _apply(transaction, context, command, persons, None)
    known = transaction.messages.replies_to(message)
    if known is not None:
        # After a COMMIT whose answer was lost, the message has not arrived again: it has no reply yet.
        is_repeated = not message.possible_ids
        return [replace(reply, is_repeated=is_repeated) for reply in known if reply.sn in command.sns]
    message_id = transaction.next_revisions(1)
    replies = _apply(transaction, context, command, persons, message_id)
    transaction.messages.add(message_id, message, replies)
    applied.message_ids.append((message, message_id))
    return replies


def _apply(
    transaction: PersonTransaction,
    context: PersonContext,
    command: PersonCommand,
    persons: Sequence[PreparedPerson],
    message_id: int | None,
) -> list[Reply]:
    change = command.change
    request = RequestContext(
        command=command.name,
        request_id=change.request_id,
        origin=command.reply_origin,
        received_at=command.received_at,
        boot_id=context.boot_id,
        message_id=message_id,
    )
    message = "stored" if command.origin.assured else _NOT_ASSURED
    replies: list[Reply] = []
    for sn in command.sns:
        builder = _reply_builder(command, sn, context)
        invalid: Mapping[int, Sequence[Fault]] = {}
        if isinstance(change, SetPersons):
            results = changes.set_persons(transaction, sn, persons, request)
            invalid = {number: result.faults for number, result in enumerate(results) if result.faults}
        elif isinstance(change, SyncPersons):
            changes.sync(transaction, sn, request, clear=change.clear)
        elif change.ids is None:
            changes.remove_everyone(transaction, sn, request)
        else:
            changes.remove_persons(transaction, sn, change.ids, request)
        replies += [
            builder.invalid(invalid[number], person_id=person_id)
            if number in invalid
            else builder.reply(Outcome.ACCEPTED, person_id=person_id, message=message)
            for number, person_id in enumerate(_person_ids(command, persons))
        ]
    return replies


def _unavailable(
    context: PersonContext, command: PersonCommand, persons: Sequence[PreparedPerson], message: str
) -> list[Reply]:
    return [
        _reply_builder(command, sn, context).unavailable(message, person_id=person_id, delivered=False)
        for sn in command.sns
        for person_id in _person_ids(command, persons)
    ]


def _person_ids(command: PersonCommand, persons: Sequence[PreparedPerson]) -> Sequence[str | None]:
    """Return the persons that a command names; None stands for everyone."""
    change = command.change
    if isinstance(change, SetPersons):
        return [person.person_id for person in persons]
    if isinstance(change, RemovePersons) and change.ids is not None:
        return tuple(dict.fromkeys(change.ids))
    return (None,)


def _reply_builder(command: PersonCommand, sn: str, context: PersonContext) -> ReplyBuilder:
    return ReplyBuilder(command.name, command.change.request_id, sn, command.received_at, context.clock)


def _encoded_entry(connection: Connection, sn: str, person_id: str | None) -> list[orjson.Fragment]:
    entry = queries.entry(connection, sn, person_id)
    return [] if entry is None else [_encoded(entry)]


def _encoded_page(connection: Connection, sn: str, after: str) -> tuple[list[orjson.Fragment], str | None]:
    """Return the persons after that id, and the id after which the next page begins; None if there is none."""
    entries = queries.page(connection, sn, after, BATCH)
    return [_encoded(entry) for entry in entries], entries[-1].person_id if entries else None


def _encoded(entry: PersonEntry) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(entry.as_json()))
