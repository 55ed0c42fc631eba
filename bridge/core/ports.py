"""Interfaces that the core uses and other packages implement, so that the core itself does no I/O.

Each has a fake in the tests.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS, SYNC_PERSONS
from bridge.model.audit import AuditRecord
from bridge.model.commands import PersonChange, RemovePersons, SetPersons
from bridge.model.origin import Origin
from bridge.model.received_message import AnsweredMessage, ReceivedMessage
from bridge.model.reply import Reply
from bridge.model.secret import Secret
from bridge.model.terminal import PersonCounts, Terminal


class ConnectionLostError(Exception):
    """The connection has ended; it sends nothing more."""


@dataclass(frozen=True, slots=True)
class WrittenFrame:
    """The place of a written frame in the outgoing byte stream of its connection.

    Attributes:
        start: the position before its first byte.
        end: the position after its last byte.
    """

    start: int
    end: int


class Connection(Protocol):
    """One WebSocket connection of one terminal, from its upgrade to its end; never used again afterwards."""

    @property
    def sn(self) -> str:
        """The terminal's serial number."""
        ...

    @property
    def address(self) -> str:
        """The terminal's network address."""
        ...

    @property
    def connected_at(self) -> datetime:
        """When it was upgraded to a WebSocket."""
        ...

    @property
    def last_seen(self) -> datetime:
        """When its last frame arrived."""
        ...

    @property
    def responsive(self) -> bool:
        """False from `probe` until the terminal's next frame."""
        ...

    async def send(self, frame: bytes) -> None:
        """Write a text frame behind what is already written, as soon as no press waits (`reserve`).

        Raises:
            ConnectionLostError: the connection has ended.
        """
        ...

    def send_urgent(self, frame: bytes) -> WrittenFrame | None:
        """Write a text frame now, or return None if TCP would not transmit it at once.

        Raises:
            ConnectionLostError: the connection has ended.
        """
        ...

    def reserve(self) -> AbstractContextManager[None]:
        """Hold back the frames of `send` while the returned context is open, so that the buffers become empty."""
        ...

    def delivered(self, written: WrittenFrame) -> bool | None:
        """Return where a frame is.

        True: the terminal's kernel has acknowledged all of it. False: no byte of it was transmitted. None: it was
        transmitted and not acknowledged, or that is unknown. After the end of the connection the answer is final.
        """
        ...

    async def probe(self) -> None:
        """Ping the terminal; it is not `responsive` until its next frame."""
        ...

    def reset(self, reason: str) -> None:
        """End the connection at once with a RST and discard every byte that was not transmitted.

        Transmitted bytes may have arrived, but are not transmitted again.
        """
        ...

    async def close(self, reason: str) -> None:
        """End the connection with a closing handshake, within a few seconds."""
        ...


class TerminalStore(Protocol):
    """The stored terminals: those that are not in the configuration."""

    async def load(self) -> Sequence[Terminal]:
        """Return all of them. Raises UnavailableError."""
        ...

    async def save(self, terminal: Terminal, answered: AnsweredMessage | None = None) -> None:
        """Add or replace a terminal, whose password is already hashed. Raises UnavailableError.

        Args:
            terminal: the terminal.
            answered: the message whose command this is; it is stored in the same transaction.
        """
        ...

    async def save_all(self, terminals: Sequence[Terminal]) -> None:
        """Add or replace terminals in one transaction. Raises UnavailableError."""
        ...

    async def delete(self, sn: str, answered: AnsweredMessage | None = None) -> None:
        """Delete a terminal if it is stored. Raises UnavailableError.

        Args:
            sn: the terminal.
            answered: the message whose command this is; it is stored in the same transaction.
        """
        ...

    async def reply_to(self, message: ReceivedMessage) -> Reply | None:
        """Return the reply to a message whose command was answered before. Raises UnavailableError."""
        ...

    async def add_answered(self, answered: AnsweredMessage) -> None:
        """Store the reply to a message whose command changes nothing. Raises UnavailableError."""
        ...


class AuditStore(Protocol):
    """The stored audit records. Every method raises UnavailableError if the store is full, locked or gone."""

    async def add(self, records: Sequence[AuditRecord]) -> None:
        """Add records in this order."""
        ...

    async def drop(self, *, before: datetime, keep: int) -> None:
        """Delete the records from before this time, and the oldest of more than `keep`."""
        ...


class PasswordHasher(Protocol):
    """A password hash function, slow enough to run in a thread."""

    async def hash(self, password: Secret) -> Secret:
        """Return the hash of a password; return a hash unchanged."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonCommand:
    """A person change for a terminal or for every member of a group.

    Attributes:
        change: the change.
        origin: where it came from.
        sn: the terminal that it names.
        group: the group that it names.
        message: the message that it came with, if it came over MQTT.
        sns: the known terminals that it is for; `PersonCommands` finds them.
        received_at: when the bridge received it (`Clock.boottime`); set by `PersonCommands`.
    """

    change: PersonChange
    origin: Origin
    sn: str | None = None
    group: str | None = None
    message: ReceivedMessage | None = None
    sns: tuple[str, ...] = ()
    received_at: float = 0.0

    @property
    def name(self) -> str:
        """The name of the command, as in replies."""
        if isinstance(self.change, SetPersons):
            return SET_PERSONS.name
        return (REMOVE_PERSONS if isinstance(self.change, RemovePersons) else SYNC_PERSONS).name

    @property
    def reply_origin(self) -> Origin:
        """The origin for a terminal's replies: only a group's summary goes to the Response Topic."""
        if self.group is None:
            return self.origin
        return replace(self.origin, response_topic=None, correlation_data=None)


class DesiredPersons(Protocol):
    """The persons that each terminal should hold, and their delivery."""

    async def change(
        self,
        commands: Sequence[PersonCommand],
        publish: Callable[[PersonCommand, Sequence[Reply]], None] | None = None,
    ) -> Sequence[Sequence[Reply]]:
        """Check the commands, apply them in order, long ones in parts, and return after the last commit.

        Args:
            commands: the commands.
            publish: called after each commit, with a command and the replies to what it stored of that command; a final
                reply comes later.

        Returns:
            The replies to each command, one per terminal and person: `accepted`, `invalid` (this person is unchanged)
            or `unavailable` (this person is unchanged, and so are all that follow). A change of a group without members
            has replies without a terminal. Each final reply follows through the outbox. So does the `ok` to an accepted
            `SyncPersons` that finds nothing to send again. If the message of a command is known from an earlier change,
            the command changes nothing: its replies are the last known ones, with `is_repeated`.
        """
        ...

    def must_wait(self, command: PersonCommand) -> bool:
        """Return whether `change` would wait, because another change of one of the terminals is in progress."""
        ...

    async def forget_deliveries(self) -> None:
        """Forget the packet ids of received messages: the broker has begun a new session. Raises UnavailableError."""
        ...

    async def persons(self, sn: str, person_id: str | None = None) -> Sequence[Any]:
        """Return the persons and unconfirmed removals of a terminal, without photos, as a reply's `persons`.

        Raises:
            UnavailableError: the store cannot be read.
        """
        ...

    def counts(self, sn: str) -> PersonCounts:
        """Return the numbers of a terminal's persons by delivery state; all zero for one without persons."""
        ...

    def group_size(self, group: str) -> int:
        """Return the number of persons that a group keeps."""
        ...

    def group_sizes(self) -> Mapping[str, int]:
        """Return the number of persons of each group that keeps any."""
        ...

    async def follow_groups(self, *sns: str) -> None:
        """Let the persons of known terminals follow their present groups, in one transaction.

        Raises:
            UnavailableError: the store cannot be changed; nothing was changed.
        """
        ...

    async def forget(self, sn: str) -> None:
        """Delete everything that is stored for a terminal. Raises UnavailableError."""
        ...
