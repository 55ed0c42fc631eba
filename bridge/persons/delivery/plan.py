"""Decides what is sent to a terminal next: pure functions of its pending changes and of the attempts so far.

The newest change of every person is one entry, so the order of changes to one person needs no attention here. The
removal of everyone does: later changes must not precede it. Earlier ones are removed, or sent again after it.

Removals and disabled persons go first, because each may be someone who must not pass the door any more. An entry that
the terminal leaves unanswered becomes *slow*: it then gets one frame in `SLOW_INTERVAL`, so that it cannot hold up the
others, and they cannot hold it up.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bridge.model.person_entry import PersonEntry

MAX_ATTEMPTS_FIRST = 3
"""Attempts without an answer after which an entry is slow: a person that makes the terminal crash must not keep all
others out."""

SLOW_INTERVAL = 8
"""One frame in so many goes to a slow entry while there are others to send."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts to send an entry that have no answer.

    Attributes:
        count: their number, at least 1.
        due: the time of the next one (`Clock.boottime`).
    """

    count: int
    due: float

    @property
    def is_slow(self) -> bool:
        """Whether the entry lets the others go first."""
        return self.count >= MAX_ATTEMPTS_FIRST


@dataclass(frozen=True, slots=True)
class Send:
    """Send the entry of this revision now. It may be a slow one that is not in the window any more."""

    revision: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Send nothing before `until` (`Clock.boottime`); None: before something changes."""

    until: float | None


def next_step(
    window: Sequence[PersonEntry],
    answered: Collection[int],
    attempts: Mapping[int, Attempts],
    frames_since_slow: int,
    now: float,
) -> Send | Wait:
    """Return the next step while no frame is in flight.

    Args:
        window: the first changes that are neither answered nor slow, of removals and of all others.
        answered: revisions whose answer is not stored yet.
        attempts: by revision, the attempts that have no answer, also of slow entries that are not in the window.
        frames_since_slow: the number of frames that were sent since the last one with a slow entry.
        now: the present time, on the scale of the others (`Clock.boottime`).
    """
    everyone = next((one for one in window if one.person_id is None and one.revision not in answered), None)
    if everyone is not None:
        due_at = _due(everyone.revision, attempts)
        return Send(everyone.revision) if due_at <= now else Wait(due_at)
    prompt = [one for one in window if one.revision not in answered and not _is_slow(one, attempts)]
    slow = {revision: one.due for revision, one in attempts.items() if one.is_slow and revision not in answered}
    due = [one for one in prompt if _due(one.revision, attempts) <= now]
    due_slow = [revision for revision, due_at in slow.items() if due_at <= now]
    if due_slow and (not due or frames_since_slow >= SLOW_INTERVAL - 1):
        return Send(min(due_slow, key=lambda revision: (slow[revision], revision)))
    if due:
        return Send(min(due, key=lambda one: (one.held, one.revision)).revision)
    times = [*(_due(one.revision, attempts) for one in prompt), *slow.values()]
    return Wait(min(times, default=None))


def is_finished(entry: PersonEntry, answered: Collection[int], attempts: Mapping[int, Attempts]) -> bool:
    """Return whether the window has no use for an entry any more: it is answered, or slow.

    The removal of everyone stays in the window until it is answered, because nothing may pass it.
    """
    return entry.revision in answered or (entry.person_id is not None and _is_slow(entry, attempts))


def next_start(
    entries: Sequence[PersonEntry], start: int, answered: Collection[int], attempts: Mapping[int, Attempts]
) -> int:
    """Return the revision after which the next window begins.

    Args:
        entries: the removals of the present window by revision, or its other entries.
        start: the revision after which this window began.
        answered: as in `next_step`.
        attempts: as in `next_step`.
    """
    for entry in entries:
        if not is_finished(entry, answered, attempts):
            break
        start = entry.revision
    return start


def repeat_seconds(count: int, first: float, longest: float) -> float:
    """Return the seconds between the `count`-th attempt and the next: doubled each time, up to `longest`."""
    # After months of attempts, 2**count would be too large for a float.
    return min(first * 2.0 ** min(count - 1, 32), longest)


def _due(revision: int, attempts: Mapping[int, Attempts]) -> float:
    earlier = attempts.get(revision)
    return float("-inf") if earlier is None else earlier.due


def _is_slow(entry: PersonEntry, attempts: Mapping[int, Attempts]) -> bool:
    earlier = attempts.get(entry.revision)
    return earlier is not None and earlier.is_slow
