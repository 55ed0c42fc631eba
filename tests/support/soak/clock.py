"""The one clock of a soak, which all its processes share."""

import time

DEADLINE_SECONDS = 5.0
"""`commands.deadline` of the soak's bridge: the default."""


def now() -> float:
    """Return the seconds since the machine started (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def time_of_day() -> float:
    """Return the seconds since 1970, for `asked_at`."""
    return time.time_ns() / 1e9


def from_realtime(nanoseconds: int) -> float:
    """Return the time of this clock for a recent time of day, as the kernel puts it on packets."""
    return now() - (time.time_ns() - nanoseconds) / 1e9
