"""A long run of the product with many terminals, reconnections, presses and photos: does anything grow?

Periods of equal length follow each other. After each period it records memory, open files (sockets included), tasks and
the duration of presses. At the end all terminals disconnect, and what is left is compared with the start.
"""

import asyncio
import os
import re
import signal
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from benchmarks.harness import Options, System, broker, connecting_terminals, new_setting
from benchmarks.load_client import TIMEOUT_SECONDS, load_client
from benchmarks.loads import loads, percentile, persons, presses
from benchmarks.processes import memory_kb, open_files, processor_seconds, settled
from benchmarks.results import significant
from benchmarks.subjects.setting import Subject
from benchmarks.subjects.starting import Product

PERIODS = 30
WARM_UP_SECONDS = 3.0
PRESSES_PER_SECOND = 20.0
PERSONS_PER_SECOND = 1.0
CHURN_PER_SECOND = 5.0

CLOSE_SECONDS = 60.0
"""Time in which the bridge closes the connections of thousands of terminals on a busy machine."""

_TASKS = re.compile(r"^tasks: (\d+)$", re.MULTILINE)


_WARM_UP_PERSONS = 32
"""Persons that are added at once before the first sample: more than there are processes for photos and threads."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the bridge after a period, and what happened in it. Presses: times in ms, outcomes."""

    memory_mb: float
    files: int
    tasks: int
    processor_percent: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    presses: Counter[str] | None = None
    persons: Counter[str] | None = None


@dataclass(frozen=True, slots=True)
class Soak:
    """The results: before the terminals connect, each period, and after they have disconnected."""

    before: Sample
    periods: Sequence[Sample]
    after: Sample
    churned: int
    lost: int


async def soak(options: Options, terminals: int, minutes: float) -> Soak:
    """Run the product for some minutes."""
    product = Product(module="benchmarks.subjects.counted_product")
    seconds = minutes * 60 / PERIODS
    async with (
        broker(options, "stock") as mosquitto,
        new_setting(options, mosquitto.port, "product", terminals) as setting,
        product(setting) as subject,
        load_client(mosquitto.port, "load", ["product/terminal/+/reply"]) as client,
    ):
        # The first persons open files that stay open, for example those of the processes that decode photos, each of
        # which starts when the others are busy.
        async with connecting_terminals(subject.port, 1) as fleet:
            await fleet.statistics()
            system = System(subject, fleet.pid, 1, client, mosquitto.pid, options)
            _, person_load = loads(system, presses, persons)
            await person_load.closed_loop(_WARM_UP_PERSONS, _WARM_UP_PERSONS, WARM_UP_SECONDS)
            await period(system, WARM_UP_SECONDS, Random(0))
        await settled(subject.pid, 0)
        before = await sample(subject)
        async with connecting_terminals(subject.port, terminals, churn_per_second=CHURN_PER_SECOND) as fleet:
            await fleet.statistics()
            system = System(subject, fleet.pid, terminals, client, mosquitto.pid, options)
            periods = [await period(system, seconds, Random(number)) for number in range(PERIODS)]
            await fleet.disconnect()
            end = await fleet.statistics()
        await _connections_closed(subject, before.files)
        await settled(subject.pid, 0)
        return Soak(before, periods, await sample(subject), end["churned"], end["lost"])


async def _connections_closed(subject: Subject, files: int) -> None:
    """Wait until a bridge has no more open files than before. If it leaves some open, stop waiting.

    A bridge that gets no processor, because other programs are busy, looks as if it had nothing to do.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            while open_files(subject.pid) > files:  # noqa: ASYNC110 - the files of another process have no event
                await asyncio.sleep(0.5)


async def period(system: System, seconds: float, random: Random) -> Sample:
    """Press and add persons for some seconds."""
    press_load, person_load = loads(system, presses, persons)
    used = processor_seconds(system.subject.pid)
    async with asyncio.TaskGroup() as group:
        group.create_task(press_load.at_rate(PRESSES_PER_SECOND, seconds, random))
        group.create_task(person_load.at_rate(PERSONS_PER_SECOND, seconds, random))
    percent = (processor_seconds(system.subject.pid) - used) / seconds * 100
    times = percentile(press_load.times_ms, 0.5), percentile(press_load.times_ms, 0.99)
    return await sample(system.subject, percent, times, (press_load.outcomes, person_load.outcomes))


async def sample(
    subject: Subject,
    percent: float = 0.0,
    times: tuple[float, float] = (0.0, 0.0),
    outcomes: tuple[Counter[str] | None, Counter[str] | None] = (None, None),
) -> Sample:
    """Read the state of the bridge."""
    assert subject.read_log is not None
    files = open_files(subject.pid)
    logged = len(_TASKS.findall(subject.read_log()))
    os.kill(subject.pid, signal.SIGUSR2)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while len(found := _TASKS.findall(subject.read_log())) == logged:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.02)
    return Sample(memory_kb(subject.pid) / 1024, files, int(found[-1]), percent, *times, *outcomes)


def report(result: Soak) -> Iterator[str]:
    """Return the lines of the results."""
    yield f"{'':<10} memory, MB   files   tasks   processor, %   press p50, ms   p99, ms"
    third = max(1, len(result.periods) // 3)
    for name, samples in (
        ("before", [result.before]),
        ("first third", result.periods[:third]),
        ("last third", result.periods[-third:]),
        ("after", [result.after]),
    ):
        columns = (
            statistics.median(getattr(one, key) for one in samples)
            for key in ("memory_mb", "files", "tasks", "processor_percent", "p50_ms", "p99_ms")
        )
        yield f"{name:<12}" + "".join(f"{significant(value):>12}" for value in columns)
    totals: dict[str, Counter[str]] = {"presses": Counter(), "persons": Counter()}
    for one in result.periods:
        totals["presses"] += one.presses or Counter()
        totals["persons"] += one.persons or Counter()
    for name, counts in totals.items():
        yield f"{name}: " + ", ".join(f"{number:,} {outcome}" for outcome, number in counts.most_common())
    yield f"reconnections: {result.churned:,}; connections that ended without an order: {result.lost:,}"
    yield (
        f"left over after all terminals disconnected: {result.after.files - result.before.files} open files, "
        f"{result.after.tasks - result.before.tasks} tasks"
    )
