"""The commands of the intake connection, which must not get lost (promise 2, docs/promises.md).

A message is acknowledged after its change is stored, or after a reply says why it is not. Until then the broker keeps
the message. When the connection breaks, the intake drops its unfinished messages, and the broker sends them again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random

from bridge.core.admission import Admission
from bridge.core.person_commands import PersonCommands
from bridge.model.commands import Admit, Command, DatedCommand, Forget, GetPersons
from bridge.model.faults import Fault, UnavailableError, shorten
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import GroupSummary, Outcome, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import CommandReader, PayloadRules, RetriedOrigin, message_digest
from bridge.mqtt.intake_queue import Batch, IntakeQueue, QueuedMessage

_LOGGER = logging.getLogger(__name__)

_BYTES_BESIDE_A_PHOTO = 2 * 1024 * 1024
"""A list of `MAXIMUM_PERSONS` persons without photos fits in."""

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
        advice=f"send a list in parts, and pictures of at most {max_photo_bytes / 1e6:.1f} MB (photos.max_bytes);"
        " base64 makes them a third larger",
    )


class Intake:
    """Carries out person changes, admissions and the like, in order for each terminal."""

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
        self._queue = IntakeQueue(persons)
        self._may_continue = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        self._connection = 0
        self._has_new_session = False
        self._session_attempts = 0

    @property
    def waiting(self) -> int:
        """The number of messages that have arrived and are not being carried out yet."""
        return len(self._queue.waiting)

    @property
    def waiting_bytes(self) -> int:
        """The size of their payloads."""
        return sum(len(queued.message.payload) for queued in self._queue.waiting)

    def received(self, message: Message) -> None:
        """Queue a message of the intake connection for `run`."""
        context = self._reader.context(message)
        if context is None:
            # Not in order, but the subscriptions deliver no such message.
            self._acknowledge(message)
            return
        size = len(message.payload)
        is_full = len(self._queue) >= _MAX_QUEUED_MESSAGES or self._queue.payload_bytes + size > _MAX_QUEUED_BYTES
        if is_full and message.qos == 0:
            self._reader.reply_unavailable(context, "too many messages wait already: send it again later, with QoS 1")
            return
        if size > self._reader.rules.max_bytes:
            message = replace(message, payload=b"")
        if self._queue.has_room_to_read:
            self._may_continue.set()
        self._queue.append(QueuedMessage(message, context, size, self._connection))

    async def session_began(self) -> None:
        """Forget the packet ids of the broker's earlier session. Call it before subscribing: nothing has arrived then.

        If the store is unavailable, or messages of the earlier session are still being carried out, `run` does it
        before it carries out another message.
        """
        self._has_new_session = True
        await self._forget_deliveries()

    def disconnected(self) -> None:
        """Drop the messages that the broker will send again. It does not send QoS 0 again, so those stay."""
        self._connection += 1
        self._queue.drop(self._is_redelivered)
        self._end_pause()

    async def run(self) -> None:
        """Carry out messages until cancelled; unfinished ones then stay with the broker.

        A message that cannot be accepted now is tried again together with those that have arrived since, so that
        each sender gets a reply.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._may_continue.wait()
                    self._may_continue.clear()
                    await self._wait_for_publishing()
                    if not await self._forget_deliveries():
                        continue
                    await self._read()
                    for batch in self._queue.next_batches(may_retry=self._pause is None):
                        tasks.create_task(self._handle(batch), name=f"intake of {_describe(batch.messages)}")
        finally:
            self._end_pause()

    async def _forget_deliveries(self) -> bool:
        """Forget the packet ids of an earlier session, if there are any; return False if that must be tried again."""
        if self._has_new_session:
            if self._queue.is_running:
                # It stores packet ids of the earlier session.
                return False
            try:
                await self._persons.forget_deliveries()
            except UnavailableError as error:
                _LOGGER.warning("person changes of the broker's new session cannot be accepted yet: %s", error)
                self._start_pause(self._session_attempts)
                self._session_attempts += 1
                return False
            self._has_new_session = False
            self._session_attempts = 0
        return True

    async def _read(self) -> None:
        for queued in self._queue.unread():
            if self._is_redelivered(queued):
                continue
            queued.command = self._reader.read(queued.message, queued.context, queued.payload_bytes)
            queued.is_read = True
            if queued.command is None:
                self._queue.done(queued)
            elif not isinstance(queued.command, GetPersons):
                queued.received = _received_message(queued.message, queued.command)
            if queued.payload_bytes >= _LARGE_BYTES:
                await asyncio.sleep(0)
        self._acknowledge_done()

    async def _handle(self, batch: Batch) -> None:
        """Carry out a batch, and acknowledge what is done."""
        try:
            left = [queued for queued in batch.messages if not self._is_redelivered(queued)]
            if left:
                await self._carry_out(left)
        finally:
            self._queue.end(batch)
        self._acknowledge_done()
        self._may_continue.set()

    def _acknowledge_done(self) -> None:
        for queued in self._queue.take_done():
            self._acknowledge(queued.message)

    def _is_redelivered(self, queued: QueuedMessage) -> bool:
        """Return whether the broker has sent, or will send, the same message on a later connection."""
        return queued.message.qos > 0 and queued.connection != self._connection

    async def _carry_out(self, left: Sequence[QueuedMessage]) -> bool:
        """Carry out messages; return False if some must be tried again."""
        try:
            unavailable = await self._attempt(left)
        except Exception:
            _LOGGER.exception("handling %s failed", _describe(left))
            if len(left) > 1:
                # One of them raised it: separate the others from it.
                return await self._carry_out_one_by_one(left)
            unavailable = [self._may_retry_after_exception(left[0])]
        to_retry: list[QueuedMessage] = []
        for queued, is_unavailable in zip(left, unavailable, strict=True):
            if is_unavailable and queued.message.qos > 0:
                to_retry.append(queued)
            else:
                self._queue.done(queued)
        if to_retry:
            attempts = max(queued.attempts for queued in to_retry)
            if attempts == 0:
                _LOGGER.warning("cannot accept %s now; trying again until it is possible", _describe(to_retry))
            self._start_pause(attempts)
            for queued in to_retry:
                queued.attempts += 1
        return not to_retry

    async def _carry_out_one_by_one(self, left: Sequence[QueuedMessage]) -> bool:
        for queued in left:
            if not await self._carry_out([queued]):
                return False
        return True

    async def _attempt(self, left: Sequence[QueuedMessage]) -> Sequence[bool]:
        """Try once; return for each message whether it must be tried again."""
        for queued in left:
            assert isinstance(queued.context.origin, RetriedOrigin)
            queued.context.origin.published.start_attempt()
        command, origin = left[0].command, left[0].context.origin
        if isinstance(command, Admit):
            results: Sequence[Sequence[Reply] | GroupSummary] = [
                [await self._admission.admit(command, origin, left[0].received)]
            ]
        elif isinstance(command, Forget):
            results = [[await self._admission.forget(command, origin, left[0].received)]]
        elif isinstance(command, GetPersons):
            # It changes nothing, so nothing is lost without a second attempt.
            await self._persons.get(left[0].context.address.name, command, origin)
            return [False]
        else:
            results = await self._persons.change([queued.person_command for queued in left])
        return [_is_unavailable(result) for result in results]

    def _may_retry_after_exception(self, queued: QueuedMessage) -> bool:
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

    def _start_pause(self, attempts: int) -> None:
        """Let the messages that could not be accepted wait before the next attempt, which they make together."""
        if self._pause is None:
            longest = min(_FIRST_PAUSE_SECONDS * 2 ** min(attempts, 10), _MAX_PAUSE_SECONDS)
            delay = longest * self._random.uniform(0.5, 1)
            self._pause = asyncio.get_running_loop().call_later(delay, self._end_pause)

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._may_continue.set()


def _received_message(message: Message, command: Command) -> ReceivedMessage:
    if isinstance(command, Admit):
        # `repr` hides password and key. The digest is stored, and would let them be guessed quickly.
        digest = message_digest(replace(message, payload=repr(command).encode()))
    else:
        digest = message_digest(message)
    return ReceivedMessage(
        digest=digest,
        packet_id=message.mid if message.qos > 0 else None,
        is_redelivered=message.dup and message.session_present,
        is_dated=isinstance(command, DatedCommand) and command.asked_at is not None,
    )


def _is_unavailable(result: Sequence[Reply] | GroupSummary) -> bool:
    if isinstance(result, GroupSummary):
        return Outcome.UNAVAILABLE in result.outcomes
    return any(reply.outcome is Outcome.UNAVAILABLE for reply in result)


def _describe(left: Sequence[QueuedMessage]) -> str:
    address = left[0].context.address
    first = f"{address.definition.name} for {shorten(address.name) or 'the bridge'}"
    return first if len(left) == 1 else f"{first} and {len(left) - 1} more"
