"""No press older than the deadline passes the lease: a model in which broker and bridge stand still at any time.

The broker behaves like Mosquitto as measured: it reads one packet of each client in turn, and passes the packets to
the bridge in order. After it stood still, old presses of some clients therefore arrive among the bridge's fresh echoes.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.mqtt.lease import Lease
from tests.support.core import ManualClock

DEADLINE = 2.0
TURN_SECONDS = 0.02
"""The broker reads one packet of each client in this time."""
PUBLISHERS = 4
BACKLOG = 40
"""The most presses of a publisher that wait at the broker: 0.8 s of its work, which the second of caution covers."""
QUIET_SECONDS = 1.5
"""Between two disturbances; the broker works off its backlog in this time."""
ACCEPTED_AGE = 1.5
"""The oldest press that the core writes with a deadline of 5 s."""
FAST_TURN_SECONDS = 63e-6
"""As measured with Mosquitto: it worked off 60,000 packets in 3.8 s."""

Kind = Literal["press", "heartbeat", "subscribe"]


@dataclass(frozen=True)
class Packet:
    kind: Kind
    payload: bytes
    at: float


@dataclass(frozen=True)
class Disturbance:
    """Broker or bridge stand still for a while, clients press meanwhile, and the bridge may reconnect."""

    broker: float
    bridge: float
    reconnects_after: float | None
    presses: list[tuple[int, float, int]]
    """Publisher, seconds after the start, number of presses."""


@dataclass
class Model:
    clock: ManualClock = field(default_factory=ManualClock)
    passed: int = 0
    deadline: float = DEADLINE
    accepted_age: float = DEADLINE
    """Older presses are expired."""
    turn_seconds: float = TURN_SECONDS
    backlog: int = BACKLOG

    def __post_init__(self) -> None:
        nonces = count(1)
        self.lease = Lease(self.clock, self.deadline, lambda: f"nonce {next(nonces)}")
        self.from_bridge: deque[Packet] = deque()
        self.from_publishers: list[deque[Packet]] = [deque() for _ in range(PUBLISHERS)]
        self.to_bridge: deque[Packet] = deque()
        self.broker_stops_until = self.bridge_stops_until = self.next_heartbeat_at = 0.0
        self.subscribed = False
        self.reconnect()

    def reconnect(self) -> None:
        """Drop the old connection with its packets; the new one is subscribed when the broker has read the request."""
        self.from_bridge.clear()
        self.to_bridge.clear()
        self.subscribed = False
        self.from_bridge.append(Packet("subscribe", b"", self.clock.seconds))

    def press(self, publisher: int, number: int = 1) -> None:
        waiting = self.from_publishers[publisher]
        for _ in range(min(number, self.backlog - len(waiting))):
            waiting.append(Packet("press", b"", self.clock.seconds))

    def turn(self) -> None:
        now = self.clock.seconds
        if now >= self.broker_stops_until:
            self._broker_works()
        if now >= self.bridge_stops_until:
            self._bridge_works()
        self.clock.seconds += self._next_turn(self.clock.seconds)

    def _next_turn(self, now: float) -> float:
        """Return the seconds until the broker's next turn; skip time in which it has nothing to do."""
        if now < self.broker_stops_until:
            return min(max(self.turn_seconds, TURN_SECONDS), self.broker_stops_until - now)
        if any((*self.from_publishers, self.from_bridge, self.to_bridge)):
            return self.turn_seconds
        return max(self.turn_seconds, TURN_SECONDS)

    def run(self, seconds: float) -> None:
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            self.turn()

    def _broker_works(self) -> None:
        for client in (*self.from_publishers, self.from_bridge):
            if not client:
                continue
            packet = client.popleft()
            if packet.kind == "subscribe":
                self.subscribed = True
            if self.subscribed:
                self.to_bridge.append(packet)

    def _bridge_works(self) -> None:
        while self.to_bridge:
            packet = self.to_bridge.popleft()
            if packet.kind == "subscribe":
                self.lease.reset()
            elif packet.kind == "heartbeat":
                self.lease.echo(packet.payload)
            else:
                self._pressed(packet.at)
        if self.subscribed and self.clock.seconds >= self.next_heartbeat_at:
            self.next_heartbeat_at = self.clock.seconds + self.lease.interval
            payload = self.lease.next_heartbeat()
            if payload is not None:
                self.from_bridge.append(Packet("heartbeat", payload, self.clock.seconds))

    def _pressed(self, at: float) -> None:
        now, requested_at = self.clock.seconds, self.lease.requested_at()
        if requested_at is not None and now < requested_at + self.accepted_age:
            self.passed += 1
            assert now - at < self.deadline, f"a press passed that is {now - at:.2f} s old"


def disturb(model: Model, disturbance: Disturbance) -> None:
    """Apply a disturbance until its last event has happened and nothing stands still any more."""
    began = model.clock.seconds
    model.broker_stops_until = began + disturbance.broker
    model.bridge_stops_until = began + disturbance.bridge
    presses = sorted(disturbance.presses, key=lambda press: press[1])
    reconnects_at = disturbance.reconnects_after
    duration = max(disturbance.broker, disturbance.bridge, reconnects_at or 0, *(press[1] for press in presses), 0)
    while (passed := model.clock.seconds - began) <= duration:
        while presses and presses[0][1] <= passed:
            publisher, _, number = presses.pop(0)
            model.press(publisher, number)
        if reconnects_at is not None and reconnects_at <= passed:
            reconnects_at = None
            model.reconnect()
        model.turn()


SECONDS = st.floats(0, 3 * DEADLINE)
DISTURBANCES = st.lists(
    st.builds(
        Disturbance,
        broker=SECONDS,
        bridge=st.just(0.0) | SECONDS,
        reconnects_after=st.none() | SECONDS,
        presses=st.lists(
            st.tuples(st.integers(0, PUBLISHERS - 1), SECONDS, st.integers(1, BACKLOG)), min_size=1, max_size=6
        ),
    ),
    min_size=1,
    max_size=3,
)


@given(DISTURBANCES)
@settings(max_examples=300)
def test_no_late_press_passes_however_broker_and_bridge_stand_still(disturbances: list[Disturbance]) -> None:
    model = Model()
    for disturbance in disturbances:
        model.run(QUIET_SECONDS)
        disturb(model, disturbance)
    model.run(2 * QUIET_SECONDS + sum(max(one.broker, one.bridge) for one in disturbances))
    before = model.passed
    model.press(0)
    model.run(QUIET_SECONDS)
    assert model.passed == before + 1, "the lease lets a fresh press pass"


def stall(model: Model, seconds: float) -> None:
    """Let the broker stand still."""
    model.broker_stops_until = model.clock.seconds + seconds
    model.run(seconds)


@pytest.mark.parametrize(("stalls", "packets"), [([2.4] * 4, 3_000), ([8.0], 60_000)])
def test_no_late_press_passes_a_broker_with_a_backlog(stalls: list[float], packets: int) -> None:
    """Without a debt, presses of 9.6 s and 11.8 s passed."""
    model = Model(deadline=5.0, accepted_age=ACCEPTED_AGE, turn_seconds=FAST_TURN_SECONDS, backlog=packets)
    model.run(3)
    model.press(0, packets)
    for seconds in stalls:
        stall(model, seconds)
        model.run(0.004)
    model.run(sum(stalls) + 3)
    assert not any(model.from_publishers)
    before = model.passed
    model.press(1)
    model.run(1)
    assert model.passed == before + 1, "the lease lets a fresh press pass"


@given(
    st.lists(st.tuples(st.floats(0.2, 6), st.floats(0.001, 0.4)), min_size=1, max_size=5),
    st.floats(0, 1),
)
@settings(max_examples=60)
def test_no_late_press_passes_after_any_stalls(stalls: list[tuple[float, float]], share: float) -> None:
    """The broker works off its backlog in at most the time for which the lease has seen it stand still."""
    turn_seconds = 0.005
    seen = sum(max(seconds - 0.625, 0) for seconds, _ in stalls)
    model = Model(deadline=5.0, accepted_age=ACCEPTED_AGE, turn_seconds=turn_seconds, backlog=10_000)
    model.run(3)
    model.press(0, 1 + int(share * seen / turn_seconds))
    for seconds, pause in stalls:
        stall(model, seconds)
        model.run(pause)
    model.run(sum(seconds for seconds, _ in stalls) + 3)


@given(st.lists(st.floats(0, 0.3125 - TURN_SECONDS), min_size=1, max_size=20))
@settings(max_examples=30)
def test_a_healthy_broker_lets_every_fresh_press_pass(delays: list[float]) -> None:
    """A press may wait for 0.29 s, for example on the Internet; the oldest press that the core writes has 1.5 s.

    An echo counts as late from 0.3125 s on, half of the interval. The model's broker adds one turn to each delay.
    """
    model = Model(deadline=5.0, accepted_age=ACCEPTED_AGE)
    model.run(3)
    for delay in delays:
        before = model.passed
        stall(model, delay)
        model.press(0)
        model.run(0.5)
        assert model.passed == before + 1
        requested_at = model.lease.requested_at()
        assert requested_at is not None
        assert model.clock.seconds - requested_at < ACCEPTED_AGE
