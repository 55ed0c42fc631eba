"""Rows of presses: the time from the publish of `open/set` to the reply, and how many a second are possible."""

import asyncio
from random import Random
from time import perf_counter
from typing import Any

import orjson

from benchmarks.harness import CORES, FAILED, P50, P99, PER_SECOND, PROCESSOR, SECONDS, Row, System, Usage, Values
from benchmarks.load_client import TIMEOUT_SECONDS
from benchmarks.loads import Load, loads, percentile, persons, presses

CLOSED_LOOP_SECONDS = 4.0
"""A block with presses that wait for replies ends after this time, too. Without TCP_NODELAY an open can take 90 ms."""

IDLE_PRESSES = 1000

RATE = 200
RATE_SECONDS = 4.0

PRESSES_BESIDE_PHOTOS = 50
PHOTOS = 20
PHOTO_SECONDS = 5.0

CLOSED_LOOP_PRESSES = 4000
IN_FLIGHT = 32


async def idle(system: System) -> Values:
    """Press one after the other."""
    (load,), usage = loads(system, presses), Usage(system)
    await load.closed_loop(system.options.scaled(IDLE_PRESSES, 10), 1, CLOSED_LOOP_SECONDS * system.options.scale)
    return {**_latency(load), **usage.values(len(load.times_ms))}


async def at_rate(system: System) -> Values:
    """Press 200 times a second, at random times."""
    (load,), usage = loads(system, presses), Usage(system)
    await load.at_rate(RATE, RATE_SECONDS * system.options.scale, Random(1))
    return {**_latency(load), **usage.values(len(load.times_ms))}


async def beside_photos(system: System) -> Values:
    """Press at random times while 20 persons a second are added to the same terminal."""
    (load, changes), usage = loads(system, presses, persons), Usage(system)
    seconds = PHOTO_SECONDS * system.options.scale
    async with asyncio.TaskGroup() as group:
        group.create_task(load.at_rate(PRESSES_BESIDE_PHOTOS, seconds, Random(1)))
        group.create_task(changes.at_rate(PHOTOS, seconds, Random(2)))
    return {**_latency(load), **usage.values(len(load.times_ms)), "failed": load.failed + changes.failed}


async def throughput(system: System) -> Values:
    """Press as often as possible, with some presses in flight."""
    (load,), usage = loads(system, presses), Usage(system)
    began = perf_counter()
    number = system.options.scaled(CLOSED_LOOP_PRESSES, IN_FLIGHT)
    await load.closed_loop(number, IN_FLIGHT, CLOSED_LOOP_SECONDS * system.options.scale)
    done = len(load.times_ms)
    return {"per_second": done / (perf_counter() - began), "failed": load.failed, **usage.values(done)}


async def everyone(system: System) -> Values:
    """Open every door with one command, as for an evacuation."""
    usage = Usage(system)
    summary: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def received(payload: bytes) -> None:
        reply = orjson.loads(payload)
        if "total" in reply and not summary.done():
            summary.set_result(reply)

    system.client.on_message = received
    began = perf_counter()
    system.client.publish(f"{system.subject.base_topic}/group/all/open/set".encode(), b"PRESS")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        outcomes = (await summary)["outcomes"]
    return {
        "seconds": perf_counter() - began,
        "failed": system.terminals - outcomes.get("ok", 0),
        **usage.values(system.terminals),
    }


def _latency(load: Load) -> Values:
    return {
        "p50_ms": percentile(load.times_ms, 0.5),
        "p99_ms": percentile(load.times_ms, 0.99),
        "failed": load.failed,
    }


_LATENCY = (P50, P99, PROCESSOR, FAILED, *CORES)

ROWS = (
    Row(
        "open", "open, idle", _LATENCY, 1,
        block=idle, targets={"p50_ms": "1.5 × floor", "p99_ms": "1.7 × floor"},
    ),
    Row("open-200", f"open, {RATE} opens/s", _LATENCY, 20, block=at_rate, targets={"p50_ms": "2.0 × floor"}),
    Row(
        "open-photos", f"open, {PHOTOS} photos/s", (P50, P99, FAILED, *CORES), 1,
        block=beside_photos, targets={"p99_ms": "3.0 × floor"},
    ),
    Row(
        "opens", f"opens, {IN_FLIGHT} in flight", (PER_SECOND, PROCESSOR, FAILED, *CORES), 100,
        block=throughput, targets={"per_second": "0.45 × floor"},
    ),
    Row(
        "open-all", "open every door at once", (SECONDS, PROCESSOR, FAILED, *CORES), 1000,
        block=everyone, only_product=True,
    ),
)  # fmt: skip
