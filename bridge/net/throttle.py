"""Throttling of login attempts after repeated failures."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bridge.core.clock import Clock

_KeyT = TypeVar("_KeyT", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleLimits:
    """Limits of a `LoginThrottle`.

    Attributes:
        max_failures: failures in a row before a key is blocked. Ten are more than typing errors explain, also on a
            terminal that tries again every few seconds.
        block_seconds: how long a key stays blocked; docs/protocol.md allows a minute for terminals. After that each
            further failure blocks it again, so that a guesser has some 3,000 attempts a day.
        forget_seconds: time without a failure after which earlier failures no longer count.
        max_keys: keys that are remembered; the one with the oldest failure is dropped first.
    """

    max_failures: int = 10
    block_seconds: float = 30.0
    forget_seconds: float = 60.0
    max_keys: int = 10_000


@dataclass(slots=True)
class _Failures:
    attempts: deque[bytes | None]
    last: float = field(default=0.0)


class LoginThrottle(Generic[_KeyT]):
    """Failed logins by key; a key with too many of them is blocked for a while.

    Clients with the same key share a counter: the key is an address, or an address and a terminal's SN.
    """

    def __init__(self, clock: Clock, limits: ThrottleLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or ThrottleLimits()
        self._failures: OrderedDict[_KeyT, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def seconds_blocked(self, key: _KeyT) -> float:
        """Return for how many more seconds a key is blocked; 0 if it is not."""
        failures = self._failures.get(key)
        if failures is None or len(failures.attempts) < self._limits.max_failures:
            return 0
        return max(0.0, failures.last + self._limits.block_seconds - self._clock.boottime())

    def failed(self, key: _KeyT, attempt: bytes | None = None) -> None:
        """Count a failure.

        Args:
            key: who failed.
            attempt: a digest of the login that was wrong, for `is_known_failure`; None if that is not needed.
        """
        now = self._clock.boottime()
        failures = self._failures.pop(key, None)
        if failures is None or now - failures.last > self._limits.forget_seconds:
            failures = _Failures(deque(maxlen=self._limits.max_failures))
        # The deque is bounded: after the block one more failure fills it again, and the key is blocked again.
        failures.attempts.append(attempt)
        failures.last = now
        self._failures[key] = failures
        if len(self._failures) > self._limits.max_keys:
            self._failures.popitem(last=False)

    def withdraw_failure(self, key: _KeyT) -> None:
        """Uncount a failure that was counted before the login was verified: it was right, or never verified."""
        failures = self._failures.get(key)
        if failures is not None and failures.attempts:
            failures.attempts.pop()

    def succeeded(self, key: _KeyT) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)

    def is_known_failure(self, key: _KeyT, attempt: bytes) -> bool:
        """Return whether this login of this key was counted as wrong and is still remembered."""
        failures = self._failures.get(key)
        return failures is not None and attempt in failures.attempts
