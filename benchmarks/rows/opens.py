"""Rows of presses: the time from the publish of `open/set` to the reply, and how many a second are possible."""

import asyncio
from collections.abc import Sequence
from itertools import count
from random import Random
from time import perf_counter

import orjson

from benchmarks.harness import CORES, PROCESSOR, Metric, Row, System, Usage, Values
from benchmarks.load_client import TIMEOUT_SECONDS

IDLE_PRESSES = 1000
"""Presses of a block, one after the other."""

CLOSED_LOOP_SECONDS = 4.0
"""A block with presses that wait for replies ends after this time, too. Without TCP_NODELAY an open can take 90 ms."""

RATE = 200
RATE_SECONDS = 3.0

CLOSED_LOOP_PRESSES = 3000
IN_FLIGHT = 32

P50 = Metric("p50_ms", "ms", "p50")
P99 = Metric("p99_ms", "ms", "p99")
FAILED = Metric("failed", "presses", "not ok", is_ratio=False)
A_SECOND = Metric("per_second", "1/s", "a second", lower_is_better=False)

_numbers = count()


class Presses:
    """Publishes presses, and records the time until the reply of each."""

    def __init__(self, system: System) -> None:
        self.times_ms: list[float] = []
        self.failed = 0
        self._system = system
        self._began: dict[str, float] = {}
        self._left = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replace_until = 0.0
        system.client.on_message = self.received

    def publish(self) -> None:
        """Publish a press; the terminals take turns."""
        number = next(_numbers)
        request_id = f"press-{number}"
        self._began[request_id] = perf_counter()
        self._system.client.publish(self._system.topic(number, "open"), b'{"request_id":"%b"}' % request_id.encode())

    def received(self, payload: bytes) -> None:
        """Handle a reply."""
        reply = orjson.loads(payload)
        began = self._began.pop(reply["request_id"], None)
        if began is None:
            return
        self.times_ms.append((perf_counter() - began) * 1000)
        self.failed += reply["outcome"] != "ok"
        if self._replace_until:
            if self._left and perf_counter() < self._replace_until:
                self._left -= 1
                self.publish()
            else:
                self._left = 0
        if not self._began and not self._left and not self._done.done():
            self._done.set_result(None)

    async def closed_loop(self, presses: int, in_flight: int) -> None:
        """Publish presses: some at once, and another one for each reply."""
        self._replace_until = perf_counter() + CLOSED_LOOP_SECONDS * self._system.options.scale
        self._left = presses - in_flight
        for _ in range(in_flight):
            self.publish()
        await self._wait()

    async def at_rate(self, per_second: float, seconds: float, random: Random) -> None:
        """Publish presses at random times, independently of the replies."""
        loop = asyncio.get_running_loop()
        self._left = round(per_second * seconds)
        next_at = loop.time()

        def one() -> None:
            nonlocal next_at
            self._left -= 1
            self.publish()
            if self._left:
                next_at += random.expovariate(per_second)
                loop.call_at(next_at, one)

        one()
        await self._wait(seconds)

    async def _wait(self, seconds: float = 0.0) -> None:
        async with asyncio.timeout(seconds + TIMEOUT_SECONDS):
            await self._done


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def idle(system: System) -> Values:
    """Press one after the other."""
    presses, usage = Presses(system), Usage(system)
    await presses.closed_loop(system.options.scaled(IDLE_PRESSES, 10), 1)
    return {**_latency(presses), **usage.values(len(presses.times_ms))}


async def at_rate(system: System) -> Values:
    """Press 200 times a second."""
    presses, usage = Presses(system), Usage(system)
    await presses.at_rate(RATE, RATE_SECONDS * system.options.scale, Random(len(presses.times_ms)))
    return {**_latency(presses), **usage.values(len(presses.times_ms))}


async def throughput(system: System) -> Values:
    """Press as often as possible, with some presses in flight."""
    presses, usage = Presses(system), Usage(system)
    began = perf_counter()
    await presses.closed_loop(system.options.scaled(CLOSED_LOOP_PRESSES, IN_FLIGHT), IN_FLIGHT)
    return {
        "per_second": len(presses.times_ms) / (perf_counter() - began),
        "failed": presses.failed,
        **usage.values(len(presses.times_ms)),
    }


def _latency(presses: Presses) -> Values:
    return {
        "p50_ms": percentile(presses.times_ms, 0.5),
        "p99_ms": percentile(presses.times_ms, 0.99),
        "failed": presses.failed,
    }


ROWS = (
    Row("open", "open, idle", (P50, P99, PROCESSOR, FAILED, *CORES), 1, block=idle),
    Row("open-200", "open, 200 opens/s", (P50, P99, PROCESSOR, FAILED, *CORES), 20, block=at_rate),
    Row(
        "opens", f"opens, {IN_FLIGHT} in flight", (A_SECOND, PROCESSOR, FAILED, *CORES), 100, block=throughput
    ),
)  # fmt: skip
