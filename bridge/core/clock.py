"""The clock, the ticks of periodic work, the event-loop stall detector, and the kernel's boot id."""

import asyncio
import math
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


TICK_SECONDS = 0.1
"""The time between two ticks. The stall detector reads the clock at each: well below the shortest deadline (1 s).

Periodic work that can wait begins on a tick. Each wake-up of an idle process takes 0.1 ms of processor time, as much as
most of the work for which it wakes up; on a tick it is awake already.
"""

_TICK_TOLERANCE_SECONDS = 0.002
"""A timer can end this much too early: event loops count milliseconds."""


def seconds_to_tick(at_least: float) -> float:
    """Return the time until the first tick that is at least so many seconds away."""
    now = asyncio.get_running_loop().time()
    tick = math.ceil((now + at_least - _TICK_TOLERANCE_SECONDS) / TICK_SECONDS)
    return max(at_least, tick * TICK_SECONDS - now)


async def sleep_ticks(number: int) -> None:
    """Sleep until the n-th tick from now: at most `number` times `TICK_SECONDS`."""
    now = asyncio.get_running_loop().time()
    tick = math.floor((now + _TICK_TOLERANCE_SECONDS) / TICK_SECONDS) + number
    await asyncio.sleep(tick * TICK_SECONDS - now)


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
        if now - self._last_tick > TICK_SECONDS + _TOLERANCE_SECONDS:
            return self._last_tick
        return now

    async def run(self) -> None:
        """Detect stalls until cancelled."""
        while True:
            self._tick()
            await sleep_ticks(1)

    def _tick(self) -> None:
        now = self._clock.boottime()
        if now - self._last_tick > TICK_SECONDS + _TOLERANCE_SECONDS:
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
