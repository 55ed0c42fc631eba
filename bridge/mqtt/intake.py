"""The commands of the intake connection, which must not get lost: carried out in order of arrival (promise 2).

A message is acknowledged after its change is stored, or after a reply says why it is not. Until then the broker keeps
the message. When the connection breaks, the intake drops its unfinished messages, and the broker sends them again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from random import Random

from bridge.core.admission import Admission
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import PersonCommand
from bridge.model.commands import Admit, Command, Forget, GetPersons, RemovePersons, SetPersons, SyncPersons
from bridge.model.faults import Fault, UnavailableError, shorten
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import GroupSummary, Outcome, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import CommandContext, CommandReader, PayloadRules, RetriedOrigin, message_digest
from bridge.mqtt.topics import Scope

_LOGGER = logging.getLogger(__name__)

_BYTES_BESIDE_A_PHOTO = 2 * 1024 * 1024
"""A list of `MAXIMUM_PERSONS` persons without photos fits in."""

_BATCH_MESSAGES = 100
_BATCH_BYTES = 64 * 1024 * 1024
"""The most that is stored in one transaction: enough to share a commit's cost, and little enough not to delay others
for long."""

_MAX_QUEUED_MESSAGES = 10_000
_MAX_QUEUED_BYTES = 256 * 1024 * 1024
"""The bounds of the queue for QoS 0. For QoS 1 the broker's inflight window is the bound."""

_LARGE_BYTES = 64 * 1024
"""Parsing a payload from this size on takes 0.1 ms or more: the event loop handles presses before the next one."""

_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 10.0
"""The pauses between attempts while the store is unavailable: short after a hiccup, light during an outage."""

_ATTEMPTS_AFTER_AN_EXCEPTION = 3
"""Attempts at a message that raises an unexpected exception, before it is rejected to let others pass."""


def intake_rules(max_photo_bytes: int) -> PayloadRules:
    """Return the accepted payload sizes for `photos.max_bytes`."""
    return PayloadRules(
        # Base64 makes four characters of three bytes.
        max_bytes=max_photo_bytes * 4 // 3 + _BYTES_BESIDE_A_PHOTO,
        advice="send a list in parts, and photos smaller",
    )


@dataclass(slots=True)
class _QueuedMessage:
    """A message and its progress.

    Attributes:
        message: the message.
        context: its addressee and origin.
        payload_bytes: the size of its payload as received.
        connection: the number of the broker connection that it arrived on.
        is_read: whether `command` is valid.
        command: its command; None if it is invalid and the reply has said so.
        received: how to recognise it, if it is a person change.
        done: whether only its acknowledgement is left to do.
        failures: how often it raised an unexpected exception.
    """

    message: Message
    context: CommandContext
    payload_bytes: int
    connection: int
    is_read: bool = False
    command: Command | None = None
    received: ReceivedMessage | None = None
    done: bool = False
    failures: int = 0

    @property
    def can_be_batched(self) -> bool:
        """Whether it can share a transaction: a person change, or an invalid command."""
        return self.command is None or isinstance(self.command, SetPersons | RemovePersons | SyncPersons)

    @property
    def person_command(self) -> PersonCommand:
        """Its person change."""
        assert isinstance(self.command, SetPersons | RemovePersons | SyncPersons)
        address = self.context.address
        is_group = address.scope is Scope.GROUP
        return PersonCommand(
            change=self.command,
            origin=self.context.origin,
            sn=None if is_group else address.name,
            group=address.name if is_group else None,
            message=self.received,
        )


class Intake:
    """Carries out person changes, admissions and the like, one after the other."""

    def __init__(
        self,
        reader: CommandReader,
        persons: PersonCommands,
        admission: Admission,
        acknowledge: Callable[[Message], None],
        wait_for_publishing: Callable[[], Awaitable[None]],
        random: Random,
    ) -> None:
        """Build the intake.

        Args:
            reader: reads the messages.
            persons: carries out person commands.
            admission: carries out `admit` and `forget`.
            acknowledge: acknowledges a message to the broker.
            wait_for_publishing: waits, for a limited time, until replies can be published.
            random: spreads attempts.
        """
        self._reader = reader
        self._persons = persons
        self._admission = admission
        self._acknowledge = acknowledge
        self._wait_for_publishing = wait_for_publishing
        self._random = random
        self._queue: deque[_QueuedMessage] = deque()
        self._queued_bytes = 0
        self._has_arrived = asyncio.Event()
        self._connection_broke = asyncio.Event()
        self._connection = 0
        self._has_new_session = False
        self._failed_rounds = 0

    @property
    def waiting(self) -> int:
        """The number of messages that have arrived and are not being handled yet."""
        return len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """The size of their payloads."""
        return self._queued_bytes

    def received(self, message: Message) -> None:
        """Queue a message of the intake connection for `run`."""
        context = self._reader.context(message)
        if context is None:
            self._acknowledge(message)
            return
        size = len(message.payload)
        is_full = len(self._queue) >= _MAX_QUEUED_MESSAGES or self._queued_bytes + size > _MAX_QUEUED_BYTES
        if is_full and message.qos == 0:
            self._reader.reply_unavailable(context, "too many messages wait already: send it again later, with QoS 1")
            return
        if size > self._reader.rules.max_bytes:
            message = replace(message, payload=b"")
        self._queue.append(_QueuedMessage(message, context, size, self._connection))
        self._queued_bytes += len(message.payload)
        self._has_arrived.set()

    async def session_began(self) -> None:
        """Forget the packet ids of the broker's earlier session. Call it before subscribing: nothing has arrived then.

        If the store is unavailable, `run` does it before it handles a message.
        """
        self._has_new_session = True
        await self._forget_deliveries()

    def disconnected(self) -> None:
        """Drop the messages that the broker will send again. It does not send QoS 0 again, so those stay."""
        self._connection += 1
        self._connection_broke.set()
        self._put_back([])

    async def run(self) -> None:
        """Handle messages until cancelled; unfinished ones then stay with the broker.

        A message that cannot be accepted now is tried again together with those that have arrived since, so that
        each sender gets a reply.
        """
        while True:
            if not self._queue:
                self._has_arrived.clear()
                await self._has_arrived.wait()
            await self._wait_for_publishing()
            self._connection_broke.clear()
            batch = self._next_batch()
            unfinished = await self._handle(batch) if await self._forget_deliveries() else batch
            if unfinished:
                self._put_back(unfinished)
                await self._pause()
                self._failed_rounds += 1
            else:
                self._failed_rounds = 0

    async def _forget_deliveries(self) -> bool:
        if self._has_new_session:
            try:
                await self._persons.forget_deliveries()
            except UnavailableError as error:
                _LOGGER.warning("person changes of the broker's new session cannot be accepted yet: %s", error)
                return False
            self._has_new_session = False
        return True

    def _next_batch(self) -> list[_QueuedMessage]:
        batch: list[_QueuedMessage] = []
        size = 0
        while self._queue and len(batch) < _BATCH_MESSAGES:
            size += len(self._queue[0].message.payload)
            if batch and size > _BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
            self._queued_bytes -= len(batch[-1].message.payload)
        return batch

    async def _handle(self, batch: Sequence[_QueuedMessage]) -> Sequence[_QueuedMessage]:
        """Handle a batch: consecutive person changes together, every other command alone.

        Returns:
            The first message that must be tried again, and all behind it.
        """
        for queued in batch:
            if not queued.is_read:
                await self._read(queued)
        finished = 0
        for group in _groups(batch):
            if not await self._finish([queued for queued in group if not self._is_redelivered(queued)]):
                return batch[finished:]
            finished += len(group)
        return []

    def _put_back(self, unfinished: Sequence[_QueuedMessage]) -> None:
        self._queue = deque(one for one in (*unfinished, *self._queue) if not self._is_redelivered(one))
        self._queued_bytes = sum(len(queued.message.payload) for queued in self._queue)

    def _is_redelivered(self, queued: _QueuedMessage) -> bool:
        """Return whether the broker has sent, or will send, the same message on a later connection."""
        return queued.message.qos > 0 and queued.connection != self._connection

    async def _read(self, queued: _QueuedMessage) -> None:
        queued.command = self._reader.read(queued.message, queued.context, queued.payload_bytes)
        queued.is_read = True
        if isinstance(queued.command, SetPersons | RemovePersons | SyncPersons):
            message = queued.message
            queued.received = ReceivedMessage(
                digest=message_digest(message),
                packet_id=message.mid if message.qos > 0 else None,
                is_redelivered=message.dup and message.session_present,
                is_dated=queued.command.asked_at is not None,
            )
        if queued.payload_bytes >= _LARGE_BYTES:
            await asyncio.sleep(0)

    async def _finish(self, group: Sequence[_QueuedMessage]) -> bool:
        """Carry out what is left of these and acknowledge all; return False if some must be tried again."""
        left = [queued for queued in group if queued.command is not None and not queued.done]
        if left and not await self._carry_out(left):
            return False
        for queued in group:
            self._acknowledge(queued.message)
        return True

    async def _carry_out(self, left: Sequence[_QueuedMessage]) -> bool:
        try:
            unavailable = await self._attempt(left)
        except Exception:
            _LOGGER.exception("handling %s failed", _describe(left))
            if len(left) > 1:
                # One of them raised it: separate the others from it.
                return await self._carry_out_one_by_one(left)
            unavailable = [self._may_retry_after_exception(left[0])]
        for queued, is_unavailable in zip(left, unavailable, strict=True):
            queued.done = queued.message.qos == 0 or not is_unavailable
        to_retry = [queued for queued in left if not queued.done]
        if to_retry and self._failed_rounds == 0:
            _LOGGER.warning("cannot accept %s now; trying again until it is possible", _describe(to_retry))
        return not to_retry

    async def _carry_out_one_by_one(self, left: Sequence[_QueuedMessage]) -> bool:
        for queued in left:
            if not await self._carry_out([queued]):
                return False
        return True

    async def _attempt(self, left: Sequence[_QueuedMessage]) -> Sequence[bool]:
        """Try once; return for each message whether it must be tried again."""
        for queued in left:
            assert isinstance(queued.context.origin, RetriedOrigin)
            queued.context.origin.published.start_attempt()
        command, origin = left[0].command, left[0].context.origin
        if isinstance(command, Admit):
            results: Sequence[Sequence[Reply] | GroupSummary] = [[await self._admission.admit(command, origin)]]
        elif isinstance(command, Forget):
            results = [[await self._admission.forget(command, origin)]]
        elif isinstance(command, GetPersons):
            # It changes nothing, so nothing is lost without a second attempt.
            await self._persons.get(left[0].context.address.name, command, origin)
            return [False]
        else:
            results = await self._persons.change([queued.person_command for queued in left])
        return [_is_unavailable(result) for result in results]

    def _may_retry_after_exception(self, queued: _QueuedMessage) -> bool:
        """Return whether to retry a message that raised an unexpected exception; if not, reply `invalid`.

        It is tried a few times, because the cause may pass. Then it is rejected: if it stayed, it would hold up all
        changes behind it. The reply is `invalid`, because `unavailable` promises that the change is still accepted.
        """
        queued.failures += 1
        if queued.failures < _ATTEMPTS_AFTER_AN_EXCEPTION:
            return True
        fault = Fault("", "the bridge failed on this command and gave it up: look into its log")
        request_id = queued.command.request_id if queued.command is not None else None
        self._reader.reply_invalid(queued.context, [fault], request_id)
        return False

    async def _pause(self) -> None:
        """Wait before the next attempt, or until the broker connection breaks, which drops most messages anyway."""
        longest = min(_FIRST_PAUSE_SECONDS * 2 ** min(self._failed_rounds, 10), _MAX_PAUSE_SECONDS)
        try:
            async with asyncio.timeout(longest * self._random.uniform(0.5, 1)):
                await self._connection_broke.wait()
        except TimeoutError:
            return


def _groups(batch: Sequence[_QueuedMessage]) -> Iterator[Sequence[_QueuedMessage]]:
    for can_be_batched, group in groupby(batch, key=lambda queued: queued.can_be_batched):
        if can_be_batched:
            yield list(group)
        else:
            yield from ([queued] for queued in group)


def _is_unavailable(result: Sequence[Reply] | GroupSummary) -> bool:
    if isinstance(result, GroupSummary):
        return Outcome.UNAVAILABLE in result.outcomes
    return any(reply.outcome is Outcome.UNAVAILABLE for reply in result)


def _describe(left: Sequence[_QueuedMessage]) -> str:
    address = left[0].context.address
    first = f"{address.definition.name} for {shorten(address.name) or 'the bridge'}"
    return first if len(left) == 1 else f"{first} and {len(left) - 1} more"
