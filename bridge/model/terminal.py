"""A known terminal, connected or not, and the counts of its persons."""

from dataclasses import dataclass
from enum import StrEnum

from bridge.model.json_schema import JsonSchema, count_schema, output_schema
from bridge.model.names import ALL_TERMINALS
from bridge.model.secret import Secret


class TerminalOrigin(StrEnum):
    """Why a terminal is known."""

    CONFIGURED = "configured"
    """Listed in the configuration, and can only be changed there."""
    APPROVED = "approved"
    """Admitted by a command."""
    CONNECTED = "connected"
    """Has connected while `terminals.admit` was `any`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A known terminal.

    Attributes:
        sn: its serial number, with which it connects.
        origin: why it is known.
        name: its name for people.
        area: the area in which Home Assistant shows it.
        groups: the groups that it belongs to, without `all`.
        key: the terminal's secret, sent with person changes.
        username: its own, if it does not use the common one.
        password: its own, plain or as a hash that `facebridge hash-password` made.
    """

    sn: str
    origin: TerminalOrigin
    name: str | None = None
    area: str | None = None
    groups: tuple[str, ...] = ()
    key: Secret | None = None
    username: str | None = None
    password: Secret | None = None

    @property
    def title(self) -> str:
        """The name, or a name made of the serial number."""
        return self.name or f"Terminal {self.sn}"

    @property
    def label(self) -> str:
        """The serial number, and the name if it has one, for log lines."""
        return f"{self.sn} ({self.name})" if self.name else self.sn

    @property
    def memberships(self) -> frozenset[str]:
        """All groups that it belongs to, `all` included."""
        return frozenset((*self.groups, ALL_TERMINALS))


@dataclass(frozen=True, slots=True)
class PersonCounts:
    """The counts of a terminal's persons and changes.

    Attributes:
        desired: persons that it should hold.
        confirmed: persons that it should hold and has confirmed.
        pending: changes, including removals, that it has not confirmed yet.
        refused: changes that it refused.
    """

    desired: int = 0
    confirmed: int = 0
    pending: int = 0
    refused: int = 0

    @property
    def possibly_held(self) -> int:
        """The number of persons that the device may hold: those confirmed, and those of unfinished changes."""
        return self.confirmed + self.pending + self.refused

    def as_json(self) -> dict[str, int]:
        """Return the `persons` of a terminal's state."""
        return {
            "desired": self.desired,
            "confirmed": self.confirmed,
            "pending": self.pending,
            "refused": self.refused,
        }


PERSON_COUNTS_SCHEMA: JsonSchema = output_schema(
    {
        "desired": count_schema("persons that the terminal should hold"),
        "confirmed": count_schema("persons that it should hold and has confirmed"),
        "pending": count_schema("changes, including removals, that it has not confirmed yet"),
        "refused": count_schema("changes that it refused"),
    },
    title="PersonCounts",
    description="The counts of a terminal's persons and changes.",
)
"""The schema of `PersonCounts.as_json`."""
