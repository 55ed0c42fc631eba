"""The intake connection's commands: what must not get lost, taken in the order it arrived (promise 2).

A message is acknowledged only once what it asks for is stored or whoever asked has been told why not. Until then the
broker keeps it: when its connection breaks, what is unfinished here is dropped, and comes again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from random import Random

from bridge.core.admission import Admission
from bridge.core.person_commands import PersonCommand, PersonCommands
from bridge.model.commands import Admit, Command, Forget, GetPersons, RemovePersons, SetPersons, SyncPersons
from bridge.model.faults import Fault, shorten
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import CommandReader, PayloadLimit
from bridge.mqtt.origins import RepeatableOrigin, repeatable_origin_of
from bridge.mqtt.topics import Address, Scope, Topics

_LOGGER = logging.getLogger(__name__)

_ROOM_BESIDE_A_PHOTO = 2 * 1024 * 1024
"""Bytes beside one photo: a list of `MAXIMUM_PERSONS` without photos."""

_BATCH_MESSAGES = 100
_BATCH_BYTES = 64 * 1024 * 1024
"""What is stored together: enough that a commit's cost is shared, little enough that nobody waits long for it."""

_MAXIMUM_WAITING = 10_000
_MAXIMUM_WAITING_BYTES = 256 * 1024 * 1024
"""What may wait here. Of QoS 1 the broker sends no more than its window; QoS 0 knows no such bound."""

_LARGE = 64 * 1024
"""Bytes from which reading a payload takes long enough (0.1 ms and more) to let presses go first."""

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
"""Seconds between attempts while the store cannot take anything: soon after a hiccup, no burden in an outage."""

_ATTEMPTS_AFTER_A_DEFECT = 3
"""How often a message is tried that makes the bridge itself fail, before it makes room for those behind it."""


@dataclass(slots=True)
class _Arrived:
    """A message, and how far it is.

    Attributes:
        message: as it came in.
        size: bytes its payload had.
        connection: the number of the connection to the broker that it came in on.
        read: `understood` says what it asks for; where that is None, whoever asked has been told why.
        done: nothing is left of it but to acknowledge it.
        failures: how often it made the bridge itself fail.
    """

    message: Message
    size: int
    connection: int
    read: bool = False
    understood: "_Understood | None" = None
    done: bool = False
    failures: int = 0

    @property
    def is_change(self) -> bool:
        """Whether it can be taken together with others; so can what was no command."""
        return self.understood is None or isinstance(self.understood.command, SetPersons | RemovePersons | SyncPersons)


@dataclass(slots=True)
class _Understood:
    address: Address
    origin: RepeatableOrigin
    command: Command

    @property
    def asked_change(self) -> PersonCommand:
        assert isinstance(self.command, SetPersons | RemovePersons | SyncPersons)
        if self.address.scope is Scope.GROUP:
            return PersonCommand(change=self.command, origin=self.origin, group=self.address.name)
        return PersonCommand(change=self.command, origin=self.origin, sn=self.address.name)


class Intake:
    """Takes person changes, admissions and their like one after the other."""

    def __init__(
        self,
        topics: Topics,
        gateway: CommandReader,
        persons: PersonCommands,
        admission: Admission,
        acknowledge: Callable[[Message], None],
        wait_to_be_heard: Callable[[], Awaitable[None]],
        random: Random,
        maximum_photo_bytes: int,
    ) -> None:
        """Build the intake.

        Args:
            topics: of the bridge.
            gateway: reads messages.
            persons: takes person commands.
            admission: takes admissions.
            acknowledge: lets the broker drop a message.
            wait_to_be_heard: waits, not for ever, until answers can be published.
            random: spreads attempts.
            maximum_photo_bytes: `photos.max_bytes`, from which follows how large a command may be.
        """
        self._topics = topics
        self._gateway = gateway
        self._persons = persons
        self._admission = admission
        self._acknowledge = acknowledge
        self._wait_to_be_heard = wait_to_be_heard
        self._random = random
        self._limit = PayloadLimit(
            # Base64 makes four characters of three bytes.
            maximum_photo_bytes * 4 // 3 + _ROOM_BESIDE_A_PHOTO,
            "send a list in parts, photos smaller",
        )
        self._waiting: deque[_Arrived] = deque()
        self._waiting_bytes = 0
        self._has_arrived = asyncio.Event()
        self._broken = asyncio.Event()
        self._connection = 0
        self._failures = 0

    @property
    def waiting(self) -> int:
        """Messages that have arrived and are not yet taken up."""
        return len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """The bytes of their payloads."""
        return self._waiting_bytes

    def received(self, message: Message) -> None:
        """Take what came in over the intake connection; the caller has `run` going."""
        address = self._topics.parse(message.topic)
        if address is None or address.definition.urgent:
            self._acknowledge(message)
            return
        size = len(message.payload)
        full = len(self._waiting) >= _MAXIMUM_WAITING or self._waiting_bytes + size > _MAXIMUM_WAITING_BYTES
        if full and message.qos == 0:
            origin = repeatable_origin_of(message, self._topics)
            self._gateway.unavailable(address, origin, "too much waits already; send it again later, with QoS 1")
            return
        if size > self._limit.size:
            message = replace(message, payload=b"")
        self._waiting.append(_Arrived(message, size, self._connection))
        self._waiting_bytes += len(message.payload)
        self._has_arrived.set()

    def disconnected(self) -> None:
        """Drop what the broker will deliver again; of QoS 0 it will deliver nothing again, so that stays."""
        self._connection += 1
        self._broken.set()
        self._put_back([])

    async def run(self) -> None:
        """Take what arrives until cancelled; what is unfinished then stays with the broker.

        What cannot be taken now is tried again together with what has arrived since, so that everyone is told.
        """
        while True:
            if not self._waiting:
                self._has_arrived.clear()
                await self._has_arrived.wait()
            await self._wait_to_be_heard()
            self._broken.clear()
            unfinished = await self._take(self._next_batch())
            if unfinished:
                self._put_back(unfinished)
                await self._pause()
                self._failures += 1
            else:
                self._failures = 0

    def _next_batch(self) -> list[_Arrived]:
        batch: list[_Arrived] = []
        size = 0
        while self._waiting and len(batch) < _BATCH_MESSAGES:
            size += len(self._waiting[0].message.payload)
            if batch and size > _BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
            self._waiting_bytes -= len(batch[-1].message.payload)
        return batch

    async def _take(self, batch: Sequence[_Arrived]) -> Sequence[_Arrived]:
        """Work off a batch: person changes that follow one another together, everything else by itself.

        Returns:
            What has to be tried again, and all behind it.
        """
        for arrived in batch:
            if not arrived.read:
                arrived.understood = await self._understand(arrived)
                arrived.read = True
        finished = 0
        for together in _groups(batch):
            if not await self._finish([arrived for arrived in together if not self._comes_again(arrived)]):
                return batch[finished:]
            finished += len(together)
        return []

    def _put_back(self, unfinished: Sequence[_Arrived]) -> None:
        self._waiting = deque(one for one in (*unfinished, *self._waiting) if not self._comes_again(one))
        self._waiting_bytes = sum(len(arrived.message.payload) for arrived in self._waiting)

    def _comes_again(self, arrived: _Arrived) -> bool:
        """Tell whether the broker has delivered, or will deliver, the same message on a later connection."""
        return arrived.message.qos > 0 and arrived.connection != self._connection

    async def _understand(self, arrived: _Arrived) -> _Understood | None:
        address = self._topics.parse(arrived.message.topic)
        assert address is not None
        origin = repeatable_origin_of(arrived.message, self._topics)
        command = self._gateway.read(arrived.message, address, origin, size=arrived.size, limit=self._limit)
        if arrived.size >= _LARGE:
            await asyncio.sleep(0)
        return None if command is None else _Understood(address, origin, command)

    async def _finish(self, together: Sequence[_Arrived]) -> bool:
        """Do what is left of these and acknowledge all of them; False where some have to be tried again."""
        left = [arrived for arrived in together if arrived.understood is not None and not arrived.done]
        if left and not await self._do(left):
            return False
        for arrived in together:
            self._acknowledge(arrived.message)
        return True

    async def _do(self, left: Sequence[_Arrived]) -> bool:
        understood = [arrived.understood for arrived in left if arrived.understood is not None]
        try:
            unavailable = await self._attempt(understood)
        except Exception:
            _LOGGER.exception("taking %s failed", _describe(understood))
            if len(left) > 1:
                # One of them is to blame: the others must not suffer for it.
                return await self._do_one_by_one(left)
            unavailable = [self._try_again_after_defect(left[0], understood[0])]
        for arrived, is_unavailable in zip(left, unavailable, strict=True):
            arrived.done = arrived.message.qos == 0 or not is_unavailable
        again = [one for one, arrived in zip(understood, left, strict=True) if not arrived.done]
        if again and self._failures == 0:
            _LOGGER.warning("cannot take %s now; trying again until it is possible", _describe(again))
        return not again

    async def _do_one_by_one(self, left: Sequence[_Arrived]) -> bool:
        for one in left:
            if not await self._do([one]):
                return False
        return True

    async def _attempt(self, left: Sequence[_Understood]) -> Sequence[bool]:
        """Try once; return for each whether it must be tried again."""
        for one in left:
            one.origin.told.try_again()
        first = left[0]
        if isinstance(first.command, Admit):
            results: Sequence[Sequence[Reply] | GroupSummary] = [
                [await self._admission.admit(first.command, first.origin)]
            ]
        elif isinstance(first.command, Forget):
            results = [[await self._admission.forget(first.command, first.origin)]]
        elif isinstance(first.command, GetPersons):
            # Changes nothing, so nothing is lost: whoever wants to know asks again.
            await self._persons.get(first.address.name, first.command, first.origin)
            return [False]
        else:
            results = await self._persons.change([one.asked_change for one in left])
        return [_is_unavailable(result) for result in results]

    def _try_again_after_defect(self, arrived: _Arrived, one: _Understood) -> bool:
        """Decide on a message that makes the bridge fail.

        It is tried a few times, for the failure may be a passing one. Then it is answered and let go: kept, it would
        hold up everybody's changes for ever. `unavailable` would promise that it is still taken, so it is `invalid`.
        """
        arrived.failures += 1
        if arrived.failures < _ATTEMPTS_AFTER_A_DEFECT:
            return True
        fault = Fault("", "the bridge failed on this command and gave it up; its log says why")
        self._gateway.invalid(one.address, one.origin, [fault], one.command.request_id)
        return False

    async def _pause(self) -> None:
        """Wait before the next attempt, or until the broker's connection breaks: little is left to attempt then."""
        longest = min(_FIRST_PAUSE * 2 ** min(self._failures, 10), _LONGEST_PAUSE)
        try:
            async with asyncio.timeout(longest * self._random.uniform(0.5, 1)):
                await self._broken.wait()
        except TimeoutError:
            return


def _groups(batch: Sequence[_Arrived]) -> Iterator[Sequence[_Arrived]]:
    for is_change, group in groupby(batch, key=lambda arrived: arrived.is_change):
        if is_change:
            yield list(group)
        else:
            yield from ([arrived] for arrived in group)


def _is_unavailable(result: Sequence[Reply] | GroupSummary) -> bool:
    if isinstance(result, GroupSummary):
        return Outcome.UNAVAILABLE in result.outcomes
    return any(reply.outcome is Outcome.UNAVAILABLE for reply in result)


def _describe(left: Sequence[_Understood]) -> str:
    first = f"{left[0].address.definition.name} for {shorten(left[0].address.name) or 'the bridge'}"
    return first if len(left) == 1 else f"{first} and {len(left) - 1} more"
