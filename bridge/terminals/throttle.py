"""Who has given wrong passwords too often is not looked at for a while."""

from collections import OrderedDict
from dataclasses import dataclass

from bridge.core.clock import Clock

_FAILURES = 10
"""Wrong passwords in a row: more than somebody mistypes on a terminal that tries again every few seconds."""
_PAUSE = 30.0
"""Seconds of not being looked at; CONTRACT, section 8, allows a minute."""
_FORGOTTEN = 60.0
"""Seconds without a failure after which the earlier ones count no more."""
_REMEMBERED = 10_000
"""Pairs of address and SN; the one that failed longest ago makes room."""


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class SnThrottle:
    """Counts failures of an address for an SN, so that nobody's failures shut out anybody else."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def wait(self, address: str, sn: str) -> float:
        """Return for how many more seconds these are not looked at; 0 where they are."""
        failures = self._failures.get((address, sn))
        if failures is None or failures.count < _FAILURES:
            return 0
        left = failures.last + _PAUSE - self._clock.boottime()
        if left <= 0:
            # One more try, not ten: whoever fails again waits again.
            failures.count = _FAILURES - 1
            return 0
        return left

    def failed(self, address: str, sn: str) -> None:
        """Count a wrong password."""
        now = self._clock.boottime()
        failures = self._failures.pop((address, sn), None)
        if failures is None or now - failures.last > _FORGOTTEN:
            failures = _Failures(0, now)
        failures.count += 1
        failures.last = now
        self._failures[(address, sn)] = failures
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def not_looked_at(self, address: str, sn: str) -> None:
        """Take a failure back that was counted in advance and turned out to be none."""
        failures = self._failures.get((address, sn))
        if failures is not None and failures.count > 0:
            failures.count -= 1

    def succeeded(self, address: str, sn: str) -> None:
        """Forget earlier failures."""
        self._failures.pop((address, sn), None)

    def __len__(self) -> int:
        return len(self._failures)
