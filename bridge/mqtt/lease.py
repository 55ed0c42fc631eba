"""How old a press can be at most: the lease of DESIGN ("a press can also be late on the way in").

A heartbeat with a nonce goes to the broker and comes back over the live connection, among the presses and with their
QoS. A press is no older than the publishing of the last echo that came in before it. Pure: it publishes nothing.
"""

import hmac
from collections.abc import Callable

from bridge.core.clock import Clock

_LONGEST_INTERVAL = 1.0
_BEATS_A_DEADLINE = 8
"""A press may be taken for older than it is by an interval; an eighth of the deadline is little to lose."""

_CAUTION = 1.0
"""Seconds that echoes must have been prompt after a silence: a thawed broker works off its clients' buffers one packet
at a time, old presses among fresh echoes. So too on a new connection, of which nobody knows whether its broker has just
thawed: measured without, 1,225 of 1,275 late presses would have been obeyed."""

_LOST = 5.0
"""Seconds after which a heartbeat counts as lost (a broker drops messages where a client's queue is full) and goes out
again, as the same one: its echo still carries the time of the first."""


class Lease:
    """Bounds the age of what comes in over the live connection."""

    def __init__(self, clock: Clock, deadline: float, new_nonce: Callable[[], str]) -> None:
        """Build the lease.

        Args:
            clock: that ages are read from.
            deadline: `commands.deadline`, in seconds.
            new_nonce: makes a text nobody can guess, never the same twice.
        """
        self._clock = clock
        # Not from the heartbeat's publishing: where bridge and broker stood still together (a suspended machine that
        # runs both), the first heartbeat afterwards is answered at once, and none was on its way before.
        self._silence = deadline / 2
        self._new_nonce = new_nonce
        self.interval = min(_LONGEST_INTERVAL, deadline / _BEATS_A_DEADLINE)
        self._outstanding: bytes | None = None
        self._published_at = 0.0
        self._repeated_at = 0.0
        self._valid_from: float | None = None
        self._heard_at = 0.0
        self._cautious_since: float | None = None
        self.reset()

    @property
    def ready(self) -> bool:
        """Whether a press that comes in now can be dated."""
        return self.asked_at() is not None

    def reset(self) -> None:
        """Begin anew, cautiously: what the last connection showed says nothing about this one."""
        self._outstanding = None
        self._valid_from = None
        self._heard_at = self._cautious_since = self._clock.boottime()

    def beat(self) -> bytes | None:
        """Return a heartbeat to publish now; None while one is on its way, so that one that is stuck keeps its age."""
        now = self._clock.boottime()
        if self._outstanding is None:
            self._outstanding = self._new_nonce().encode()
            self._published_at = now
        elif now - self._repeated_at < _LOST:
            return None
        self._repeated_at = now
        return self._outstanding

    def echo(self, payload: bytes) -> bool:
        """Take what came in on the heartbeat's topic; return whether it was ours."""
        if self._outstanding is None or not hmac.compare_digest(payload, self._outstanding):
            return False
        now = self._clock.boottime()
        if now - self._heard_at > self._silence:
            self._cautious_since = now
        elif self._cautious_since is not None and now - self._cautious_since >= _CAUTION:
            self._cautious_since = None
        self._heard_at = now
        self._outstanding = None
        self._valid_from = self._published_at
        return True

    def asked_at(self) -> float | None:
        """Return the earliest time at which a press that comes in now can have been asked for; None: cannot be told."""
        return None if self._cautious_since is not None else self._valid_from
