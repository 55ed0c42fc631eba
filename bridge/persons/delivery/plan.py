"""Decides what is sent to a terminal next: a pure function of its pending changes and of the attempts so far.

The newest change of every person is one entry, so the order of changes to one person needs no attention here. The
removal of everyone does: earlier changes must not follow it, and later changes must not precede it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bridge.model.person_entry import PersonEntry

MAX_ATTEMPTS_FIRST = 3
"""Attempts after which an unanswered entry lets the others go first: a person that makes the terminal crash must not
keep all others out."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts to send an entry that have no answer.

    Attributes:
        count: their number, at least 1.
        due: the time of the next one (`Clock.boottime`).
    """

    count: int
    due: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send this entry now."""

    entry: PersonEntry


@dataclass(frozen=True, slots=True)
class Wait:
    """Send nothing before `until` (`Clock.boottime`); None: before something changes."""

    until: float | None


def next_step(
    pending: Sequence[PersonEntry],
    answered: Collection[int],
    attempts: Mapping[int, Attempts],
    busy_until: float | None,
    now: float,
) -> Send | Wait:
    """Return the next step.

    Args:
        pending: the changes that the terminal has not confirmed yet, by revision; later ones may be missing.
        answered: revisions whose answer is not stored yet.
        attempts: by revision, the attempts that have no answer.
        busy_until: the time until which the answer to the frame in flight is awaited; None: no frame is in flight.
        now: the present time, on the scale of the others (`Clock.boottime`).
    """
    open_entries = [entry for entry in pending if entry.revision not in answered]
    sendable = _up_to_removal(open_entries)
    if not sendable:
        return Wait(None)
    if busy_until is not None and now < busy_until:
        return Wait(busy_until)
    due = [entry for entry in sendable if _due(entry, attempts) <= now]
    if not due:
        return Wait(min(_due(entry, attempts) for entry in sendable))
    return Send(min(due, key=lambda entry: (_count(entry, attempts) >= MAX_ATTEMPTS_FIRST, entry.revision)))


def repeat_seconds(count: int, first: float, longest: float) -> float:
    """Return the seconds between the `count`-th attempt and the next: doubled each time, up to `longest`."""
    # After months of attempts, 2**count would be too large for a float.
    return min(first * 2.0 ** min(count - 1, 32), longest)


def _up_to_removal(entries: Sequence[PersonEntry]) -> Sequence[PersonEntry]:
    for index, entry in enumerate(entries):
        if entry.person_id is None:
            return entries[: index or 1]
    return entries


def _due(entry: PersonEntry, attempts: Mapping[int, Attempts]) -> float:
    earlier = attempts.get(entry.revision)
    return float("-inf") if earlier is None else earlier.due


def _count(entry: PersonEntry, attempts: Mapping[int, Attempts]) -> int:
    earlier = attempts.get(entry.revision)
    return 0 if earlier is None else earlier.count
