"""Recognise a press that arrives again: a publisher, a broker in between or an HTTP client may send it twice."""

import asyncio
import heapq
from datetime import datetime
from typing import Any

from bridge.core.clock import Clock

_MAX_PRESSES = 10_000
"""Presses that are remembered: ten times as many as can be in progress. It bounds the memory in a flood."""

_MAX_SECONDS = 7 * 24 * 3600.0
"""The longest time for which a press with a time in the future is remembered."""

_MIN_SECONDS = 600.0
"""A press is remembered for at least this time: ten times the longest deadline, because a publisher that loses its
connection sends a message again when it is connected again, often after the deadline. `expired` would then say that a
press was not carried out that was."""


class RepeatedPresses:
    """The presses with `asked_at` that were started lately, by a digest of the request.

    A press is remembered until its `asked_at` alone makes it too old, and for ten minutes at least. Without
    `asked_at` two equal requests are two presses. A press that was asked for before the bridge started is not
    remembered, and `Presses` does not carry it out.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin without presses; the clock dates them."""
        self._clock = clock
        self._presses: dict[str, asyncio.Future[Any]] = {}
        self._forget_at: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._presses)

    def find(self, digest: str) -> "asyncio.Future[Any] | None":
        """Return the press that was started for a request with this digest."""
        self._forget(self._clock.boottime())
        return self._presses.get(digest)

    def add(self, digest: str, press: "asyncio.Future[Any]", asked_at: datetime) -> None:
        """Remember a press that starts now; `find` must not know its digest."""
        now = self._clock.boottime()
        seconds_ahead = (asked_at - self._clock.now()).total_seconds()
        forget_at = now + min(max(seconds_ahead, 0.0), _MAX_SECONDS) + _MIN_SECONDS
        self._presses[digest] = press
        heapq.heappush(self._forget_at, (forget_at, digest))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._forget_at and (self._forget_at[0][0] <= now or len(self._forget_at) > _MAX_PRESSES):
            del self._presses[heapq.heappop(self._forget_at)[1]]
