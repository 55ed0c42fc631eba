"""What is kept of person changes: what each terminal should hold, how far it is, and who waits to hear."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.model.json_schema import Vocabulary
from bridge.model.origin import Origin
from bridge.model.person import Person
from bridge.model.reply import Reply, format_time
from bridge.model.stored_json import split_stored
from bridge.model.terminal import PersonCounts


class DeliveryState(Vocabulary):
    """How far a change is; the `delivery` of a person (CONTRACT, section 4)."""

    PENDING = "pending", "the terminal has yet to answer"
    CONFIRMED = "confirmed", "the terminal has taken it"
    REFUSED = "refused", "the terminal has not; it stays so until the person is changed or the terminal synced"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Who asked for a change that has yet to get its last word.

    Attributes:
        command: its name, as in the reply.
        request_id: what it carried.
        origin: who asked, and where the last word goes.
        received_at: when the bridge took it, in seconds of `Clock.boottime`.
        boot_id: identifies the start of the machine that `received_at` counts from.
        unknown: stored fields that this version does not know.
    """

    command: str
    request_id: str | None
    origin: Origin
    received_at: float
    boot_id: str
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def as_stored(self) -> dict[str, Any]:
        """Return the JSON object that `from_stored` reads."""
        return {
            **self.unknown,
            "command": self.command,
            "request_id": self.request_id,
            "origin": self.origin.as_stored(),
            "received_at": self.received_at,
            "boot_id": self.boot_id,
        }

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "RequestContext":
        """Read what `as_stored` returned, in this or in another version."""
        known, unknown = split_stored(cls, stored)
        return cls(**{**known, "origin": Origin.from_stored(known["origin"])}, unknown=unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonEntry:
    """One person on one terminal, or the removal of everyone from it.

    Attributes:
        sn: the terminal.
        person_id: the person; None for the removal of everyone, which goes before all changes of later revision.
        revision: which of all changes to all terminals this is.
        person: as they should be; None where removed.
        delivery: how far this revision is.
        confirmed_revision: the newest that the terminal has confirmed.
        status: what the terminal said of this revision, 0 for success.
        message: its text.
        changed_at: when it was asked for, or last answered.
        request: the request that waits for the final reply on this revision.
    """

    sn: str
    person_id: str | None
    revision: int
    person: Person | None
    delivery: DeliveryState
    confirmed_revision: int | None
    status: int | None
    message: str | None
    changed_at: datetime
    request: RequestContext | None = None

    @property
    def held(self) -> bool:
        """Whether the terminal is to hold the person: neither removed nor disabled."""
        return self.person is not None and self.person.enabled

    def as_json(self) -> dict[str, Any]:
        """Return the entry of a reply's `persons`, of somebody who should be there."""
        assert self.person is not None
        return {
            **self.person.as_json(),
            "delivery": self.delivery.value,
            "status": self.status,
            "message": self.message,
            "changed_at": format_time(self.changed_at),
        }

    @property
    def counts(self) -> PersonCounts:
        """What this entry adds to its terminal's counts."""
        return PersonCounts(
            desired=int(self.held),
            confirmed=int(self.held and self.delivery is DeliveryState.CONFIRMED),
            pending=int(self.delivery is DeliveryState.PENDING),
            refused=int(self.delivery is DeliveryState.REFUSED),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSync:
    """A sync that is not finished.

    Attributes:
        sn: the terminal.
        revision: the last that it sends again; it is finished once nothing up to there is pending.
        request: the request.
        id: given by the store.
    """

    sn: str
    revision: int
    request: RequestContext
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalReply:
    """How a change ended, for whoever asked.

    Attributes:
        reply: what to tell.
        origin: where to.
        id: given by the store, growing.
    """

    reply: Reply
    origin: Origin
    id: int = 0
