"""What the core asks of the parts around it: each is built elsewhere and handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bridge.model.audit import AuditRecord
from bridge.model.commands import PersonChange
from bridge.model.origin import Origin
from bridge.model.reply import Reply
from bridge.model.secret import Secret
from bridge.model.terminal import PersonCounts, Terminal


class ConnectionLostError(Exception):
    """The connection has ended; nothing more goes out on it."""


class Connection(Protocol):
    """One WebSocket connection of one terminal, from its upgrade until it is gone; never used again after."""

    @property
    def sn(self) -> str:
        """The terminal's serial number."""
        ...

    @property
    def address(self) -> str:
        """Where it connects from."""
        ...

    @property
    def connected_at(self) -> datetime:
        """When it was upgraded."""
        ...

    @property
    def last_seen(self) -> datetime:
        """When its last frame came in."""
        ...

    async def send(self, frame: bytes) -> int:
        """Write a text frame now, ahead of nothing and behind what is already written; never waits for the peer.

        Returns:
            The position in the outgoing byte stream after this frame, for `acknowledged`.

        Raises:
            ConnectionLostError: it has ended.
        """
        ...

    def acknowledged(self, position: int) -> bool | None:
        """Tell whether the far side's kernel has taken every byte up to `position`.

        Still answers after the connection has ended, from what was known then; None where that cannot be told.
        """
        ...

    def reset(self, reason: str) -> None:
        """End it at once and throw away every byte that the far side has not acknowledged (RST).

        What was written and not acknowledged can then no longer arrive.
        """
        ...

    async def close(self, reason: str) -> None:
        """End it in order, within a few seconds."""
        ...


class TerminalStore(Protocol):
    """Where terminals that are not in the configuration are kept."""

    async def load(self) -> Sequence[Terminal]:
        """Return all. Raises UnavailableError."""
        ...

    async def save(self, terminal: Terminal) -> None:
        """Add or replace one, its credentials already hashed. Raises UnavailableError."""
        ...

    async def delete(self, sn: str) -> None:
        """Drop one; no error where there is none. Raises UnavailableError."""
        ...


class AuditStore(Protocol):
    """Where the audit is kept. Everything raises UnavailableError where the store is full, locked or gone."""

    async def add(self, records: Sequence[AuditRecord]) -> None:
        """Add records, in their order."""
        ...

    async def drop(self, *, before: datetime, keep: int) -> None:
        """Drop what is older, and the oldest of more than `keep`."""
        ...


class PasswordHasher(Protocol):
    """Makes of a password what may be stored."""

    async def hash(self, password: Secret) -> Secret:
        """Return its hash; one that is a hash already is returned as it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRequest:
    """A person change for one known terminal.

    Attributes:
        sn: the terminal.
        change: what is asked.
        origin: who asked, kept with the change until its last word is told.
        received_at: when the bridge took it, in seconds of `Clock.boottime`.
    """

    sn: str
    change: PersonChange
    origin: Origin
    received_at: float


class PersonsPort(Protocol):
    """Who should be on which terminal, and getting them there."""

    async def change(self, requests: Sequence[PersonRequest]) -> Sequence[Sequence[Reply]]:
        """Check the requests, apply them in their order in one transaction, and return once it is committed.

        Returns:
            For each request its replies, one a person: `accepted`, `invalid` (that person is left as it was) or
            `unavailable` (nothing of any request was changed). The last word follows through the outbox. An accepted
            `SyncPersons` that finds nothing to send again is told `ok` there too.
        """
        ...

    async def persons(self, sn: str, person_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        """Return what a terminal should hold, without photos, as `persons` of a reply. Raises UnavailableError."""
        ...

    def counts(self, sn: str) -> PersonCounts:
        """Return how far a terminal is; all zero for one without persons."""
        ...

    async def forget(self, sn: str) -> None:
        """Drop everything kept for a terminal. Raises UnavailableError."""
        ...
