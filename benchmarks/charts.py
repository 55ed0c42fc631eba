"""Charts of the results for docs/performance.md: SVG without scripts, readable on a light and on a dark background."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.harness import Metric, Row
from benchmarks.results import Run, Spread, series, significant
from benchmarks.subjects.starting import FLOOR, NODE_RED, PRODUCT, SCRIPT

COLOURS = {FLOOR: "#8b949e", PRODUCT: "#2f81f7", SCRIPT: "#bf8700", NODE_RED: "#d1483e"}
"""Medium tones, which contrast with white and with black."""

OTHER_COLOUR = "#8250df"

HEADLINES = {
    "open": ("p50_ms", "p99_ms"), "open-200": ("p50_ms",), "open-photos": ("p99_ms",), "opens": ("per_second",),
    "persons-1": ("per_second",), "persons-8": ("per_second",), "persons-100": ("per_second",),
    "idle": ("kb_each", "percent_per_1000"), "storm": ("new_seconds", "known_seconds"), "start": ("seconds",),
}  # fmt: skip
"""By row, the figures of the chart of ratios."""

_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.note { fill: #57606a; font-size: 12px }
.grid { stroke: #d0d7de }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } .grid { stroke: #3d444d } }
</style>"""


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A logarithmic scale from values to pixels."""

    least: float
    largest: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        share = math.log(value / self.least) / math.log(self.largest / self.least)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def powers(self) -> Sequence[float]:
        """Return the powers of ten on the scale."""
        first, last = math.ceil(math.log10(self.least) - 1e-9), math.floor(math.log10(self.largest) + 1e-9)
        return [10.0**exponent for exponent in range(first, last + 1)]


def write_charts(run: Run, rows: Mapping[str, Row], folder: Path) -> Iterator[Path]:
    """Draw the charts that a run has results for, and return their files."""
    folder.mkdir(exist_ok=True)
    if run.is_growth:
        yield write(folder / "growth.svg", growth_chart(run, rows))
        return
    for broker in dict.fromkeys(one.broker for one in run.measured):
        if any(ratio_lines(run, rows, broker)):
            yield write(folder / f"{broker}.svg", ratio_chart(run, rows, broker))


def write(file: Path, svg: str) -> Path:
    """Write a chart."""
    file.write_text(svg)
    return file


def ratio_chart(run: Run, rows: Mapping[str, Row], broker: str) -> str:
    """Draw how many times the floor each subject needs, on a logarithmic scale."""
    lines = list(ratio_lines(run, rows, broker))
    subjects = [name for name in dict.fromkeys(one.subject for one in run.measured) if name != FLOOR]
    largest = max((spread.largest for _, by_subject in lines for spread in by_subject.values()), default=10.0)
    axis = LogAxis(1.0, max(10.0, largest * 1.1), 330, 860)
    bottom = 60 + 36 * len(lines)
    parts = [*legend(subjects, 14)]
    for power in axis.powers():
        x = axis(power)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="44" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(
            f'<text class="note" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{power:,.0f} × floor</text>'
        )
    for number, (title, by_subject) in enumerate(lines):
        y = 66 + 36 * number
        parts.append(f'<text x="320" y="{y + 4}" text-anchor="end">{escape(title)}</text>')
        for place, (name, spread) in enumerate(by_subject.items()):
            parts += dot(axis, y + 8 * (place - (len(by_subject) - 1) / 2), name, spread)
    title = f"How many times the floor each bridge needs, {broker} Mosquitto. Left is better."
    return picture(title, 900, bottom + 30, parts)


def ratio_lines(run: Run, rows: Mapping[str, Row], broker: str) -> Iterator[tuple[str, dict[str, Spread]]]:
    """Return the title of each figure, and by subject its ratio, so that less is better."""
    for row_name, terminals in dict.fromkeys((one.row, one.terminals) for one in run.measured if one.broker == broker):
        for metric in rows[row_name].metrics:
            if metric.key not in HEADLINES.get(row_name, ()):
                continue
            ratios = {}
            for name in dict.fromkeys(one.subject for one in run.measured):
                one = run.find(row_name, broker, terminals, name, metric.key)
                ratio = run.ratio(one, FLOOR) if one and name != FLOOR else None
                if ratio is not None:
                    ratios[name] = ratio if metric.lower_is_better else inverse(ratio)
            if ratios:
                yield f"{rows[row_name].title}: {metric.title}", ratios


def inverse(spread: Spread) -> Spread:
    """Return the reciprocals, so that a throughput becomes a time."""
    return Spread(1 / spread.median, 1 / spread.largest, 1 / spread.least)


def dot(axis: LogAxis, y: float, name: str, spread: Spread) -> Iterator[str]:
    """Draw a median with its range."""
    colour = COLOURS.get(name, OTHER_COLOUR)
    left, right = axis(spread.least), axis(spread.largest)
    yield f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"/>'
    yield (
        f'<circle cx="{axis(spread.median):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}">'
        f"<title>{escape(name)}: {spread} × floor</title></circle>"
    )


def growth_chart(run: Run, rows: Mapping[str, Row]) -> str:
    """Draw how figures depend on the number of terminals: a small chart for each, both scales logarithmic."""
    panels = list(growth_panels(run, rows))
    subjects = list(dict.fromkeys(one.subject for one in run.measured))
    width, height, columns = 290, 170, 3
    parts = [*legend(subjects, 14)]
    for number, (title, unit, lines) in enumerate(panels):
        left, top = 10 + number % columns * (width + 10), 44 + number // columns * (height + 24)
        parts += panel(left, top, width, height, f"{title}, {unit}", lines)
    total = 44 + math.ceil(len(panels) / columns) * (height + 24)
    return picture("How figures grow with the number of terminals.", 900, total + 6, parts)


def growth_panels(run: Run, rows: Mapping[str, Row]) -> Iterator[tuple[str, str, dict[str, dict[int, float]]]]:
    """Return title, unit, and by subject the figures by number of terminals."""
    for row_name, broker in dict.fromkeys((one.row, one.broker) for one in run.measured):
        row = rows[row_name]
        if broker != row.brokers[-1]:
            continue
        for metric in shown_metrics(row):
            lines = {}
            for name in dict.fromkeys(one.subject for one in run.measured):
                points = {x: y for x, y in series(run, row_name, broker, name, metric.key).items() if y > 0}
                if points:
                    lines[name] = points
            if lines:
                yield f"{row.title}: {metric.title}", metric.unit, lines


def shown_metrics(row: Row) -> Sequence[Metric]:
    """Return the figures of a row that the chart of growth shows."""
    keys = HEADLINES.get(row.name, ()) or (row.metrics[0].key,)
    return [metric for metric in row.metrics if metric.key in keys]


def panel(
    left: float, top: float, width: float, height: float, title: str, lines: Mapping[str, Mapping[int, float]]
) -> Iterator[str]:
    """Draw one small chart."""
    numbers = sorted({number for points in lines.values() for number in points})
    values = [value for points in lines.values() for value in points.values()]
    across = LogAxis(numbers[0], max(numbers[-1], numbers[0] * 10), left + 45, left + width - 20)
    up = LogAxis(min(values) / 1.5, max(values) * 1.5, top + height - 25, top + 22)
    yield f'<text x="{left + 4}" y="{top + 12}">{escape(title)}</text>'
    for number in numbers:
        x = across(number)
        yield f'<line class="grid" x1="{x:.1f}" y1="{top + 22}" x2="{x:.1f}" y2="{top + height - 25}"/>'
        yield f'<text class="note" x="{x:.1f}" y="{top + height - 8}" text-anchor="middle">{number:,}</text>'
    for value in dict.fromkeys((min(values), max(values))):
        shown = significant(value)
        yield f'<text class="note" x="{left + 40}" y="{up(value) + 4:.1f}" text-anchor="end">{shown}</text>'
    for name, points in lines.items():
        colour = COLOURS.get(name, OTHER_COLOUR)
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points.items())
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y in points.items():
            yield (
                f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}">'
                f"<title>{escape(name)}, {x:,} terminals: {significant(y)}</title></circle>"
            )


def legend(subjects: Sequence[str], y: float) -> Iterator[str]:
    """Draw the colours of the subjects."""
    for number, name in enumerate(subjects):
        x = 330 + 120 * number
        yield f'<circle cx="{x}" cy="{y}" r="4.5" fill="{COLOURS.get(name, OTHER_COLOUR)}"/>'
        yield f'<text x="{x + 10}" y="{y + 4}">{escape(name)}</text>'


def picture(title: str, width: int, height: float, parts: Sequence[str]) -> str:
    """Return an SVG file."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}"',
            f' height="{height:.0f}" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            _STYLE,
            *parts,
            "</svg>\n",
        )
    )
