"""No press older than the deadline passes the lease: a model in which broker and bridge stand still at any time.

The broker behaves like Mosquitto as measured: it reads one packet of each client in turn, and passes the packets to
the bridge in order. After it stood still, old presses of some clients therefore arrive among the bridge's fresh echoes.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

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

    def __post_init__(self) -> None:
        nonces = count(1)
        self.lease = Lease(self.clock, DEADLINE, lambda: f"nonce {next(nonces)}")
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
        for _ in range(min(number, BACKLOG - len(waiting))):
            waiting.append(Packet("press", b"", self.clock.seconds))

    def turn(self) -> None:
        now = self.clock.seconds
        if now >= self.broker_stops_until:
            self._broker_works()
        if now >= self.bridge_stops_until:
            self._bridge_works()
        self.clock.seconds += TURN_SECONDS

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
        if requested_at is not None and now < requested_at + DEADLINE:
            self.passed += 1
            assert now - at < DEADLINE, f"a press passed that is {now - at:.2f} s old"


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
    model.run(2 * QUIET_SECONDS)
    before = model.passed
    model.press(0)
    model.run(QUIET_SECONDS)
    assert model.passed == before + 1, "the lease lets a fresh press pass"
