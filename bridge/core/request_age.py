"""The age of a press: from what the bridge measured, and from the requester's `asked_at`."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.core.clock import Clock
from bridge.model.asked_at import CLOCKS_DIFFER
from bridge.model.reply import format_time

_CLOCK_TOLERANCE_SECONDS = 1.0
"""Difference of two clocks from which a reply names them. Clocks that a time server sets differ by far less, and with
the default deadline a press is `expired` if its sender's clock is 1.5 s behind."""


@dataclass(frozen=True, slots=True)
class RequestAge:
    """What is known about the time of a request.

    Attributes:
        requested_at: the time from which the deadline counts (`Clock.boottime`). None if it is unknown.
        note: both clocks, for the reply to a request that is too old; empty if they agree.
    """

    requested_at: float | None
    note: str


def request_age(clock: Clock, measured_at: float | None, asked_at: datetime | None, max_age: float) -> RequestAge:
    """Return the age of a request that the bridge handles now.

    Args:
        clock: the bridge's clocks.
        measured_at: the earliest time (`Clock.boottime`) at which the request can have been made, as the bridge
            measured it; None if it could not.
        asked_at: the requester's time.
        max_age: seconds after which the request is not carried out.
    """
    if asked_at is None:
        return RequestAge(measured_at, "")
    now, boottime = clock.now(), clock.boottime()
    asked_seconds_ago = (now - asked_at).total_seconds()
    # A time in the future counts as now: what the bridge measured is at least as old.
    requested_at = None if measured_at is None else min(measured_at, boottime - max(asked_seconds_ago, 0.0))
    measured_seconds_ago = 0.0 if measured_at is None else boottime - measured_at
    if abs(asked_seconds_ago - measured_seconds_ago) <= min(_CLOCK_TOLERANCE_SECONDS, max_age):
        return RequestAge(requested_at, "")
    received = format_time(now - timedelta(seconds=measured_seconds_ago))
    note = (
        f"asked_at is {format_time(asked_at)}, and the bridge's clock showed {received} when the request arrived: it"
        f" waited on the way, or {CLOCKS_DIFFER}; set both with NTP, to within a second"
    )
    return RequestAge(requested_at, note)
