"""What can be asked of a terminal, a group or the bridge, as typed values.

`bridge.core.commands` says how each is named, addressed and checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bridge.model.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What every command has.

    Attributes:
        request_id: the asker's own mark, returned in every reply.
    """

    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Command):
    """Open the door, now or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reboot(Command):
    """Restart the terminal, now or not at all."""


Press = Open | Reboot
"""A command that must not be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPersons(Command):
    """Add or change persons.

    Attributes:
        persons: as they came in; each is checked for itself by the roster.
    """

    persons: Sequence[object] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePersons(Command):
    """Remove persons.

    Attributes:
        ids: whom, each a valid id; None removes everyone and is built only from the explicit, confirmed form.
    """

    ids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPersons(Command):
    """List the persons a terminal should hold.

    Attributes:
        id: only this one; None for all.
    """

    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPersons(Command):
    """Send everything the terminal should hold again.

    Attributes:
        clear: first remove everyone on the terminal; the roster stays.
    """

    clear: bool = False


PersonChange = SetPersons | RemovePersons | SyncPersons
"""A command that must not get lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit(Command):
    """Approve a terminal, or change an approved one.

    Attributes:
        sn: which.
        changes: those of name, area, groups, key, username and password that were given.
    """

    sn: str
    changes: Mapping[str, str | tuple[str, ...] | Secret | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget(Command):
    """Close a terminal's connection and drop all that is kept of it.

    Attributes:
        sn: which.
    """

    sn: str
