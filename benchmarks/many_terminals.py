"""Measures what many connected terminals cost the bridge: memory and processor, at rest and while all connect.

Run `python -m benchmarks.many_terminals [TERMINALS] [REST_SECONDS]`. It starts Mosquitto with its default settings, the
bridge and the simulated terminals as processes of their own, and reads the bridge's figures from /proc. Unlike times,
these do not depend on the load of the machine. At rest each terminal sends a ping every 30 seconds.
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

from benchmarks.measuring import TIMEOUT_SECONDS, Rounds, mqtt_client, run, shown
from benchmarks.open_round_trip import times_of
from bridge.mqtt.client.connection import Message, Publication
from bridge.simulator.fleet import simulated_sn
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto

TERMINALS = 1000
PRESSES = 500

REST_SECONDS = 60.0
"""Duration of the measurement at rest: each terminal sends two pings."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Usage:
    """The processor seconds and megabytes of memory that a process has used, from `/proc`."""

    def __init__(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.processor = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
        self.memory = int(fields[21]) * resource.getpagesize() / 1e6


class Online:
    """The number of connected terminals that the bridge publishes."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = asyncio.Event()

    def received(self, message: Message) -> None:
        """Handle `bridge/info`."""
        self._count = orjson.loads(message.payload)["terminals"]["online"]
        self._changed.set()

    async def wait(self, matches: Callable[[int], bool]) -> None:
        """Wait until the number fulfils a condition."""
        async with asyncio.timeout(TIMEOUT_SECONDS * 5):
            while not matches(self._count):
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


async def main(count: int, rest_seconds: float) -> None:
    """Measure, and print the results."""
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
                    await rest(bridge.pid, empty, count, rest_seconds)
                    opens = await times_of(lambda n: rounds.go(client, f"{one}/open/set", f"press {n}"), PRESSES)
                    shown(f"open one, {count} connected", opens)
                    await open_all(bridge.pid, broker.port, count)
                await online.wait(lambda connected_now: connected_now == 0)
                async with connected("second", bridge, online, count):
                    pass


@asynccontextmanager
async def connected(run_name: str, bridge: BridgeProcess, online: Online, count: int) -> AsyncIterator[None]:
    """Connect all terminals at once, and print time and processor; they stay as long as the block lasts."""
    before, began = Usage(bridge.pid), perf_counter()
    async with terminals(bridge.terminal_url, count):
        await online.wait(lambda connected_now: connected_now == count)
        each = (Usage(bridge.pid).processor - before.processor) / count * 1000
        print(f"{run_name} time that {count} connect: {perf_counter() - began:.1f} s, {each:.2f} ms of processor each")
        yield


async def rest(pid: int, empty: Usage, count: int, rest_seconds: float) -> None:
    """Print what the terminals cost at rest."""
    before = Usage(pid)
    await asyncio.sleep(rest_seconds)
    after = Usage(pid)
    print(
        f"{count} at rest: {after.memory:.0f} MB, {(after.memory - empty.memory) / count * 1000:.0f} KB each, "
        f"{(after.processor - before.processor) / rest_seconds * 100:.1f} % of a processor"
    )


async def open_all(pid: int, broker_port: int, count: int) -> None:
    """Print how long it takes to open every door, as for an evacuation."""
    replied = asyncio.Event()
    summary: dict[str, object] = {}

    def received(message: Message) -> None:
        summary.update(orjson.loads(message.payload))
        replied.set()

    async with mqtt_client(broker_port, "benchmark-all", ["facebridge/group/all/reply"], received) as client:
        before, began = Usage(pid), perf_counter()
        client.publish_nowait(Publication("facebridge/group/all/open/set", b"PRESS"))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await replied.wait()
        elapsed, each = perf_counter() - began, (Usage(pid).processor - before.processor) / count * 1000
        print(f"open all {count}: {elapsed:.2f} s, {each:.2f} ms of processor each, {summary['outcomes']}")


if __name__ == "__main__":
    run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else TERMINALS,
            float(sys.argv[2]) if len(sys.argv) > 2 else REST_SECONDS,
        )
    )
