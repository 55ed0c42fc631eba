"""Decides whether the clock may be used to remove expired persons.

A clock that has jumped years ahead, after an empty battery for example, would make every temporary person look expired.
"""

import ctypes
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from bridge.core.clock import Clock

_LOGGER = logging.getLogger(__name__)

MAX_JUMP = timedelta(days=2)
"""A clock may be ahead by so much of what the last time lets expect: the bridge was off over a weekend."""

WAIT_SECONDS = 86400.0
"""Time for which a clock that jumped further is not trusted: long enough to read the warning and to set the clock."""

_TIME_ERROR = 5
"""The result of adjtimex(2) if no program synchronises the clock."""

_TIMEX_BYTES = 512
"""More than the size of `struct timex`."""


class ClockTrust:
    """Compares the clock with the last trusted time, and with the time since the machine's start."""

    def __init__(self, clock: Clock, is_synchronised: Callable[[], bool]) -> None:
        """Begin without a trusted time.

        Args:
            clock: the machine's clock.
            is_synchronised: returns whether a time server sets the clock.
        """
        self._clock = clock
        self._is_synchronised = is_synchronised
        self._trusted: tuple[datetime, float] | None = None
        self._suspect_since: float | None = None

    def now(self, last_known: datetime | None) -> datetime | None:
        """Return the time, or None if it cannot be trusted now.

        Args:
            last_known: the newest time that an earlier process has trusted.
        """
        now, boottime = self._clock.now(), self._clock.boottime()
        expected = last_known
        if self._trusted is not None:
            time, at = self._trusted
            expected = time + timedelta(seconds=boottime - at)
        is_plausible = expected is not None and now <= expected + MAX_JUMP
        if not is_plausible and not self._is_synchronised() and not self._has_waited(now, expected, boottime):
            return None
        self._suspect_since = None
        self._trusted = now, boottime
        return now

    def _has_waited(self, now: datetime, expected: datetime | None, boottime: float) -> bool:
        if self._suspect_since is None:
            self._suspect_since = boottime
            _LOGGER.warning(
                "the clock says %s, but the last known time is %s, and no time server sets it: expired persons are not"
                " removed for a day; set the clock, or run a time service such as chrony",
                now.isoformat(timespec="seconds"),
                "missing" if expected is None else expected.isoformat(timespec="seconds"),
            )
        return boottime - self._suspect_since >= WAIT_SECONDS


def kernel_clock_is_synchronised() -> bool:
    """Return whether the kernel says that a time server sets its clock; a container sees the host's."""
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR
