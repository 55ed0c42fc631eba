"""How a simulated terminal behaves, and misbehaves."""

from dataclasses import dataclass
from enum import Enum, auto


class KeepAlive(Enum):
    """What a terminal sends at intervals to show that it is there."""

    PING = auto()
    """An empty WebSocket ping, as the document says."""
    TEXT = auto()
    """A text frame that says `ping`, as some firmware does."""
    NONE = auto()
    """Nothing."""


class Garbage(Enum):
    """What a terminal sends in front of an answer, and is no answer."""

    NOT_JSON = auto()
    """A text frame that is not JSON."""
    BINARY = auto()
    """A binary frame."""
    NESTED = auto()
    """JSON nested far deeper than any parser likes."""
    HUGE = auto()
    """A text frame of `HUGE_FRAME_LENGTH`."""
    UNKNOWN_MSGID = auto()
    """A well-formed reply to a msgid that nobody sent."""
    DOUBLED = auto()
    """The answer itself, so that it comes twice."""


class Drop(Enum):
    """How a terminal ends the connection instead of carrying a request out."""

    CLOSE = auto()
    """With a close frame."""
    ABORT = auto()
    """Without one: the TCP connection just ends."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a terminal says to every request instead of carrying it out."""

    status: int
    text: str = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One terminal's manners; the default is that of the document. The parts combine.

    Attributes:
        answer_delay: seconds between carrying a request out and answering it.
        silent: requests are carried out and never answered.
        refusal: requests are not carried out and answered so.
        drop: requests are not carried out, and the connection ends so.
        only_for: the persons to whose requests `refusal` and `drop` apply, None among them for the removal of
            everyone; None for every request.
        garbage: what comes in front of each answer, also where the answer itself is withheld by `silent`.
        flood: frames a second that nobody asked for, each a reply to a msgid that nobody sent.
        keep_alive: what shows that the terminal is there.
        answers_pings: whether the server's pings get their pongs.
        msg_as_object: the reply's `msg` is an object, not a string that holds one.
        status_as_string: the reply's `status` is a string.
    """

    answer_delay: float = 0.0
    silent: bool = False
    refusal: Refusal | None = None
    drop: Drop | None = None
    only_for: frozenset[str | None] | None = None
    garbage: Garbage | None = None
    flood: float = 0.0
    keep_alive: KeepAlive = KeepAlive.PING
    answers_pings: bool = True
    msg_as_object: bool = False
    status_as_string: bool = False
