"""Commands to a terminal, a group or the bridge, as typed values.

`bridge.core.commands` declares the name, the topic and the payload of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bridge.model.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The base of all commands.

    Attributes:
        request_id: chosen by the sender, returned in every reply.
    """

    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedCommand(Command):
    """A command that may say when it was asked for. With the time, it is carried out once.

    Attributes:
        asked_at: the time by the requester's clock.
    """

    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(DatedCommand):
    """Open the door now or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reboot(DatedCommand):
    """Restart the terminal now or not at all."""


Press = Open | Reboot
"""A command that must not be carried out late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPersons(DatedCommand):
    """Add or change persons.

    Attributes:
        persons: decoded JSON; each person is checked separately when the change is stored.
    """

    persons: Sequence[object] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePersons(DatedCommand):
    """Remove persons.

    Attributes:
        ids: valid ids; None removes everyone, and is only built from the explicit, confirmed form of the command.
    """

    ids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPersons(Command):
    """List the persons a terminal should hold.

    Attributes:
        id: the person; None for all.
    """

    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPersons(DatedCommand):
    """Send everything the terminal should hold again.

    Attributes:
        clear: first remove everyone from the terminal; the stored persons stay.
    """

    clear: bool = False


PersonChange = SetPersons | RemovePersons | SyncPersons
"""A command that must not be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit(Command):
    """Approve a terminal, or change an approved one.

    Attributes:
        sn: the terminal's serial number.
        changes: the given ones of name, area, groups, key, username and password.
    """

    sn: str
    changes: Mapping[str, str | tuple[str, ...] | Secret | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget(Command):
    """Close a terminal's connection and delete everything that is stored about it.

    Attributes:
        sn: the terminal's serial number.
    """

    sn: str
