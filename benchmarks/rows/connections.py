"""Rows of connections: the storm after an outage, terminals at rest, and the start of the bridge."""

import asyncio
from time import perf_counter

from benchmarks.harness import MEMORY_MB, SECONDS, Metric, Options, Row, Values, connecting_terminals
from benchmarks.processes import busy_cores, memory_kb, processor_seconds, settled
from benchmarks.subjects.setting import Setting, SubjectKind
from benchmarks.subjects.starting import Product

STORM_TERMINALS = 10_000
IDLE_TERMINALS = 1_000
REST_SECONDS = 60.0
"""Each terminal sends two pings in this time."""

PRODUCT_REST_FACTOR, PRODUCT_PAUSE_SECONDS = 5.0, 15.0
"""The product publishes the state of each terminal once a minute: between 60 and 75 seconds after all have connected,
and then again every minute. Therefore it is measured from 15 seconds on, and for a whole minute with `--quick` too."""


async def storm(kind: SubjectKind, setting: Setting, _options: Options) -> Values:
    """Connect all terminals at once; then disconnect them, and connect them again when they are known."""
    values: dict[str, float] = {}
    async with kind(setting) as subject:
        for which in ("new", "known"):
            before = processor_seconds(subject.pid)
            async with connecting_terminals(subject.port, setting.terminals) as terminals:
                statistics = await terminals.statistics()
                # Some of the work for a connection, for example publishing it, is done later.
                await settled(subject.pid, setting.terminals)
                used = processor_seconds(subject.pid) - before
            await settled(subject.pid, 0)
            values |= {
                f"{which}_seconds": statistics["seconds"],
                f"{which}_retries": statistics["retries"] + statistics["lost"],
                f"{which}_processor_ms": used / setting.terminals * 1000,
            }
    return values


async def idle(kind: SubjectKind, setting: Setting, options: Options) -> Values:
    """Measure memory and processor at rest, without and with terminals."""
    seconds, pause_seconds = REST_SECONDS * options.scale, 0.0
    if isinstance(kind, Product):
        seconds = min(REST_SECONDS, seconds * PRODUCT_REST_FACTOR)
        pause_seconds = seconds * PRODUCT_PAUSE_SECONDS / REST_SECONDS
    async with kind(setting) as subject:
        await settled(subject.pid, 0)
        memory, busy = memory_kb(subject.pid), await busy_cores(subject.pid, seconds / 3)
        async with connecting_terminals(subject.port, setting.terminals) as terminals:
            await terminals.statistics()
            await settled(subject.pid, setting.terminals)
            await asyncio.sleep(pause_seconds)
            busy_with = await busy_cores(subject.pid, seconds)
            return {
                "memory_mb": memory / 1024,
                "kb_each": (memory_kb(subject.pid) - memory) / setting.terminals,
                "percent": busy * 100,
                "percent_per_1000": (busy_with - busy) * 100 / setting.terminals * 1000,
            }


async def start(kind: SubjectKind, setting: Setting, _options: Options) -> Values:
    """Measure the time from the start of the process until it is ready."""
    began = perf_counter()
    async with kind(setting) as subject:
        return {"seconds": perf_counter() - began, "processor_s": processor_seconds(subject.pid)}


_STORM = tuple(
    metric
    for which in ("new", "known")
    for metric in (
        Metric(f"{which}_seconds", "s", f"{which}: all connected"),
        Metric(f"{which}_retries", "retries", f"{which}: retries", is_ratio=False),
        Metric(f"{which}_processor_ms", "ms", f"{which}: processor each"),
    )
)
_IDLE = (
    MEMORY_MB,
    Metric("kb_each", "KB", "memory of each"),
    Metric("percent", "%", "without terminals", is_ratio=False),
    Metric("percent_per_1000", "%", "for 1,000 terminals"),
)

ROWS = (
    Row(
        "idle", "at rest", _IDLE, IDLE_TERMINALS, fresh_block=idle, known=False, brokers=("stock",), most_blocks=3,
        targets={"kb_each": "22 KB", "percent_per_1000": "0.4 %"},
    ),
    Row(
        "storm", "all terminals connect at once", _STORM, STORM_TERMINALS,
        fresh_block=storm, known=False, brokers=("stock",), most_blocks=3,
        targets={"new_seconds": "8 s", "known_seconds": "8 s", "new_retries": "0", "known_retries": "0"},
    ),
    Row(
        "start", "start to ready", (SECONDS, Metric("processor_s", "s", "processor")), 10,
        fresh_block=start, brokers=("stock",), targets={"seconds": "1 s"},
    ),
)  # fmt: skip
