"""The lease: bound the age of presses by a heartbeat that goes through the broker (docs/promises.md).

The bridge publishes a heartbeat with a nonce and receives it over the live connection, among the presses and with
their QoS. A press is no older than the publishing of the last echo that arrived before it. `Lease` is pure;
`Heartbeat` publishes.
"""

import asyncio
import hmac
import logging
import math
from collections.abc import Callable
from contextlib import suppress

from bridge.core.clock import Clock
from bridge.mqtt.client.connection import Message, MqttConnection, NotConnectedError, Publication

_LOGGER = logging.getLogger(__name__)

_MAX_INTERVAL_SECONDS = 1.0
_HEARTBEATS_PER_DEADLINE = 8
"""A press can look older than it is by one interval. An eighth of the deadline is a small loss."""

_LATE_FRACTION = 0.5
"""An echo is late if it exceeds the interval by this part of it. A quarter of a second over the Internet is prompt."""

_MIN_CAUTION_SECONDS = 1.0
"""After a silence, echoes must be prompt for as long as the silence lasted, and at least for this long. A broker that
stood still (frozen, suspended) works off its clients' buffers one packet at a time afterwards, so old presses arrive
among fresh echoes. The same holds on a new connection, whose broker may have stood still a moment ago. Measured without
this: 1,225 of 1,275 late presses would have been carried out. Measured with a constant second: a press of 11.8 s was
carried out after 8 s of silence, which had left 60,000 packets."""

_MIN_PAUSE_SECONDS = 0.05
_PAYING_OFF_MARGIN = 1.02
"""While there is a debt, heartbeats are spread so that the last echo pays it off: at a start after 1.0 s instead of two
whole intervals (1.25 s). The margin pays for what the echoes took on their way."""

_MAX_CAUTION_SECONDS = 30.0
"""A machine that was suspended for a night must not refuse presses for a day. Mosquitto works off some 16,000 packets a
second, so this covers half a million."""

_MAX_RECONNECT_CAUTION_SECONDS = 5.0
"""On a new connection the silence is mostly an outage, in which no packets wait at the broker."""

_LOST_SECONDS = 5.0
"""A heartbeat without an echo counts as lost after this time (a broker drops messages if a client's queue is full). It
is published again with the same nonce: its echo still dates from the first publishing."""

_OVERDUE_SECONDS = 10.0
"""Warn after this many seconds without an echo on a new connection. Echoes take milliseconds, and the lease's caution
a second or two. A broker whose access rules block the heartbeat reports nothing itself."""


class Lease:
    """Bounds the age of messages that arrive over the live connection."""

    def __init__(self, clock: Clock, deadline: float, new_nonce: Callable[[], str]) -> None:
        """Build the lease.

        Args:
            clock: ages are computed from it.
            deadline: `commands.deadline`, in seconds.
            new_nonce: returns a text that others cannot guess, never the same twice.
        """
        self._clock = clock
        # Measured from echo to echo, not from the heartbeat's publishing: if bridge and broker stood still together (a
        # suspended machine that runs both), no heartbeat was under way, and the next one is echoed at once.
        self._max_silence_seconds = deadline / 2
        self._new_nonce = new_nonce
        self.interval = min(_MAX_INTERVAL_SECONDS, deadline / _HEARTBEATS_PER_DEADLINE)
        self._outstanding: bytes | None = None
        self._published_at = 0.0
        self._repeated_at = 0.0
        self._valid_from: float | None = None
        self._last_echo_at = clock.boottime()
        self._silent_since = self._last_echo_at
        # Stalls of the broker add up: packets that wait through one of them may wait through the next one too. The debt
        # is the sum of what the echoes were late, and prompt echoes pay it off. As long as there is one, a press may
        # be as old as the debt.
        self._debt_seconds = 0.0
        self._debt_since: float | None = None
        self.reset()

    @property
    def ready(self) -> bool:
        """Whether a press that arrives now has a known age."""
        return self.requested_at() is not None

    @property
    def pause_seconds(self) -> float:
        """The time until the next heartbeat."""
        if not self._debt_seconds:
            return self.interval
        debt_seconds = max(self._debt_seconds * _PAYING_OFF_MARGIN, _MIN_PAUSE_SECONDS)
        return debt_seconds / math.ceil(debt_seconds / self.interval)

    def reset(self) -> None:
        """Start again, with caution: the echoes of the last connection say nothing about the new one."""
        now = self._clock.boottime()
        caution = min(max(now - self._silent_since, _MIN_CAUTION_SECONDS), _MAX_RECONNECT_CAUTION_SECONDS)
        self._debt_seconds = max(self._debt_seconds, caution)
        self._debt_since = self._valid_from = self._outstanding = None
        self._last_echo_at = now

    def next_heartbeat(self) -> bytes | None:
        """Return a heartbeat to publish now, None while one is outstanding: one that is stuck must keep its age."""
        now = self._clock.boottime()
        if self._outstanding is None:
            self._outstanding = self._new_nonce().encode()
            self._published_at = now
        elif now - self._repeated_at < _LOST_SECONDS:
            return None
        self._repeated_at = now
        return self._outstanding

    def echo(self, payload: bytes) -> bool:
        """Handle a payload from the heartbeat's topic; return whether it is the outstanding heartbeat."""
        if self._outstanding is None or not hmac.compare_digest(payload, self._outstanding):
            return False
        now = self._clock.boottime()
        silence_seconds = now - self._last_echo_at
        late_seconds = max(silence_seconds - self.interval, now - self._published_at)
        if late_seconds > self.interval * _LATE_FRACTION:
            self._add_debt(late_seconds, silence_seconds)
        else:
            # A stall that is too short to count must not pay off the ones before.
            paid_seconds = silence_seconds - 2 * max(late_seconds, 0.0)
            self._debt_seconds = max(self._debt_seconds - max(paid_seconds, 0.0), 0.0)
        self._last_echo_at = self._silent_since = now
        self._outstanding = None
        self._valid_from = self._published_at
        return True

    def requested_at(self) -> float | None:
        """Return the earliest time at which a press that arrives now can have been requested, None if unknown."""
        return self._debt_since if self._debt_seconds else self._valid_from

    def _add_debt(self, late_seconds: float, silence_seconds: float) -> None:
        if not self._debt_seconds:
            # Older presses have arrived before the last echo.
            self._debt_since = self._valid_from
        self._debt_seconds += late_seconds
        if silence_seconds > self._max_silence_seconds:
            self._debt_seconds = max(self._debt_seconds, silence_seconds, _MIN_CAUTION_SECONDS)
            self._debt_since = None
        self._debt_seconds = min(self._debt_seconds, _MAX_CAUTION_SECONDS)


class Heartbeat:
    """Publishes the lease's heartbeats over the live connection and receives their echoes."""

    def __init__(self, connection: MqttConnection, lease: Lease, topic: str) -> None:
        self._connection = connection
        self._lease = lease
        self._topic = topic
        self._ready = asyncio.Event()
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Publish a heartbeat after each pause until cancelled."""
        while True:
            self._publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease.pause_seconds):
                    await self._due.wait()
            self._due.clear()

    def disconnected(self) -> None:
        """Forget the echoes: presses may arrive on a new connection before its subscriptions are complete."""
        self._lease.reset()

    async def wait_ready(self) -> None:
        """Start again on a new connection, after its subscriptions, and wait until the lease is ready."""
        self._lease.reset()
        self._ready.clear()
        self._due.set()
        try:
            async with asyncio.timeout(_OVERDUE_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            _LOGGER.warning(
                "no prompt heartbeat comes back on %s: presses are not accepted until one does; if this lasts, check "
                "that the broker's access rules let this client publish and read the topic",
                self._topic,
            )
            await self._ready.wait()

    def received(self, message: Message) -> None:
        """Handle a message of the heartbeat's topic."""
        if self._lease.echo(message.payload) and self._lease.ready:
            self._ready.set()

    def _publish(self) -> None:
        if not self._connection.status.connected:
            return
        payload = self._lease.next_heartbeat()
        if payload is not None:
            # QoS 1 like the presses: at QoS 0, Mosquitto lets the echo overtake presses that wait behind its inflight
            # window.
            with suppress(NotConnectedError):
                self._connection.publish_nowait(Publication(self._topic, payload, qos=1))
