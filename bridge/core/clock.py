"""The clock, the event-loop stall detector, and the kernel's boot id."""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path


class Clock:
    """The machine's clocks."""

    def boottime(self) -> float:
        """Return seconds that never jump and go on while the machine sleeps (CLOCK_BOOTTIME).

        Ages of presses are computed from it. The monotonic clock stands still in a suspended machine: a press from
        before the suspension would look fresh.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> datetime:
        """Return the time of day in UTC, for people and payloads; never for measuring."""
        return datetime.now(UTC)


_TICK_SECONDS = 0.1
"""The stall detector reads the clock this often: well below the shortest deadline (1 s)."""

_TOLERANCE_SECONDS = 0.1
"""A tick that is later than this is a stall. The ordinary delays of a busy event loop are shorter."""

_CAUTION_SECONDS = 1.0
"""After a stall, requests that are read within this time may have waited through it: the event loop needs several
rounds to accept a queue of connections and to read their requests."""


class StallDetector:
    """An event-loop stall detector that bounds the age of a request which is read now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_tick = clock.boottime()
        self._stalled_since = self._last_tick
        self._cautious_until = self._last_tick

    def arrived_at(self) -> float:
        """Return the earliest time (`Clock.boottime`) at which a request that is read now can have arrived."""
        now = self._clock.boottime()
        if now < self._cautious_until:
            return self._stalled_since
        if now - self._last_tick > _TICK_SECONDS + _TOLERANCE_SECONDS:
            return self._last_tick
        return now

    async def run(self) -> None:
        """Detect stalls until cancelled."""
        while True:
            self._tick()
            await asyncio.sleep(_TICK_SECONDS)

    def _tick(self) -> None:
        now = self._clock.boottime()
        if now - self._last_tick > _TICK_SECONDS + _TOLERANCE_SECONDS:
            if now >= self._cautious_until:
                self._stalled_since = self._last_tick
            self._cautious_until = now + _CAUTION_SECONDS
        self._last_tick = now


_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> str:
    """Return the kernel's id of this boot; if there is none, a random one that never equals a stored one."""
    try:
        return _BOOT_ID_FILE.read_text().strip()
    except OSError:
        return str(uuid.uuid4())
