"""Every event that goes round inside the bridge; each docstring is its reference."""

from dataclasses import dataclass
from datetime import datetime

from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event has.

    Attributes:
        at: when it happened, with an offset.
    """

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalConnected(Event):
    """A terminal is connected; `replaced` where its new connection took the place of an older one."""

    sn: str
    address: str
    replaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalDisconnected(Event):
    """A terminal's last connection is gone. Not sent for a connection that another has replaced."""

    sn: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalPending(Event):
    """A terminal with right credentials waits for approval."""

    sn: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalRefused(Event):
    """Somebody was turned away at the terminals' door."""

    sn: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAdmitted(Event):
    """A terminal has become known, or its name, area or groups have changed."""

    sn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalForgotten(Event):
    """A terminal is no longer known; its topics and entities are to be cleared."""

    sn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChanged(Event):
    """The list of terminals that wait for approval has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsChanged(Event):
    """A terminal's person counts have changed; sent after the commit."""

    sn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReplied(Event):
    """A command has its answer, whichever face it came in by."""

    reply: Reply
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSettled(Event):
    """A person change has its last word, which the outbox tells whoever asked; sent after the commit."""

    reply: Reply
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReplied(Event):
    """Every member of a group has ended."""

    summary: GroupSummary
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownReply(Event):
    """A terminal answered a msgid that nothing waits for: late, doubled or invented."""

    sn: str
    msgid: str
