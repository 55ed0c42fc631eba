"""The stored state of person changes: what each terminal should hold, the delivery, and the waiting requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from bridge.model.json_schema import Vocabulary
from bridge.model.origin import Origin, split_stored
from bridge.model.person import Person, PhotoReference
from bridge.model.reply import Reply, format_time
from bridge.model.terminal import PersonCounts

OWN_SCOPE = ""
"""The scope of a terminal's own changes in `PersonEntry.access`; the name of a group is never empty."""

_SHOWN_OWN_SCOPE = "terminal"


class DeliveryState(Vocabulary):
    """The state of a change; the `delivery` of a person (docs/mqtt.md)."""

    PENDING = "pending", "the terminal has not answered yet"
    CONFIRMED = "confirmed", "the terminal has accepted it"
    REFUSED = (
        "refused",
        "the terminal has refused it; a removal is tried again at each connection and once a day, another change stays",
    )


class Wanted(Vocabulary):
    """What a terminal should do with a person; the `wanted` of a person (docs/mqtt.md)."""

    PRESENT = "present", "the terminal should hold the person"
    DISABLED = "disabled", "the bridge keeps the person, and the terminal should not hold them"
    REMOVED = "removed", "the terminal should not hold the person; shown until the terminal has confirmed it"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """The request of a change that has not got its final reply yet.

    Attributes:
        command: the name of the command, as in the reply.
        request_id: as in the command.
        origin: the sender, and where the final reply goes.
        received_at: when the bridge received it, in seconds of `Clock.boottime`.
        boot_id: identifies the start of the machine that `received_at` counts from.
        message_id: of the message that it came with, as stored; None if it did not come over MQTT.
        note: put before the message of the final reply; None for nothing.
        unknown: stored fields that this version does not know.
    """

    command: str
    request_id: str | None
    origin: Origin
    received_at: float
    boot_id: str
    message_id: int | None = None
    note: str | None = None
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
            "message_id": self.message_id,
            "note": self.note,
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
        person_id: the person; None for the removal of everyone, which is sent before all changes with later revisions.
        revision: the number of the change, ascending over all terminals.
        person: the person as the terminal should hold it; None if it should hold none.
        changed_at: when the change was requested, or last answered.
        delivery: the state of this revision.
        confirmed_revision: the newest revision that the terminal has confirmed.
        status: the terminal's answer to this revision, 0 for success.
        message: the answer's text.
        request: the request that waits for the final reply on this revision.
        access: the scopes through which the terminal holds the person, sorted: `OWN_SCOPE` and names of groups; empty
            for a removal.
    """

    sn: str
    person_id: str | None
    revision: int
    person: Person | None
    changed_at: datetime
    delivery: DeliveryState = DeliveryState.PENDING
    confirmed_revision: int | None = None
    status: int | None = None
    message: str | None = None
    request: RequestContext | None = None
    access: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether the terminal should hold the person: neither removed nor disabled."""
        return self.person is not None and self.person.enabled

    @property
    def wanted(self) -> Wanted:
        """What the terminal should do with the person."""
        if self.person is None:
            return Wanted.REMOVED
        return Wanted.PRESENT if self.person.enabled else Wanted.DISABLED

    def as_json(self) -> dict[str, Any]:
        """Return the entry of a reply's `persons`; a removal has only the id, which is null for everyone."""
        return {
            **({"id": self.person_id} if self.person is None else self.person.as_json()),
            "wanted": self.wanted.value,
            "delivery": self.delivery.value,
            "status": self.status,
            "message": self.message,
            "changed_at": format_time(self.changed_at),
            "access": self.shown_access,
        }

    @property
    def shown_access(self) -> list[str]:
        """The scopes of `access` as users know them."""
        return [scope or _SHOWN_OWN_SCOPE for scope in self.access]

    @property
    def counts(self) -> PersonCounts:
        """The counts of this entry alone; their sum is the terminal's."""
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
        revision: the last revision that it sends again; the sync is finished when none up to it is pending.
        request: the request.
        id: assigned by the store.
    """

    sn: str
    revision: int
    request: RequestContext
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonJob:
    """A removal of everyone, a sync, or both, that is not applied to every entry of a terminal yet.

    Attributes:
        sn: the terminal.
        drop_below: entries of lower revisions count as removed, and are being deleted; None: no removal is running.
        drop_message: of the final replies to the requests of these entries.
        send_below: entries of lower revisions are being marked to be sent again; None: no sync is running.
        send_after: the revision up to which that is done.
        send_all: whether that includes pending entries, because the terminal removes everyone before.
    """

    sn: str
    drop_below: int | None = None
    drop_message: str | None = None
    send_below: int | None = None
    send_after: int = -1
    send_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPerson:
    """A person that a group keeps for terminals that join it.

    Attributes:
        group: the group.
        revision: of the last change in this group, in the order of all changes.
        person: the person.
        changed_at: when the person was last changed in this group.
    """

    group: str
    revision: int
    person: Person
    changed_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return the person without the photo, for lists."""
        return {**self.person.as_json(), "changed_at": format_time(self.changed_at)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipJob:
    """A change of a terminal's groups that is not applied to every person yet.

    Attributes:
        id: the revision at which the groups changed. Later changes of a joined group reach the terminal directly.
        sn: the terminal.
        left: the groups that it left.
        joined: the groups that it joined.
        left_after: the person up to which leaving is done, by id; None if it is done for all.
        joined_after: the revision of the groups' persons up to which joining is done.
    """

    id: int
    sn: str
    left: frozenset[str]
    joined: frozenset[str]
    left_after: str | None = ""
    joined_after: int = -1

    def has_left(self, person_id: str) -> bool:
        """Return whether leaving is done for a person."""
        return not self.left or self.left_after is None or person_id <= self.left_after


class GroupChangeKind(Enum):
    """What a `GroupChange` does on each member."""

    SET = "set"
    REMOVE = "remove"
    REMOVE_EVERYONE = "remove_everyone"
    SYNC = "sync"
    CLEAR = "clear"


PERSON_KINDS = (GroupChangeKind.SET, GroupChangeKind.REMOVE)
"""The kinds that name persons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """An accepted change of a group that is not applied to every member yet.

    Attributes:
        id: the revision at which it was accepted.
        group: the group.
        kind: what it does; with `SET` and `REMOVE` it has persons (`ChangedPerson`).
        request: the request.
    """

    id: int
    group: str
    kind: GroupChangeKind
    request: RequestContext

    @property
    def is_of_persons(self) -> bool:
        """Whether it names persons; otherwise it is about everything on a member."""
        return self.kind in PERSON_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedPerson:
    """One person of a `GroupChange`.

    Attributes:
        position: in the list of persons, ascending.
        person_id: the person.
        fields: the attributes of `Person` to set, without the photo; nothing for a removal.
        photo: the photo to set; None for none.
    """

    position: int
    person_id: str
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    photo: PhotoReference | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it has all that a new person needs: a name and a photo."""
        return "name" in self.fields and self.photo is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberJob:
    """The part of a `GroupChange` that is still to be applied to one member.

    Attributes:
        id: a revision: jobs of a terminal are applied in this order, those for changes of memberships included.
        sn: the member.
        change: the change.
        applied: the position of the last person to which it is applied in turn; -1 for none.
    """

    id: int
    sn: str
    change: GroupChange
    applied: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalReply:
    """The final reply to a change, which waits in the outbox until the broker has acknowledged it.

    Attributes:
        reply: the reply.
        origin: where it goes.
        id: assigned by the store, ascending.
    """

    reply: Reply
    origin: Origin
    id: int = 0
