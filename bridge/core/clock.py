"""The clock, the id of this start of the machine, and the event-loop stall detector."""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path


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


_TICK = 0.1
"""Seconds between two looks at the clock: well below the shortest deadline (1 s)."""
_TOLERANCE = 0.1
"""Seconds a tick may be late before it counts as a stall; a busy loop's ordinary hiccups stay below."""
_CAUTION = 1.0
"""Seconds after a stall in which what is read may have waited through it: accepting a queue of connections and reading
their requests takes several rounds of the event loop."""


class StallDetector:
    """Tells since when a request that is being read now may have been waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_tick = clock.boottime()
        self._stalled_since = self._last_tick
        self._cautious_until = self._last_tick

    def arrived_at(self) -> float:
        """Return the earliest time (`Clock.boottime`) at which a request read now can have arrived."""
        now = self._clock.boottime()
        if now < self._cautious_until:
            return self._stalled_since
        if now - self._last_tick > _TICK + _TOLERANCE:
            return self._last_tick
        return now

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._tick()
            await asyncio.sleep(_TICK)

    def _tick(self) -> None:
        now = self._clock.boottime()
        if now - self._last_tick > _TICK + _TOLERANCE:
            if now >= self._cautious_until:
                self._stalled_since = self._last_tick
            self._cautious_until = now + _CAUTION
        self._last_tick = now


_KERNEL = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> str:
    """Return the kernel's id of this start; where there is none, one that never matches a stored one."""
    try:
        return _KERNEL.read_text().strip()
    except OSError:
        return str(uuid.uuid4())
