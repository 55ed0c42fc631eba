"""The messages of the intake connection that are not acknowledged yet, and the choice of those to carry out next.

Messages for the same terminal are carried out in the order of their arrival; others do not wait for each other. A
picture takes up to 10 s to decode, and must not hold up another terminal's change.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice

from bridge.core.person_commands import PersonCommands
from bridge.core.ports import PersonCommand
from bridge.model.commands import Admit, Command, Forget, RemovePersons, SetPersons, SyncPersons
from bridge.model.received_message import ReceivedMessage
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import CommandContext
from bridge.mqtt.topics import Scope

_BATCH_MESSAGES = 100
_BATCH_BYTES = 64 * 1024 * 1024
"""The most that is stored in one transaction: enough to share a commit's cost, and little enough not to delay others
for long."""

_MAX_READ_MESSAGES = 200
_MAX_READ_BYTES = 128 * 1024 * 1024
"""The messages that are parsed and not finished yet. Parsing makes a second copy of the photos. Over MQTT 5 the broker
sends at most 100 messages before it waits for an acknowledgement; the rest is for QoS 0."""

_MAX_QUICK_PERSONS = 100
"""Persons without pictures in a quick message: checking them takes some 5 ms."""


class BatchKind(Enum):
    """The kind of a batch: which messages it may contain."""

    QUICK = "person changes without pictures, of any terminals"
    SLOW = "person changes of one terminal or group"
    SINGLE = "one other command"


_MAX_BATCHES = {BatchKind.QUICK: 1, BatchKind.SLOW: 4, BatchKind.SINGLE: 1}
"""Batches that are carried out at once. Messages that arrive during a quick batch share the next one. Two pictures are
decoded at once (`bridge.persons.preparation`); two more slow batches keep the decoders busy during commits. More would
wait for a locked store one after the other."""


@dataclass(slots=True, eq=False)
class QueuedMessage:
    """A message and its progress.

    Attributes:
        message: the message; without its payload when it is done.
        context: its addressee and origin.
        payload_bytes: the size of its payload as received.
        connection: the number of the broker connection that it arrived on.
        is_read: whether `command` is valid.
        command: its command; None if it is invalid and the reply has said so.
        received: how to recognise it when it arrives again; None if it changes nothing.
        is_running: whether it is in a batch that is being carried out.
        is_done: whether only its acknowledgement is left to do.
        attempts: how often it could not be accepted.
        failures: how often it raised an unexpected exception.
    """

    message: Message
    context: CommandContext
    payload_bytes: int
    connection: int
    is_read: bool = False
    command: Command | None = None
    received: ReceivedMessage | None = None
    is_running: bool = False
    is_done: bool = False
    attempts: int = 0
    failures: int = 0

    @property
    def terminal(self) -> str | None:
        """The terminal that it names; None for a group."""
        if isinstance(self.command, Admit | Forget):
            return self.command.sn
        address = self.context.address
        return address.name if address.scope is Scope.TERMINAL else None

    @property
    def group(self) -> str | None:
        """The group that it names; None for a terminal."""
        address = self.context.address
        return address.name if address.scope is Scope.GROUP else None

    @property
    def changes_members(self) -> bool:
        """Whether it may change which terminals are in a group."""
        return isinstance(self.command, Admit | Forget)

    @property
    def is_person_change(self) -> bool:
        """Whether it can share a transaction with others."""
        return isinstance(self.command, SetPersons | RemovePersons | SyncPersons)

    @property
    def has_slow_persons(self) -> bool:
        """Whether it can take long before anything is stored: it has pictures or many persons."""
        return isinstance(self.command, SetPersons) and (
            len(self.command.persons) > _MAX_QUICK_PERSONS
            or any(
                isinstance(person, Mapping) and ("photo" in person or "photo_file" in person)
                for person in self.command.persons
            )
        )

    @property
    def person_command(self) -> PersonCommand:
        """Its person change."""
        assert isinstance(self.command, SetPersons | RemovePersons | SyncPersons)
        return PersonCommand(
            change=self.command,
            origin=self.context.origin,
            sn=self.terminal,
            group=self.group,
            message=self.received,
        )


class _Addresses:
    """The terminals and groups that some messages are for."""

    def __init__(self, persons: PersonCommands) -> None:
        self._persons = persons
        self._terminals: set[str] = set()
        self._groups: set[str] = set()
        self._change_members = False

    def add(self, queued: QueuedMessage) -> None:
        """Add those of a message."""
        if queued.terminal is not None:
            self._terminals.add(queued.terminal)
        elif queued.group is not None:
            self._groups.add(queued.group)
        self._change_members |= queued.changes_members

    def overlap(self, queued: QueuedMessage) -> bool:
        """Return whether a later message is for one of these terminals, or the order could decide whether it is."""
        terminal, group = queued.terminal, queued.group
        if terminal is not None:
            return (
                terminal in self._terminals
                or (queued.changes_members and bool(self._groups))
                or any(self._persons.is_member(terminal, name) for name in self._groups)
            )
        if group is not None:
            return (
                self._change_members
                or group in self._groups
                or any(self._persons.is_member(sn, group) for sn in self._terminals)
                or any(self._persons.have_common_member(name, group) for name in self._groups)
            )
        return False


@dataclass(slots=True, eq=False)
class Batch:
    """Messages that are carried out together.

    Attributes:
        kind: which messages it may contain.
        addresses: of its messages.
        messages: the messages, in the order of their arrival.
        payload_bytes: the size of their payloads.
    """

    kind: BatchKind
    addresses: _Addresses
    messages: list[QueuedMessage] = field(default_factory=list)
    payload_bytes: int = 0

    def may_contain(self, queued: QueuedMessage, kind: BatchKind) -> bool:
        """Return whether a message of this kind may join, and there is room for it."""
        if len(self.messages) >= _BATCH_MESSAGES or self.payload_bytes + len(queued.message.payload) > _BATCH_BYTES:
            return False
        if self.kind is BatchKind.SLOW:
            first = self.messages[0]
            is_same_address = (queued.terminal, queued.group) == (first.terminal, first.group)
            return is_same_address and kind is not BatchKind.SINGLE
        return self.kind is kind is BatchKind.QUICK

    def add(self, queued: QueuedMessage) -> None:
        """Add a message."""
        self.messages.append(queued)
        self.addresses.add(queued)
        self.payload_bytes += len(queued.message.payload)


class _Selection:
    """The batches that are chosen in one go.

    Attributes:
        batches: the batches so far.
    """

    def __init__(self, persons: PersonCommands, running: Collection[Batch]) -> None:
        self._persons = persons
        self._left = Counter(_MAX_BATCHES)
        self._left.subtract(batch.kind for batch in running)
        # A group can have thousands of members, and many messages can be for the same group.
        self._must_wait: dict[tuple[str | None, str | None], bool] = {}
        self.batches: list[Batch] = []

    def add(self, queued: QueuedMessage) -> bool:
        """Put a message into one of the batches, or into a new one; return False if it must wait."""
        kind = self._kind(queued)
        overlapping = [batch for batch in self.batches if batch.addresses.overlap(queued)]
        candidates = overlapping or [batch for batch in self.batches if batch.kind is kind is BatchKind.QUICK]
        if not candidates:
            if not self._left[kind]:
                return False
            self._left[kind] -= 1
            candidates = [Batch(kind, _Addresses(self._persons))]
            self.batches += candidates
        elif len(candidates) > 1 or not candidates[0].may_contain(queued, kind):
            return False
        candidates[0].add(queued)
        return True

    def _kind(self, queued: QueuedMessage) -> BatchKind:
        if not queued.is_person_change:
            return BatchKind.SINGLE
        if queued.has_slow_persons:
            return BatchKind.SLOW
        address = (queued.terminal, queued.group)
        if address not in self._must_wait:
            # For a change over HTTP, whose picture may be slow.
            self._must_wait[address] = self._persons.must_wait(queued.person_command)
        return BatchKind.SLOW if self._must_wait[address] else BatchKind.QUICK


class IntakeQueue:
    """Messages in the order of their arrival, until they are acknowledged."""

    def __init__(self, persons: PersonCommands) -> None:
        self._persons = persons
        self._messages: deque[QueuedMessage] = deque()
        self._payload_bytes = 0
        self._running: set[Batch] = set()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def payload_bytes(self) -> int:
        """The size of the payloads of the messages that are not done."""
        return self._payload_bytes

    @property
    def waiting(self) -> list[QueuedMessage]:
        """The messages that are not being carried out yet."""
        return [queued for queued in self._messages if not queued.is_running and not queued.is_done]

    @property
    def has_room_to_read(self) -> bool:
        """Whether a message that arrives now may be read soon."""
        return len(self._messages) < _MAX_READ_MESSAGES

    @property
    def is_running(self) -> bool:
        """Whether a batch is being carried out."""
        return bool(self._running)

    def append(self, queued: QueuedMessage) -> None:
        """Add a message that has arrived."""
        self._messages.append(queued)
        self._payload_bytes += len(queued.message.payload)

    def drop(self, is_dropped: Callable[[QueuedMessage], bool]) -> None:
        """Remove messages; a batch that contains them goes on."""
        for queued in self._messages:
            if is_dropped(queued):
                self._payload_bytes -= len(queued.message.payload)
        self._messages = deque(queued for queued in self._messages if not is_dropped(queued))

    def unread(self) -> list[QueuedMessage]:
        """Return the messages to parse next, as long as there is memory for them."""
        found: list[QueuedMessage] = []
        size = 0
        for queued in islice(self._messages, _MAX_READ_MESSAGES):
            size += len(queued.message.payload)
            if not queued.is_read:
                if size > _MAX_READ_BYTES and size > len(queued.message.payload):
                    break
                found.append(queued)
        return found

    def next_batches(self, *, may_retry: bool) -> Sequence[Batch]:
        """Return the batches that can be carried out now; the caller passes each to `end` afterwards.

        Args:
            may_retry: whether messages that could not be accepted may be tried again now.
        """
        earlier = _Addresses(self._persons)
        for batch in self._running:
            for queued in batch.messages:
                earlier.add(queued)
        selection = _Selection(self._persons, self._running)
        for queued in islice(self._messages, _MAX_READ_MESSAGES):
            if not queued.is_read:
                break
            if queued.is_running or queued.is_done:
                continue
            must_pause = queued.attempts > 0 and not may_retry
            if must_pause or earlier.overlap(queued) or not selection.add(queued):
                earlier.add(queued)
        for batch in selection.batches:
            self._running.add(batch)
            for queued in batch.messages:
                queued.is_running = True
        return selection.batches

    def end(self, batch: Batch) -> None:
        """Note that a batch is not being carried out any more; messages that are not done wait again."""
        self._running.remove(batch)
        for queued in batch.messages:
            queued.is_running = False

    def done(self, queued: QueuedMessage) -> None:
        """Note that only the acknowledgement of a message is left to do, and release its memory."""
        queued.is_done = True
        if queued in self._messages:
            self._payload_bytes -= len(queued.message.payload)
        queued.message = replace(queued.message, payload=b"")

    def take_done(self) -> Iterator[QueuedMessage]:
        """Remove and yield the messages to acknowledge: those that are done, up to the first that is not.

        MQTT requires acknowledgements in the order of arrival (MQTT 5, section 4.6).
        """
        while self._messages and self._messages[0].is_done:
            yield self._messages.popleft()
