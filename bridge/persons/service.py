"""The persons of all terminals: accepted changes are stored and delivered; none is lost (docs/promises.md)."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import partial

import orjson
from sqlalchemy import Connection

from bridge.core.ports import PersonCommand
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyBuilder
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import RemovePersons, SetPersons, SyncPersons
from bridge.model.events import StorePartDamaged
from bridge.model.faults import Fault, UnavailableError
from bridge.model.person_entry import MembershipJob, PersonEntry, RequestContext
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome, Reply, SharedReplies
from bridge.model.terminal import PersonCounts
from bridge.persons import batches, changes
from bridge.persons.batches import PersonJobs, RefusedRemovals
from bridge.persons.damage import accepts_changes
from bridge.persons.delivery.manager import DeliveryManager
from bridge.persons.delivery.worker import DEFAULT_TIMES, DeliveryTimes
from bridge.persons.earlier_jobs import Need, finish_earlier_jobs, needs
from bridge.persons.entry_transaction import BATCH
from bridge.persons.fifo_gate import FifoGate
from bridge.persons.maintenance import ExpiryJob, ExternalChangesJob, MessageExpiryJob, PhotoGarbageCollector
from bridge.persons.member_checks import MemberResults, MemberStates, dependent_ids, read_states
from bridge.persons.membership import describe_memberships
from bridge.persons.outbox import Outbox
from bridge.persons.portions import Part, portions
from bridge.persons.preparation import PhotoPreparer, Preparation, PreparedPerson, unprepared
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.persons.transactions import DIRECT_ROWS, PersonTransaction
from bridge.store import group_queries, received_messages
from bridge.store import person_queries as queries
from bridge.store.errors import CommitUnknownError, DamagedPartError

_LOGGER = logging.getLogger(__name__)

_NOT_ASSURED = "stored; it came with QoS 0, which the broker may drop on the way: publish persons with QoS 1"

_ONLY_GROUP = "the group has no members"
"""The message of an accepted change that reaches no terminal."""

_FOLLOWED_TERMINALS = 25
"""Terminals in one transaction that compares their groups: each takes some 2 ms on a busy machine."""


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


@dataclass(frozen=True, slots=True)
class _Answer:
    """The replies to a part of a command, and whether they are the last known ones to a message that came again."""

    shared: Sequence[SharedReplies]
    is_repeated: bool = False

    def replies(self, sns: Collection[str]) -> list[Reply]:
        """Return the replies of these terminals."""
        known = frozenset(sns)
        found = [reply for shared in self.shared for reply in shared.each(known)]
        return [replace(reply, is_repeated=True) for reply in found] if self.is_repeated else found


@dataclass(slots=True)
class _Applied:
    """The effects of a transaction.

    Attributes:
        answers: to each part.
        message_ids: the messages that it has stored, with their ids.
    """

    answers: list[_Answer] = field(default_factory=list)
    message_ids: list[tuple[ReceivedMessage, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A portion that waits for the writer, or is applied."""

    portion: Sequence[Part]
    applied: "asyncio.Future[_Applied]"


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
        self._registry = registry
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
        await self._follow_all_groups()
        self._delivery.start()
        self._tasks.start(self._jobs.run(), name="syncs, removals of everyone, memberships")
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

    async def change(
        self,
        commands: Sequence[PersonCommand],
        publish: Callable[[PersonCommand, Sequence[Reply]], None] | None = None,
    ) -> Sequence[Sequence[Reply]]:
        """Check the commands, apply them in their order, and return once they are committed.

        Many commands, and commands with many persons, are applied in portions, each in a transaction of its own. If one
        fails, those after it are not applied.

        For each terminal, calls take effect in the order in which they were made; their photos are prepared at the same
        time. A call whose photo takes long holds up only later calls for the same terminals.

        Args:
            commands: the commands.
            publish: called directly after each commit with a command and the replies to what was stored of it, before
                any final reply can be published.

        Returns:
            For each command its replies, one per terminal and person: `accepted`, `invalid` (that person stays as it
            was) or `unavailable` (that person stays as it was, except after a COMMIT that failed).
        """
        found: list[list[Reply]] = [[] for _ in commands]

        def note(part: Part, replies: Sequence[Reply]) -> None:
            found[part.index] += replies
            if publish is not None:
                publish(commands[part.index], replies)

        last: _Submitted | None = None
        with self._order.place(place for command in commands for place in _places(command)) as place:
            prepared, failure = await self._prepare(commands)
            await place.wait()
            for portion in portions(commands, prepared):
                if last is not None:
                    failure = await self._end(last, note, None)
                    last = None
                if failure is None:
                    last = await self._submit(portion)
                else:
                    self._note_unavailable(portion, failure, note)
        if last is not None:
            # Later calls may already submit theirs.
            await self._end(last, note, self._order)
        return found

    async def _submit(self, portion: Sequence[Part]) -> "_Submitted":
        """Apply what a portion depends on, and let the writer apply the portion."""
        context = self._transactions.context
        try:
            wanted = [need for part in portion for need in needs(part.command, part.persons)]
            finished_joins = await self._finish_earlier_jobs(wanted)
            states = [await self._member_states(part) for part in portion]
        except UnavailableError as error:
            failed: asyncio.Future[_Applied] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return _Submitted(portion, failed)

        def apply(transaction: PersonTransaction) -> _Applied:
            applied = _Applied()
            transaction.finished_joins = finished_joins
            for part, known in zip(portion, states, strict=True):
                applied.answers.append(_apply_once(transaction, context, part, known, applied))
            return applied

        return _Submitted(portion, self._transactions.run(apply))

    async def _member_states(self, part: Part) -> MemberStates | None:
        """Read what decides whether a set is valid on many members; None if its transaction reads little."""
        command = part.command
        if not isinstance(command.change, SetPersons) or command.group is None or part.rows <= DIRECT_ROWS:
            return None
        ids = dependent_ids(part.persons)
        return await read_states(self._database, command.sns, ids) if ids else None

    async def _end(
        self, submitted: "_Submitted", note: Callable[[Part, Sequence[Reply]], None], order: "FifoGate | None"
    ) -> UnavailableError | None:
        """Wait for the transaction of a portion, and note the replies; return why it failed.

        Args:
            submitted: the portion.
            note: gets the replies to each part.
            order: in which the parts take new places if they must be tried again one by one; None: they have theirs.
        """
        portion = submitted.portion
        try:
            applied = await submitted.applied
        except CommitUnknownError as error:
            unknown, _ = error.result
            for message, message_id in unknown.message_ids:
                message.possible_ids.append(message_id)
            self._note_unavailable(portion, error, note)
            return error
        except DamagedPartError as error:
            return await self._apply_despite_damage(portion, error, note, order)
        except UnavailableError as error:
            self._note_unavailable(portion, error, note)
            return error
        for message, message_id in applied.message_ids:
            if message.part_number is not None:
                # If a later part fails, the message is tried again.
                message.possible_ids.append(message_id)
        for photo in (person.photo for part in portion for person in part.persons):
            if photo is not None:
                self._delivery.remember_photo(photo.sha256, photo.jpeg)
        for part, answer in zip(portion, applied.answers, strict=True):
            note(part, answer.replies(part.command.sns))
        return None

    def _note_unavailable(
        self, portion: Sequence[Part], error: UnavailableError, note: Callable[[Part, Sequence[Reply]], None]
    ) -> None:
        for part in portion:
            note(part, _unavailable(self._transactions.context, part.command, part.persons, str(error)))

    async def _apply_despite_damage(
        self,
        portion: Sequence[Part],
        error: DamagedPartError,
        note: Callable[[Part, Sequence[Reply]], None],
        order: "FifoGate | None",
    ) -> UnavailableError | None:
        """Apply parts one by one, and refuse those that need a damaged part of the store.

        Another attempt would fail in the same way, and hold up all changes behind it. If the store accepts no change
        at all, none is refused: they wait for the restored store.
        """
        context = self._transactions.context
        context.events.publish(StorePartDamaged(at=context.clock.now()))
        if len(portion) > 1:
            failure: UnavailableError | None = None
            for part in portion:
                if failure is not None:
                    self._note_unavailable([part], failure, note)
                    continue
                async with order.reserve(_places(part.command)) if order is not None else nullcontext():
                    failure = await self._end(await self._submit([part]), note, None)
            return failure
        (part,) = portion
        command = part.command
        if not await accepts_changes(context):
            self._note_unavailable(portion, error, note)
            return error
        _LOGGER.error("%s for %s is refused: %s", command.name, ", ".join(_places(command)), error)
        fault = Fault("", f"{error}, then send this change again")
        replies = [
            builder.invalid([fault], person_id=person_id, group=group)
            for builder, person_id, group in _addressees(context, command, part.persons)
        ]
        note(part, replies)
        return None

    async def _finish_earlier_jobs(self, wanted: Sequence[Need]) -> frozenset[int]:
        """Apply the jobs that commands depend on; return the joins that this includes."""
        if self._jobs.is_idle or not wanted:
            return frozenset()
        try:
            return await finish_earlier_jobs(self._transactions, wanted)
        except DamagedPartError:
            # The transaction of the commands meets the damage, too.
            return frozenset()

    async def _prepare(
        self, commands: Sequence[PersonCommand]
    ) -> tuple[Sequence[Sequence[PreparedPerson]], UnavailableError | None]:
        """Prepare the persons of each command; if pictures cannot be converted now, return them unprepared."""
        try:
            return await self._preparation.prepare([command.change for command in commands]), None
        except UnavailableError as error:
            return [unprepared(command.change) for command in commands], error

    def must_wait(self, command: PersonCommand) -> bool:
        """Return whether `change` would wait, because another change of one of the terminals is in progress."""
        return self._order.is_reserved(_places(command))

    async def forget_deliveries(self) -> None:
        """Forget the packet ids of received messages: the broker has begun a new session. Raises UnavailableError."""
        while await self._database.write(received_messages.forget_deliveries):
            # Other changes come in between.
            continue

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

    def group_size(self, group: str) -> int:
        """Return the number of persons that a group keeps."""
        return self._transactions.group_sizes.get(group, 0)

    def group_sizes(self) -> Mapping[str, int]:
        """Return the number of persons of each group that keeps any."""
        return self._transactions.group_sizes

    async def follow_groups(self, *sns: str) -> None:
        """Let the persons of known terminals follow their present groups.

        Raises:
            UnavailableError: the store cannot be changed; call it again.
        """
        for start in range(0, len(sns), _FOLLOWED_TERMINALS):
            some = sns[start : start + _FOLLOWED_TERMINALS]
            async with self._order.reserve(some):
                known = (self._registry.get(sn) for sn in some)
                memberships = {one.terminal.sn: one.terminal.memberships for one in known if one is not None}
                followed = self._transactions.run(partial(batches.follow_groups, memberships=memberships))
            for job in await followed:
                _LOGGER.info("persons follow a change of groups: %s", describe_memberships([job]), extra={"sn": job.sn})

    async def _follow_all_groups(self) -> None:
        """Compare the groups of all terminals with the stored ones: the configuration may have changed."""
        stored = await self._database.read(group_queries.memberships)
        # A terminal that is not known any more has left its groups: it must not keep persons that they remove later.
        current: dict[str, Collection[str]] = dict.fromkeys(stored, ())
        current |= {known.terminal.sn: known.terminal.memberships for known in self._registry}
        changed = {sn: groups for sn, groups in current.items() if stored.get(sn, set()) != set(groups)}
        jobs: list[MembershipJob] = []
        order = list(changed)
        for start in range(0, len(order), _FOLLOWED_TERMINALS):
            memberships = {sn: changed[sn] for sn in order[start : start + _FOLLOWED_TERMINALS]}
            jobs += await self._transactions.run(partial(batches.follow_groups, memberships=memberships))
        if jobs:
            _LOGGER.info("persons follow changes of groups since the last start: %s", describe_memberships(jobs))
        sizes = self._transactions.group_sizes
        if not stored and not sizes and any(self.counts(known.terminal.sn).desired for known in self._registry):
            _LOGGER.info(
                "groups keep no persons yet: what terminals hold was set on each terminal. To let a group keep persons "
                "for terminals that join it later, use `facebridge persons import --group` or `persons copy --to-group`"
            )
        members = {group for groups in current.values() for group in groups}
        for group in sorted(sizes.keys() - members):
            persons = f"{sizes[group]:,} person{'' if sizes[group] == 1 else 's'}"
            _LOGGER.warning("group %s keeps %s and has no members", group, persons)

    async def forget(self, sn: str) -> None:
        """Delete everything that is stored for a terminal. Raises UnavailableError."""
        async with self._order.reserve([sn]):
            await self._finish_earlier_jobs([Need(sns=[sn], person_ids=None)])
            forgotten = self._transactions.run(lambda transaction: changes.forget(transaction, sn))
        await forgotten


def _apply_once(
    transaction: PersonTransaction,
    context: PersonContext,
    part: Part,
    states: MemberStates | None,
    applied: _Applied,
) -> _Answer:
    """Apply a part of a command, unless its message was applied before; return the replies."""
    message = part.command.message
    if message is None:
        return _Answer(_apply(transaction, context, part, states, None))
    known = transaction.messages.replies_to(message)
    if known is not None:
        # After a COMMIT whose answer was lost, the message has not arrived again: it has no reply yet.
        return _Answer(known, is_repeated=not message.possible_ids)
    message_id = transaction.next_revisions(1)
    replies = _apply(transaction, context, part, states, message_id)
    transaction.messages.add(message_id, message, replies)
    applied.message_ids.append((message, message_id))
    return _Answer(replies)


def _apply(
    transaction: PersonTransaction,
    context: PersonContext,
    part: Part,
    states: MemberStates | None,
    message_id: int | None,
) -> Sequence[SharedReplies]:
    command, persons = part.command, part.persons
    change = command.change
    request = RequestContext(
        command=command.name,
        request_id=change.request_id,
        origin=command.reply_origin,
        received_at=command.received_at,
        boot_id=context.boot_id,
        message_id=message_id,
    )
    group = command.group
    results: Sequence[MemberResults] = [MemberResults(command.sns, ())]
    if isinstance(change, SetPersons):
        if group is not None:
            results = changes.set_group_persons(transaction, group, command.sns, persons, request, states)
        else:
            results = [
                MemberResults([sn], changes.set_persons(transaction, sn, persons, request)) for sn in command.sns
            ]
    elif isinstance(change, SyncPersons):
        changes.sync(transaction, command.sns, group, request, clear=change.clear)
    elif change.ids is None:
        changes.remove_everyone(transaction, command.sns, group, request)
    elif group is not None:
        changes.remove_group_persons(transaction, group, command.sns, change.ids, request)
    else:
        for sn in command.sns:
            changes.remove_persons(transaction, sn, change.ids, request)
    if not command.sns:
        return [_shared_replies(context, command, persons, MemberResults((None,), ()), _ONLY_GROUP)]
    message = "stored" if command.origin.assured else _NOT_ASSURED
    return [_shared_replies(context, command, persons, one, message) for one in results]


def _shared_replies(
    context: PersonContext,
    command: PersonCommand,
    persons: Sequence[PreparedPerson],
    results: MemberResults,
    message: str,
) -> SharedReplies:
    builder = _reply_builder(command, results.sns[0], context)
    invalid = {number: result.faults for number, result in enumerate(results.results) if result.faults}
    replies = [
        builder.invalid(invalid[number], person_id=person_id)
        if number in invalid
        else builder.reply(Outcome.ACCEPTED, person_id=person_id, message=message)
        for number, person_id in enumerate(_person_ids(command, persons))
    ]
    return SharedReplies(sns=tuple(results.sns), replies=replies)


def _unavailable(
    context: PersonContext, command: PersonCommand, persons: Sequence[PreparedPerson], message: str
) -> list[Reply]:
    return [
        builder.unavailable(message, person_id=person_id, group=group, delivered=False)
        for builder, person_id, group in _addressees(context, command, persons)
    ]


def _addressees(
    context: PersonContext, command: PersonCommand, persons: Sequence[PreparedPerson]
) -> Iterator[tuple[ReplyBuilder, str | None, str | None]]:
    """Yield builder, person and group of each reply to a command that failed.

    A removal from a group without members fails too, and must not look as if it had been stored.
    """
    for sn in command.sns or (None,):
        group = command.group if sn is None else None
        for person_id in _person_ids(command, persons):
            yield _reply_builder(command, sn, context), person_id, group


def _places(command: PersonCommand) -> list[str]:
    """Return the keys of the order of a command's changes: its terminals, and the group whose persons it changes."""
    # The SN of a terminal has no space.
    return [*command.sns, *([] if command.group is None else [f"group {command.group}"])]


def _person_ids(command: PersonCommand, persons: Sequence[PreparedPerson]) -> Sequence[str | None]:
    """Return the persons that a command names; None stands for everyone."""
    change = command.change
    if isinstance(change, SetPersons):
        return [person.person_id for person in persons]
    if isinstance(change, RemovePersons) and change.ids is not None:
        return tuple(dict.fromkeys(change.ids))
    return (None,)


def _reply_builder(command: PersonCommand, sn: str | None, context: PersonContext) -> ReplyBuilder:
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
