"""The faults of a soak, drawn at random."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

from bridge.simulator.behaviour import Garbage
from tests.support.mosquitto import Mosquitto
from tests.support.soak import mqtt_packets
from tests.support.soak.bridge import SoakBridge
from tests.support.soak.mqtt_link import PUBACK, PUBLISH, LinkPacket, MqttLink
from tests.support.soak.terminals import TerminalHost

_BACKLOG_PACKETS = 3000

_CHANGE_SECONDS = 5.0
"""Wait this long for a change to kill the bridge at; it cannot come while the broker or the link is faulty."""

_Fault = tuple[Callable[[Random], Awaitable[None]], float]
"""A fault and its weight."""


@dataclass(frozen=True, slots=True)
class FaultyParts:
    """What the faults happen to."""

    bridge: SoakBridge
    broker: Mosquitto
    link: MqttLink
    terminals: Sequence[TerminalHost]


class Faults:
    """Lets faults happen until `stop`.

    Attributes:
        counts: the faults by kind.

    Args:
        random: the source of all choices. Each lane of faults has a generator of its own, so that the order of their
            tasks does not matter.
        parts: what the faults happen to.
        broker_killed: is called between the end of a killed broker and its next start.
    """

    def __init__(self, random: Random, parts: FaultyParts, broker_killed: Callable[[], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._random = random
        self._parts = parts
        self._broker_killed = broker_killed
        self._stopped = asyncio.Event()
        self._busy = {name: asyncio.Lock() for name in ("bridge", "broker", "link")}
        self._bridge_faults: Sequence[_Fault] = (
            (self._freeze_bridge, 4),
            (self._kill_bridge, 3),
            (self._kill_bridge_at_change, 5),
        )
        self._broker_faults: Sequence[_Fault] = (
            (self._freeze_broker, 4),
            (self._stall_broker, 3),
            (self._restart_broker, 1),
            (self._kill_broker, 2),
        )
        self._link_faults: Sequence[_Fault] = (
            (self._hold_link, 5),
            (self._reset_link, 2),
            (self._cut_before_acknowledgement, 4),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Faults"]:
        """Run the lanes; at the end of the block wait until the last faults are over."""
        lanes = [
            self._system_lane(Random(self._random.random()), quiet_seconds=(2, 10)),
            self._system_lane(Random(self._random.random()), quiet_seconds=(15, 45)),
            *(self._terminal_lane(terminal, Random(self._random.random())) for terminal in self._parts.terminals),
        ]
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane)
            try:
                yield self
            finally:
                self._stopped.set()

    async def _system_lane(self, random: Random, quiet_seconds: tuple[float, float]) -> None:
        faults = {"bridge": self._bridge_faults, "broker": self._broker_faults, "link": self._link_faults}
        while not await self._quiet(random.uniform(*quiet_seconds)):
            (part,) = random.choices(list(faults), (3, 2, 2))
            fault = _draw(random, faults[part])
            # Another lane has nothing to do with a part that is already faulty.
            if not self._busy[part].locked():
                async with self._busy[part]:
                    await fault(random)

    async def _terminal_lane(self, terminal: TerminalHost, random: Random) -> None:
        while not await self._quiet(random.uniform(2, 15)):
            kind = random.choices(("stop", "pull", "to", "from", "drop", "behave"), (3, 2, 2, 2, 2, 5))[0]
            seconds = _duration(random)
            match kind:
                case "stop":
                    self._count("terminals stopped")
                    await terminal.stop_for(seconds)
                case "pull":
                    self._count("cables pulled")
                    await terminal.pull_cable_for(seconds)
                case "to" | "from":
                    self._count("one-way losses at terminals")
                    await terminal.lose_packets_for(seconds, to_terminal=kind == "to")
                case "drop":
                    self._count("connections dropped by terminals")
                    terminal.send(disconnect=random.choice(("CLOSE", "ABORT")))
                case "behave":
                    self._count("bad answers of terminals")
                    terminal.send(behaviour=_behaviour(random, terminal.sn))
                    await self._quiet(random.uniform(0.5, 6))
                    terminal.send(behaviour={})
                    terminal.send(disconnect="CLOSE")

    async def _freeze_bridge(self, random: Random) -> None:
        self._count("bridge frozen")
        await self._parts.bridge.freeze_for(_duration(random))

    async def _kill_bridge(self, random: Random) -> None:
        self._count("bridge killed")
        again = random.uniform(0.1, 2) if random.random() < 0.2 else None
        away = random.choice((0.0, random.uniform(0, 3), random.uniform(3, 8)))
        # The broker must answer at the start of the bridge, or it takes five seconds; both cases occur.
        await self._parts.bridge.kill_for(away, start_and_kill_after=again)

    async def _kill_bridge_at_change(self, random: Random) -> None:
        """Let changes wait on the link, and kill the bridge just after it has received or acknowledged one of them."""
        packet_type, longest_seconds = random.choice(((PUBLISH, 0.03), (PUBACK, 0.0), (PUBACK, 0.005)))
        seconds = random.uniform(0, longest_seconds)

        def matches(packet: LinkPacket) -> bool:
            is_from_sender = packet.to_bridge == (packet_type == PUBLISH)
            return "-intake-" in packet.client_id and packet.type == packet_type and is_from_sender

        if not self._busy["link"].locked():
            async with self._busy["link"]:
                self._parts.link.hold(to_broker=False, to_bridge=True)
                await asyncio.sleep(random.uniform(0.2, 3))
                self._parts.link.release()
        if await self._parts.link.next_packet(matches, _CHANGE_SECONDS):
            await asyncio.sleep(seconds)
            self._count("bridge killed at a change")
            await self._parts.bridge.kill_for(random.uniform(0, 3))

    async def _freeze_broker(self, random: Random) -> None:
        self._count("broker frozen")
        await self._stall(_duration(random))

    async def _stall_broker(self, random: Random) -> None:
        """Freeze the broker several times, often with many packets that wait for the bridge."""
        self._count("broker stalls with a backlog")
        for number in range(random.randrange(1, 5)):
            with_backlog = number == 0 or random.random() < 0.3
            self._parts.broker.freeze()
            flood = asyncio.get_running_loop().create_task(self._backlog()) if with_backlog else None
            await asyncio.sleep(random.uniform(0.2, 4))
            self._parts.broker.thaw()
            await asyncio.sleep(random.choice((0.004, random.uniform(0.01, 1))))
            if flood is not None:
                await flood

    async def _backlog(self) -> None:
        """Publish messages that the bridge receives and ignores."""
        packets = b"".join(
            mqtt_packets.publish("facebridge/bridge/heartbeat", b"backlog", qos=1, packet_id=number + 1)
            for number in range(_BACKLOG_PACKETS)
        )
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with (
                asyncio.timeout(20),
                mqtt_packets.connection(self._parts.broker.port, "backlog") as (reader, writer),
            ):
                writer.write(packets)
                for _ in range(_BACKLOG_PACKETS):
                    await mqtt_packets.read_packet(reader)

    async def _restart_broker(self, _random: Random) -> None:
        self._count("broker restarted")
        await self._parts.broker.restart()

    async def _kill_broker(self, random: Random) -> None:
        self._count("broker killed")
        await self._parts.broker.kill()
        await asyncio.sleep(random.choice((0.2, random.uniform(0.2, 3), random.uniform(3, 10))))
        self._broker_killed()
        await self._parts.broker.start()

    async def _hold_link(self, random: Random) -> None:
        to_broker, to_bridge = random.choice(((True, True), (True, False), (False, True)))
        self._count("link to the broker held" if to_broker and to_bridge else "link to the broker held one way")
        self._parts.link.hold(to_broker=to_broker, to_bridge=to_bridge)
        await asyncio.sleep(_duration(random))
        if random.random() < 0.3:
            self._parts.link.cut()
        self._parts.link.release()

    async def _reset_link(self, _random: Random) -> None:
        self._count("link to the broker reset")
        self._parts.link.cut()

    async def _cut_before_acknowledgement(self, random: Random) -> None:
        """Let the bridge commit changes, and cut the link before its acknowledgements arrive."""
        self._count("redeliveries")
        self._parts.link.hold(to_broker=True, to_bridge=False)
        await asyncio.sleep(random.uniform(0.05, 6))
        if random.random() < 0.4 and not self._busy["bridge"].locked():
            async with self._busy["bridge"]:
                restart = asyncio.get_running_loop().create_task(self._kill_bridge(random))
                await asyncio.sleep(0.1)
                self._parts.link.cut()
                await restart
        self._parts.link.cut()

    async def _stall(self, seconds: float) -> None:
        self._parts.broker.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._parts.broker.thaw()

    async def _quiet(self, seconds: float) -> bool:
        """Wait; return whether the faults have ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self._stopped.is_set()

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1


def _draw(random: Random, faults: Sequence[_Fault]) -> Callable[[Random], Awaitable[None]]:
    return random.choices([fault for fault, _ in faults], [weight for _, weight in faults])[0]


def _duration(random: Random) -> float:
    """Return 0.2 to 12 seconds: short ones for races, long ones for every timeout."""
    return random.uniform(*random.choice(((0.2, 2), (2, 6), (6, 12))))


def _behaviour(random: Random, sn: str) -> dict[str, object]:
    garbage = random.choice([one.name for one in Garbage if one is not Garbage.HUGE])
    choices: list[dict[str, object]] = [
        {"answer_delay": random.uniform(0.01, 3)},
        {"answer_delay": random.uniform(0.01, 0.1), "garbage": garbage},
        {"silent": True},
        {"answers_pings": False, "silent": True},
    ]
    if sn in REFUSING:
        choices.append({"refuses_persons": [str(1000 + number) for number in range(100)]})
    return random.choice(choices)


REFUSING = ("T2", "T4")
"""The terminals that refuse persons now and then; a sync at the end sends the refused persons again."""
