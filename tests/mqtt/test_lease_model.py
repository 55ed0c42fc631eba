"""No press older than the deadline passes the lease: a model in which broker and bridge stand still as they like.

The broker is a Mosquitto as measured: it takes one packet of each client in turn, and hands what it has taken to the
bridge in order. So after it stood still, old presses of some clients come out among the fresh echoes of the bridge.
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
TURN = 0.02
"""Seconds in which the broker takes one packet of each client."""
PUBLISHERS = 4
BACKLOG = 40
"""Presses of a publisher that wait at the broker at most, some 0.8 s of its work: what the second of caution covers."""
QUIET = 1.5
"""Seconds between two disturbances, in which the broker works off what has gathered."""

Kind = Literal["press", "beat", "subscribe"]


@dataclass(frozen=True)
class Packet:
    kind: Kind
    payload: bytes
    at: float


@dataclass(frozen=True)
class Disturbance:
    """Something stands still for a while, people press meanwhile, and the bridge may connect anew."""

    broker: float
    bridge: float
    reconnects_after: float | None
    presses: list[tuple[int, float, int]]
    """Publisher, seconds after the beginning, how many."""


@dataclass
class World:
    clock: ManualClock = field(default_factory=ManualClock)
    passed: int = 0

    def __post_init__(self) -> None:
        nonces = count(1)
        self.lease = Lease(self.clock, DEADLINE, lambda: f"nonce {next(nonces)}")
        self.from_bridge: deque[Packet] = deque()
        self.from_publishers: list[deque[Packet]] = [deque() for _ in range(PUBLISHERS)]
        self.to_bridge: deque[Packet] = deque()
        self.broker_stands_until = self.bridge_stands_until = self.next_beat = 0.0
        self.subscribed = False
        self.reconnect()

    def reconnect(self) -> None:
        """The old connection is gone with all that was on it; the new one is subscribed once the broker has read so."""
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
        if now >= self.broker_stands_until:
            self._broker_works()
        if now >= self.bridge_stands_until:
            self._bridge_works()
        self.clock.seconds += TURN

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
            elif packet.kind == "beat":
                self.lease.echo(packet.payload)
            else:
                self._pressed(packet.at)
        if self.subscribed and self.clock.seconds >= self.next_beat:
            self.next_beat = self.clock.seconds + self.lease.interval
            payload = self.lease.next_heartbeat()
            if payload is not None:
                self.from_bridge.append(Packet("beat", payload, self.clock.seconds))

    def _pressed(self, at: float) -> None:
        now, requested_at = self.clock.seconds, self.lease.requested_at()
        if requested_at is not None and now < requested_at + DEADLINE:
            self.passed += 1
            assert now - at < DEADLINE, f"a press passed that is {now - at:.2f} s old"


def disturb(world: World, disturbance: Disturbance) -> None:
    """Let it happen, until its last part has begun and what stood still goes on."""
    began = world.clock.seconds
    world.broker_stands_until = began + disturbance.broker
    world.bridge_stands_until = began + disturbance.bridge
    presses = sorted(disturbance.presses, key=lambda press: press[1])
    reconnects_at = disturbance.reconnects_after
    lasts = max(disturbance.broker, disturbance.bridge, reconnects_at or 0, *(press[1] for press in presses), 0)
    while (passed := world.clock.seconds - began) <= lasts:
        while presses and presses[0][1] <= passed:
            publisher, _, number = presses.pop(0)
            world.press(publisher, number)
        if reconnects_at is not None and reconnects_at <= passed:
            reconnects_at = None
            world.reconnect()
        world.turn()


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
def test_no_late_press_passes_whatever_stands_still(disturbances: list[Disturbance]) -> None:
    world = World()
    for disturbance in disturbances:
        world.run(QUIET)
        disturb(world, disturbance)
    world.run(2 * QUIET)
    before = world.passed
    world.press(0)
    world.run(QUIET)
    assert world.passed == before + 1, "a lease that lets nothing pass is no lease"
