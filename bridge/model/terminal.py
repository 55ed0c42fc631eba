"""A terminal as the building knows it, connected or not."""

from dataclasses import dataclass
from enum import StrEnum

from bridge.model.json_schema import JsonSchema, number_of, output_schema
from bridge.model.secret import Secret


class TerminalOrigin(StrEnum):
    """Why a terminal is known."""

    CONFIGURED = "configured"
    """Listed in the configuration; only there can it be changed."""
    APPROVED = "approved"
    """Admitted by a command."""
    CONNECTED = "connected"
    """Connected once while `terminals.admit` was `any`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A known terminal.

    Attributes:
        sn: its serial number, the name it connects under.
        origin: why it is known.
        name: what people call it.
        area: where it hangs, for Home Assistant.
        groups: the groups it belongs to, `all` not among them.
        key: the terminal's secret, sent with person changes.
        username: its own, where it does not use everyone's.
        password: likewise, plain or a hash of `facebridge hash-password`.
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
        """What to call it where a name is needed."""
        return self.name or f"Terminal {self.sn}"


@dataclass(frozen=True, slots=True)
class PersonCounts:
    """How far the roster of a terminal is.

    Attributes:
        desired: persons it should hold.
        confirmed: those of them it has confirmed as they should be.
        pending: changes, removals included, that it has yet to confirm.
        refused: changes it refused.
    """

    desired: int = 0
    confirmed: int = 0
    pending: int = 0
    refused: int = 0

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
        "desired": number_of("persons it should hold"),
        "confirmed": number_of("those of them it has confirmed as they should be"),
        "pending": number_of("changes, removals included, that it has yet to confirm"),
        "refused": number_of("changes it refused"),
    },
    title="PersonCounts",
    description="How far the roster of a terminal is.",
)
"""What `PersonCounts.as_json` gives."""
