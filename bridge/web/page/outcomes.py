"""The outcome of a command in words for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bridge.model.reply import Outcome, Reply
from bridge.web.page.translations import noop

Tone = Literal["good", "bad", "warn", ""]

OUTCOME_NAMES: Mapping[str, str] = {
    "ok": noop("done"),
    "refused": noop("refused"),
    "accepted": noop("stored"),
    "superseded": noop("superseded"),
    "offline": noop("offline"),
    "timeout": noop("no answer"),
    "lost": noop("connection lost"),
    "expired": noop("too late"),
    "invalid": noop("invalid"),
    "unavailable": noop("not possible now"),
}
"""The name of each outcome."""

COMMAND_NAMES: Mapping[str, str] = {
    "open": noop("Open"),
    "reboot": noop("Restart"),
    "setPerson": noop("Set person"),
    "removePerson": noop("Remove person"),
    "getPersons": noop("List persons"),
    "syncPersons": noop("Send again"),
    "admit": noop("Approve"),
    "forget": noop("Forget"),
}
"""The name of each command."""

_REASONS: Mapping[Outcome, str] = {
    Outcome.REFUSED: noop("The terminal refused."),
    Outcome.SUPERSEDED: noop("A later change replaced it."),
    Outcome.OFFLINE: noop("The terminal is offline."),
    Outcome.TIMEOUT: noop("The terminal did not answer in time."),
    Outcome.LOST: noop("The connection to the terminal broke before the answer."),
    Outcome.EXPIRED: noop("The request reached the bridge too late."),
    Outcome.INVALID: noop("The request is not valid."),
    Outcome.UNAVAILABLE: noop("The bridge cannot do this now."),
}

_DONE: Mapping[str, str] = {
    "open": noop("The door is open."),
    "reboot": noop("The terminal restarts."),
    "syncPersons": noop("Everything is sent again."),
}
_NOT_DONE: Mapping[str, str] = {
    "open": noop("Not opened."),
    "reboot": noop("Not restarted."),
    "syncPersons": noop("Not sent again."),
}
_PERHAPS_DONE: Mapping[str, str] = {
    "open": noop("Perhaps opened: look at the door."),
    "reboot": noop("Perhaps restarted: look at the terminal."),
}

_TONES: Mapping[Outcome, Tone] = {Outcome.OK: "good", Outcome.ACCEPTED: "good", Outcome.SUPERSEDED: "warn"}


@dataclass(frozen=True, slots=True)
class OutcomeText:
    """An outcome in words; every text but `detail` is to be translated.

    Attributes:
        tone: how it is shown.
        headline: whether the command was carried out.
        reason: why not; None if it was.
        detail: the terminal's or the bridge's own words.
    """

    tone: Tone
    headline: str
    reason: str | None
    detail: str | None


def describe_outcome(reply: Reply) -> OutcomeText:
    """Return a reply to a press or a sync in words."""
    done = reply.outcome in (Outcome.OK, Outcome.ACCEPTED)
    is_unclear = reply.outcome in (Outcome.TIMEOUT, Outcome.LOST) and reply.delivered is not False
    names = _DONE if done else _PERHAPS_DONE if is_unclear else _NOT_DONE
    detail = reply.message if reply.outcome in (Outcome.REFUSED, Outcome.INVALID, Outcome.UNAVAILABLE) else None
    return OutcomeText(
        tone="good" if done else "warn" if is_unclear else "bad",
        headline=names.get(reply.command, OUTCOME_NAMES[reply.outcome.value]),
        reason=None if done else _REASONS[reply.outcome],
        detail=detail,
    )


def tone_of(outcome: Outcome) -> Tone:
    """Return how an outcome is shown in a list."""
    return _TONES.get(outcome, "bad")
