"""What goes to a terminal next: a pure function of what it has yet to confirm and what was tried.

Every person's newest change is one entry, so that the order of changes to one person needs no care here. The removal
of everyone does: what was asked before it must not follow it, and what was asked after it must not precede it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bridge.model.person_entry import PersonEntry

PATIENCE = 3
"""Tries after which an entry without an answer lets the others go first: one that makes the terminal fall over must
not keep everyone else out."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often an entry went out without an answer.

    Attributes:
        count: at least once.
        due: when it goes out again (`Clock.boottime`).
    """

    count: int
    due: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send this entry now."""

    entry: PersonEntry


@dataclass(frozen=True, slots=True)
class Wait:
    """Send nothing before `until` (`Clock.boottime`), None for as long as nothing changes."""

    until: float | None


def next_step(
    pending: Sequence[PersonEntry],
    answered: Collection[int],
    tries: Mapping[int, Tries],
    busy_until: float | None,
    now: float,
) -> Send | Wait:
    """Decide what to do next.

    Args:
        pending: what the terminal has yet to confirm, by revision; later ones may be left out.
        answered: revisions that have an answer which the store does not show yet.
        tries: by revision, what went out and has no answer.
        busy_until: until when the answer to the frame in flight is waited for; None where none is.
        now: the time, on the scale of the others (`Clock.boottime`).
    """
    open_entries = [entry for entry in pending if entry.revision not in answered]
    sendable = _up_to_removal(open_entries)
    if not sendable:
        return Wait(None)
    if busy_until is not None and now < busy_until:
        return Wait(busy_until)
    due = [entry for entry in sendable if _due(entry, tries) <= now]
    if not due:
        return Wait(min(_due(entry, tries) for entry in sendable))
    return Send(min(due, key=lambda entry: (_count(entry, tries) >= PATIENCE, entry.revision)))


def repeat_after(count: int, first: float, longest: float) -> float:
    """Return the seconds between the `count`-th try and the next: doubled each time, up to `longest`."""
    # 2**count of a try that has gone on for months would be too large for a float.
    return min(first * 2.0 ** min(count - 1, 32), longest)


def _up_to_removal(entries: Sequence[PersonEntry]) -> Sequence[PersonEntry]:
    for index, entry in enumerate(entries):
        if entry.person_id is None:
            return entries[: index or 1]
    return entries


def _due(entry: PersonEntry, tries: Mapping[int, Tries]) -> float:
    tried = tries.get(entry.revision)
    return float("-inf") if tried is None else tried.due


def _count(entry: PersonEntry, tries: Mapping[int, Tries]) -> int:
    tried = tries.get(entry.revision)
    return 0 if tried is None else tried.count
