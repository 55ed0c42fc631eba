"""What many connected terminals cost the bridge, for sizing: memory and processor, at rest and in a storm.

Run as `python -m benchmarks.many_terminals [TERMINALS]`. It starts a stock Mosquitto, the bridge and the simulated
terminals as processes of their own, and reads the bridge's figures from /proc: other than times they do not depend on
what else the machine does. At rest each terminal pings every 30 seconds.
"""

import asyncio
import os
import resource
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import orjson

from benchmarks.measuring import PATIENCE, Rounds, mqtt_client, run, shown
from benchmarks.open_round_trip import times_of
from bridge.mqtt.client.connection import Message
from bridge.simulator.fleet import simulated_sn
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto

TERMINALS = 1000
PRESSES = 500

REST = 60.0
"""Seconds that are looked at rest for: each terminal pings twice."""

_TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    """What a process has used, from `/proc`."""

    def __init__(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.processor = (int(fields[11]) + int(fields[12])) / _TICKS
        self.memory = int(fields[21]) * resource.getpagesize() / 1e6


class Online:
    """How many terminals the bridge says are connected."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = asyncio.Event()

    def received(self, message: Message) -> None:
        """Take `bridge/info`."""
        self._count = orjson.loads(message.payload)["terminals"]["online"]
        self._changed.set()

    async def wait(self, fits: Callable[[int], bool]) -> None:
        """Wait until the number fits."""
        async with asyncio.timeout(PATIENCE * 5):
            while not fits(self._count):
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def terminals(url: str, count: int) -> AsyncIterator[None]:
    """Run simulated terminals in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "simulate", "--url", url, "--count", str(count),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def main(count: int) -> None:
    """Measure and print."""
    online = Online()
    rounds = Rounds()
    one = f"facebridge/terminal/{simulated_sn(1)}"

    def received(message: Message) -> None:
        (online if message.topic.endswith("/info") else rounds).received(message)

    with tempfile.TemporaryDirectory() as folder:
        settings = configuration(
            0,
            terminals={"admit": "any", "known": {}},
            commands={"deadline": 5},
            homeassistant={"discovery": True},
        )
        async with Mosquitto(Path(folder)) as broker:
            settings["mqtt"]["port"] = broker.port
            async with (
                BridgeProcess(Path(folder), settings).running() as bridge,
                mqtt_client(broker.port, "benchmark", [f"{one}/reply", "facebridge/bridge/info"], received) as client,
            ):
                empty = Usage(bridge.pid)
                print(f"no terminal: {empty.memory:.0f} MB")
                async with connected("first", bridge, online, count):
                    await rest(bridge.pid, empty, count)
                    opens = await times_of(lambda n: rounds.go(client, f"{one}/open/set", f"press {n}"), PRESSES)
                    shown(f"open one, {count} connected", opens)
                    await open_all(bridge.pid, broker.port, count)
                await online.wait(lambda there: there == 0)
                async with connected("second", bridge, online, count):
                    pass


@asynccontextmanager
async def connected(storm: str, bridge: BridgeProcess, online: Online, count: int) -> AsyncIterator[None]:
    """Have all terminals connect at once, and show what it took."""
    before, began = Usage(bridge.pid), perf_counter()
    async with terminals(bridge.terminal_url, count):
        await online.wait(lambda there: there == count)
        each = (Usage(bridge.pid).processor - before.processor) / count * 1000
        print(f"{storm} time that {count} connect: {perf_counter() - began:.1f} s, {each:.2f} ms of processor each")
        yield


async def rest(pid: int, empty: Usage, count: int) -> None:
    """Show what they cost at rest."""
    before = Usage(pid)
    await asyncio.sleep(REST)
    after = Usage(pid)
    print(
        f"{count} at rest: {after.memory:.0f} MB, {(after.memory - empty.memory) / count * 1000:.0f} KB each, "
        f"{(after.processor - before.processor) / REST * 100:.1f} % of a processor"
    )


async def open_all(pid: int, broker_port: int, count: int) -> None:
    """Show how long opening every door takes, as when a building is evacuated."""
    answered = asyncio.Event()
    summary: dict[str, object] = {}

    def received(message: Message) -> None:
        summary.update(orjson.loads(message.payload))
        answered.set()

    async with mqtt_client(broker_port, "benchmark-all", ["facebridge/group/all/reply"], received) as client:
        before, began = Usage(pid), perf_counter()
        client.publish_nowait("facebridge/group/all/open/set", b"PRESS", qos=1)
        async with asyncio.timeout(PATIENCE):
            await answered.wait()
        taken, each = perf_counter() - began, (Usage(pid).processor - before.processor) / count * 1000
        print(f"open all {count}: {taken:.2f} s, {each:.2f} ms of processor each, {summary['outcomes']}")


if __name__ == "__main__":
    run(main(int(sys.argv[1]) if len(sys.argv) > 1 else TERMINALS))
