"""The time, as an argument: what decides on ages gets a clock handed in."""

import time
from datetime import UTC, datetime


class Clock:
    """The machine's clocks."""

    def boottime(self) -> float:
        """Return seconds on a scale that never jumps and goes on while the machine sleeps (CLOCK_BOOTTIME).

        Every age of a press is read from it: the monotonic clock stands still in a suspended machine, and a press
        from before the suspension would look fresh.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> datetime:
        """Return the time of day, in UTC, for people and payloads; never for measuring."""
        return datetime.now(UTC)
