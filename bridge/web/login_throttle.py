"""Whoever guesses logins is not looked at for a while."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_address

from bridge.core.clock import Clock

_FAILURES = 10
"""Different wrong logins: more than somebody mistypes."""
_PAUSE = 30.0
"""Seconds of not being looked at; then one more guess, so that an address has some 3,000 a day."""
_FORGOTTEN = 60.0
"""Seconds without a new wrong login after which the earlier ones count no more."""
_REMEMBERED = 10_000
"""Addresses whose failures are remembered; the one that failed longest ago makes room."""


@dataclass(slots=True)
class _Failures:
    wrong: deque[bytes] = field(default_factory=lambda: deque(maxlen=_FAILURES))
    last: float = 0.0


class LoginThrottle:
    """Counts different wrong logins of an address.

    A program that gives the same outdated login again and again guesses nothing: it counts once, and does not shut
    out whoever shares its address. A right login makes none of the wrong ones good: whoever has one of their own could
    guess somebody else's in between.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def wait(self, address: str) -> float:
        """Return for how many more seconds an address is not looked at; 0 where it is."""
        failures = self._failures.get(address)
        if failures is None or len(failures.wrong) < _FAILURES:
            return 0
        return max(0.0, failures.last + _PAUSE - self._clock.boottime())

    def knows(self, address: str, digest: bytes) -> bool:
        """Tell whether an address gave this login (its digest) lately, and it was wrong."""
        failures = self._failures.get(address)
        return failures is not None and digest in failures.wrong

    def failed(self, address: str, digest: bytes) -> None:
        """Count a wrong login."""
        now = self._clock.boottime()
        failures = self._failures.pop(address, None)
        if failures is None or now - failures.last > _FORGOTTEN:
            failures = _Failures()
        failures.wrong.append(digest)
        failures.last = now
        self._failures[address] = failures
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)


def throttled_address(remote: str | None) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 network that one IPv6 host has to itself."""
    try:
        address = ip_address(remote or "")
    except ValueError:
        return "unknown"
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), 64), strict=False))
