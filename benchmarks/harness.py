"""Measures rows: alternating blocks of the subjects, and the processor time of each process.

A row is measured in blocks. In each block every subject has its turn, so that other load of the machine affects all of
them alike. The order changes from block to block. A ratio compares values of the same block.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import orjson

from benchmarks.load_client import LoadClient, load_client
from benchmarks.processes import processor_seconds, set_real_time, settled
from benchmarks.subjects.setting import Setting, Subject, SubjectKind
from benchmarks.subjects.starting import MAX_TERMINALS, OTHERS
from tests.support.mosquitto import Mosquitto

CONNECT_SECONDS = 600.0
"""Time for all terminals to connect: 10,000 need a minute on two slow cores."""

BROKERS: dict[str, tuple[str, ...]] = {"stock": (), "nodelay": ("set_tcp_nodelay true",)}
"""Options of Mosquitto by name. As installed, Mosquitto leaves Nagle's algorithm on."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a row.

    Attributes:
        key: its name in the JSON file.
        unit: its unit.
        title: its name in tables.
        lower_is_better: false for throughputs.
        is_ratio: whether tables show its ratio to the floor.
    """

    key: str
    unit: str
    title: str
    lower_is_better: bool = True
    is_ratio: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """What all rows are measured with.

    Attributes:
        folder: a folder on a real disk for stores.
        blocks: blocks of each row.
        scale: factor of the duration of a block; 1 is the full length.
        terminals: number of terminals instead of the row's own, or None.
        most_slow_blocks: the largest number of blocks of rows that take minutes, or None.
        real_time: whether the subject, the broker, the terminals and the load generator run before all other programs.
            The processes that decode photos do not.
    """

    folder: Path
    blocks: int = 5
    scale: float = 1.0
    terminals: int | None = None
    most_slow_blocks: int | None = None
    real_time: bool = False

    def blocks_of(self, row: "Row") -> int:
        """Return the number of blocks of a row."""
        if row.most_blocks is None:
            return self.blocks
        return min(self.blocks, row.most_blocks, self.most_slow_blocks or row.most_blocks)

    def scaled(self, number: float, least: int = 1) -> int:
        """Return a number of repetitions, shortened as requested."""
        return max(least, round(number * self.scale))


@dataclass(slots=True)
class System:
    """A subject with its terminals, and the client that loads it."""

    subject: Subject
    terminals_pid: int
    terminals: int
    client: LoadClient
    broker_pid: int
    options: Options

    def topic(self, number: int, command: str) -> bytes:
        """Return the topic of a command for a terminal; `number` counts from 0 and starts again after the last one."""
        return f"{self.subject.base_topic}/terminal/T{number % self.terminals + 1}/{command}/set".encode()


Values = Mapping[str, float]
"""The values of a block by the key of their metric."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        name: its name on the command line.
        title: its name in tables.
        metrics: what its blocks return.
        terminals: number of terminals.
        block: measures a block of a system that all blocks share. A row has either this or `fresh_block`.
        fresh_block: starts a subject, measures it and stops it.
        prepare: fills the folder of a subject before it starts.
        known: whether the configuration of the product lists the terminals.
        brokers: the brokers that make a difference.
        most_blocks: the largest number of blocks, for rows that take minutes; None for others.
        only_product: whether no other subject can do this.
        targets: by metric, what the product should reach, as text.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    terminals: int
    block: Callable[[System], Awaitable[Values]] | None = None
    fresh_block: Callable[[SubjectKind, Setting, Options], Awaitable[Values]] | None = None
    prepare: Callable[[SubjectKind, Setting, Options], None] = lambda *_: None
    known: bool = True
    brokers: tuple[str, ...] = tuple(BROKERS)
    most_blocks: int | None = None
    only_product: bool = False
    targets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of one metric of one subject, one for each block."""

    row: str
    broker: str
    terminals: int
    subject: str
    metric: str
    values: tuple[float, ...]


class Usage:
    """The processor seconds of the processes of a system since the creation."""

    def __init__(self, system: System) -> None:
        self._pids = {
            "subject": system.subject.pid, "terminals": system.terminals_pid, "broker": system.broker_pid
        }  # fmt: skip
        self._before = self._read()
        self._began = perf_counter()

    def values(self, operations: int) -> dict[str, float]:
        """Return the subject's processor time for each operation, and the busy share of a core of each process."""
        after, elapsed = self._read(), perf_counter() - self._began
        used = {name: after[name] - self._before[name] for name in after}
        return {
            "processor_ms": used["subject"] / max(operations, 1) * 1000,
            **{f"{name}_cores": seconds / elapsed for name, seconds in used.items()},
        }

    def _read(self) -> dict[str, float]:
        # The client runs in this process. Its children are the other ones.
        return {"client": process_time(), **{name: processor_seconds(pid) for name, pid in self._pids.items()}}


P50 = Metric("p50_ms", "ms", "p50")
P99 = Metric("p99_ms", "ms", "p99")
PER_SECOND = Metric("per_second", "1/s", "a second", lower_is_better=False)
SECONDS = Metric("seconds", "s", "time")
FAILED = Metric("failed", "commands", "not ok", is_ratio=False)
PROCESSOR = Metric("processor_ms", "ms", "processor for each")
MEMORY_MB = Metric("memory_mb", "MB", "memory")
CORES = tuple(
    Metric(f"{name}_cores", "cores", title, is_ratio=False)
    for name, title in (
        ("subject", "subject"),
        ("terminals", "terminals"),
        ("client", "load generator"),
        ("broker", "broker"),
    )
)
"""These show which process limits a throughput: the one that is close to 1 core, or none if all cores are busy."""


class Terminals:
    """The process of `benchmarks.terminals`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def statistics(self) -> dict[str, Any]:
        """Wait for the next report, when all terminals are connected or at the end, and return it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(CONNECT_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process of the terminals has ended")
        statistics: dict[str, Any] = orjson.loads(line)
        return statistics

    async def disconnect(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


@asynccontextmanager
async def connecting_terminals(port: int, number: int, *, churn_per_second: float = 0.0) -> AsyncIterator[Terminals]:
    """Run terminals in a process of their own as long as the block lasts; they start to connect at once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.terminals", str(port), str(number),
        "--churn-per-second", str(churn_per_second),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    terminals = Terminals(process)
    try:
        yield terminals
    finally:
        await terminals.disconnect()


@asynccontextmanager
async def broker(options: Options, name: str) -> AsyncIterator[Mosquitto]:
    """Run a broker as long as the block lasts."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        async with Mosquitto(Path(folder), BROKERS[name]) as running:
            yield running


@asynccontextmanager
async def new_setting(
    options: Options, broker_port: int, name: str, terminals: int, *, known: bool = True
) -> AsyncIterator[Setting]:
    """Return the setting of a subject with a folder of its own."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        yield Setting(Path(folder), broker_port, name, terminals, known)


@asynccontextmanager
async def system(
    row: Row, kind: SubjectKind, name: str, mosquitto: Mosquitto, terminals: int, options: Options
) -> AsyncIterator[System]:
    """Run a subject with connected terminals and a client as long as the block lasts."""
    async with new_setting(options, mosquitto.port, name, terminals) as setting, AsyncExitStack() as stack:
        row.prepare(kind, setting, options)
        subject = await stack.enter_async_context(kind(setting))
        fleet = await stack.enter_async_context(connecting_terminals(subject.port, terminals))
        topics = [f"{name}/terminal/+/reply", f"{name}/group/all/reply"]
        client = await stack.enter_async_context(load_client(mosquitto.port, f"load-{name}", topics))
        await fleet.statistics()
        # Some of the work for a connection, for example publishing it, is done later.
        await settled(subject.pid, terminals)
        if options.real_time:
            for pid in (subject.pid, fleet.pid, mosquitto.pid, os.getpid()):
                set_real_time(pid)
        yield System(subject, fleet.pid, terminals, client, mosquitto.pid, options)


async def measure(
    row: Row, broker_name: str, kinds: Mapping[str, SubjectKind], options: Options
) -> tuple[list[Measured], list[str]]:
    """Measure a row with one broker; return the results, and what failed. A subject that fails is left out."""
    terminals = options.terminals or row.terminals
    names = [
        name for name in kinds
        if not (row.only_product and name in OTHERS) and terminals <= MAX_TERMINALS.get(name, terminals)
    ]  # fmt: skip
    collected: dict[str, list[Values]] = {name: [] for name in names}
    failures = []
    async with broker(options, broker_name) as mosquitto, AsyncExitStack() as stack:
        systems: dict[str, System] = {}

        async def block_of(name: str) -> Values:
            if row.fresh_block is not None:
                async with new_setting(options, mosquitto.port, name, terminals, known=row.known) as setting:
                    return await row.fresh_block(kinds[name], setting, options)
            assert row.block is not None
            if name not in systems:
                new = system(row, kinds[name], name, mosquitto, terminals, options)
                systems[name] = await stack.enter_async_context(new)
                await row.block(replace(systems[name], options=replace(options, scale=options.scale / 10)))
            return await row.block(systems[name])

        for block in range(options.blocks_of(row)):
            for name in turned(list(collected), block):
                try:
                    collected[name].append(await block_of(name))
                except (TimeoutError, RuntimeError, AssertionError, OSError) as error:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        # An interrupted run: stopping a busy subject can take too long, too.
                        raise
                    failures.append(f"{row.title}, {terminals:,} terminals, {broker_name} broker: {name}: {error!r}")
                    del collected[name]
    return list(results(row, broker_name, terminals, collected)), failures


def results(row: Row, broker_name: str, terminals: int, collected: Mapping[str, list[Values]]) -> Iterator[Measured]:
    """Return the values of all blocks by subject and metric."""
    for name, blocks in collected.items():
        for metric in row.metrics:
            values = tuple(block[metric.key] for block in blocks if metric.key in block)
            if values:
                yield Measured(row.name, broker_name, terminals, name, metric.key, values)


def turned(names: list[str], block: int) -> list[str]:
    """Return the order of the subjects in a block: each is first in turn."""
    start = block % len(names)
    return names[start:] + names[:start]
