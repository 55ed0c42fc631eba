"""The results of a run: JSON files, ratios, tables, and the comparison of two files."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness import CORES, Measured, Metric, Row
from benchmarks.processes import Machine
from benchmarks.subjects.starting import FLOOR, PRODUCT

FORMAT = 1
"""Version of the JSON files."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    least: float
    largest: float

    def __str__(self) -> str:
        if self.least == self.largest:
            return significant(self.median)
        return f"{significant(self.median)} ({significant(self.least)} to {significant(self.largest)})"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run has measured."""

    date: str
    commit: str
    machine: Machine
    blocks: int
    scale: float
    measured: tuple[Measured, ...]
    failures: tuple[str, ...] = ()

    def save(self, file: Path) -> None:
        """Write the run to a JSON file."""
        values = {"format": FORMAT, **asdict(self)}
        file.write_bytes(orjson.dumps(values, option=orjson.OPT_INDENT_2))

    @staticmethod
    def load(file: Path) -> "Run":
        """Read the run of a JSON file."""
        values: dict[str, Any] = orjson.loads(file.read_bytes())
        if values.pop("format") != FORMAT:
            raise ValueError(f"{file}: not format {FORMAT}, measure again")
        machine = Machine(**values.pop("machine"))
        measured = tuple(Measured(**{**one, "values": tuple(one["values"])}) for one in values.pop("measured"))
        failures = tuple(values.pop("failures"))
        return Run(machine=machine, measured=measured, failures=failures, **values)

    @property
    def is_growth(self) -> bool:
        """Whether rows were measured with several numbers of terminals."""
        sizes = {(one.row, one.terminals) for one in self.measured}
        return len(sizes) > len({row for row, _ in sizes})

    def find(self, row: str, broker: str, terminals: int, subject: str, metric: str) -> Measured | None:
        """Return the values of one metric of one subject, or None if they were not measured."""
        for one in self.measured:
            if (one.row, one.broker, one.terminals, one.subject, one.metric) == (
                row,
                broker,
                terminals,
                subject,
                metric,
            ):
                return one
        return None

    def ratio(self, of: Measured, to: str) -> Spread | None:
        """Return the ratio of a subject's values to those of another subject in the same blocks."""
        base = self.find(of.row, of.broker, of.terminals, to, of.metric)
        if base is None or min(base.values) <= 0:
            return None
        return spread([value / other for value, other in zip(of.values, base.values, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the range of values."""
    return Spread(statistics.median(values), min(values), max(values))


def significant(value: float) -> str:
    """Return a number with three significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - decimal_exponent(value))}f}"


def decimal_exponent(value: float) -> int:
    """Return the exponent of a number that is not 0 in scientific notation."""
    return int(f"{value:e}".partition("e")[2])


def table(run: Run, rows: Mapping[str, Row]) -> Iterator[str]:
    """Return the lines of the results: for each metric the value of each subject, and its ratio to the floor."""
    for row_name, broker, terminals in dict.fromkeys((one.row, one.broker, one.terminals) for one in run.measured):
        row = rows[row_name]
        yield f"\n{row.title} · {count_of_terminals(terminals)} · {broker} broker"
        subjects = list(dict.fromkeys(one.subject for one in run.measured))
        for metric in row.metrics:
            if metric in CORES:
                continue
            for subject in subjects:
                one = run.find(row_name, broker, terminals, subject, metric.key)
                if one is not None and not (metric.key == "failed" and not any(one.values)):
                    yield line(run, one, metric)
        for subject in subjects:
            shares = [(metric, run.find(row_name, broker, terminals, subject, metric.key)) for metric in CORES]
            texts = [f"{metric.title} {statistics.median(one.values):.2f}" for metric, one in shares if one is not None]
            if texts:
                yield f"  {'cores busy':<20} {subject:<12} " + ", ".join(texts)


def line(run: Run, one: Measured, metric: Metric) -> str:
    """Return the value of a subject and, unless it is the floor, its ratio to the floor."""
    text = f"  {metric.title:<20} {one.subject:<12} {spread(one.values)!s:>26} {metric.unit}"
    ratio = run.ratio(one, FLOOR) if metric.is_ratio and one.subject != FLOOR else None
    return text if ratio is None else f"{text:<68} {ratio!s:>24} × floor"


def markdown(run: Run, rows: Mapping[str, Row]) -> Iterator[str]:
    """Return the results as Markdown: a table for each broker."""
    subjects = list(dict.fromkeys(one.subject for one in run.measured))
    for broker in dict.fromkeys(one.broker for one in run.measured):
        head = ["row", "figure", *subjects, *(f"{name} × {FLOOR}" for name in subjects if name != FLOOR), "target"]
        yield f"\nWith `{broker}` Mosquitto:\n"
        yield f"| {' | '.join(head)} |"
        yield "|" + "---|" * len(head)
        for name, terminals in dict.fromkeys((one.row, one.terminals) for one in run.measured if one.broker == broker):
            title = f"{rows[name].title}, {count_of_terminals(terminals)}"
            for metric in rows[name].metrics:
                found = {one: run.find(name, broker, terminals, one, metric.key) for one in subjects}
                if not any(found.values()):
                    continue
                if metric in CORES or (
                    metric.key == "failed" and not any(any(one.values) for one in found.values() if one)
                ):
                    continue
                cells = [significant(statistics.median(one.values)) if one else "" for one in found.values()]
                ratios = [
                    run.ratio(one, FLOOR) if one and metric.is_ratio else None
                    for subject, one in found.items()
                    if subject != FLOOR
                ]
                texts = [str(ratio) if ratio else "" for ratio in ratios]
                target = rows[name].targets.get(metric.key, "")
                yield f"| {' | '.join([title, f'{metric.title}, {metric.unit}', *cells, *texts, target])} |"


def growth(run: Run, rows: Mapping[str, Row]) -> Iterator[str]:
    """Return the lines that show how figures depend on the number of terminals.

    The exponent of the growth is that of a power law through the first and the last figure: 0 is constant, 1 is
    proportional to the number of terminals, more than 1 is worse than proportional.
    """
    for row_name, broker in dict.fromkeys((one.row, one.broker) for one in run.measured):
        yield f"\n{rows[row_name].title} · {broker} broker"
        for metric in rows[row_name].metrics:
            if metric in CORES:
                continue
            for subject in dict.fromkeys(one.subject for one in run.measured):
                points = series(run, row_name, broker, subject, metric.key)
                if not points or (metric.key == "failed" and not any(points.values())):
                    continue
                figures = ", ".join(f"{significant(value)} at {number:,}" for number, value in points.items())
                exponent = growth_exponent(points)
                shown = "" if exponent is None else f"   exponent {exponent:.2f}"
                yield f"  {metric.title:<20} {subject:<12} {figures} {metric.unit}{shown}"


def series(run: Run, row: str, broker: str, subject: str, metric: str) -> dict[int, float]:
    """Return the medians of a metric by number of terminals."""
    found = (
        one for one in run.measured
        if (one.row, one.broker, one.subject, one.metric) == (row, broker, subject, metric)
    )  # fmt: skip
    return dict(sorted((one.terminals, statistics.median(one.values)) for one in found))


def growth_exponent(points: Mapping[int, float]) -> float | None:
    """Return the exponent of a power law through the first and the last point, or None if there is none."""
    (first, was), (last, now) = min(points.items()), max(points.items())
    if first == last or was <= 0 or now <= 0:
        return None
    return math.log(now / was) / math.log(last / first)


def count_of_terminals(number: int) -> str:
    """Return a number of terminals as text."""
    return f"{number:,} {'terminal' if number == 1 else 'terminals'}"


def comparison(before: Run, after: Run, rows: Mapping[str, Row], subject: str = PRODUCT) -> Iterator[str]:
    """Return the lines that compare a subject in two runs.

    Two runs can differ in the load of the machine, so the ratios to the floor of the same run are compared, too.
    """
    for was in before.measured:
        now = after.find(was.row, was.broker, was.terminals, subject, was.metric)
        if was.subject != subject or now is None:
            continue
        metric = next(metric for metric in rows[was.row].metrics if metric.key == was.metric)
        if not metric.is_ratio:
            continue
        place = f"{rows[was.row].title}, {count_of_terminals(was.terminals)}, {was.broker}: {metric.title}"
        text = f"{place:<70} {changed(was.values, now.values)} {metric.unit}"
        ratios = before.ratio(was, FLOOR), after.ratio(now, FLOOR)
        if ratios[0] is not None and ratios[1] is not None:
            text += f"   × floor {changed([ratios[0].median], [ratios[1].median])}"
        yield text


def changed(before: Iterable[float], after: Iterable[float]) -> str:
    """Return two medians and their quotient."""
    was, now = statistics.median(before), statistics.median(after)
    quotient = f"{now / was:.2f} of it" if was else "was 0"
    return f"{significant(was)} → {significant(now)} ({quotient})"
