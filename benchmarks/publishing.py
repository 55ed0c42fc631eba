"""Writes the results of saved runs into docs/performance.md, and the charts beside it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.charts import write_charts
from benchmarks.harness import CORES, Row
from benchmarks.results import Run, growth_exponent, markdown, series, significant
from benchmarks.subjects.starting import FLOOR, PRODUCT

BUSY_LOAD = 0.5
"""From this load average on, elapsed times are those of a busy machine."""


def publish(run: Run, rows: Mapping[str, Row], document: Path) -> Iterator[Path]:
    """Replace the results of a run, or of its growth, and return the changed files."""
    name = "growth" if run.is_growth else "results"
    table = growth_table(run, rows) if run.is_growth else markdown(run, rows)
    charts = list(write_charts(run, rows, document.parent / "charts"))
    pictures = [f"![{title_of(chart)}](charts/{chart.name})" for chart in charts]
    section = "\n".join([origin(run), *table, "", "\n\n".join(pictures)])
    text, number = re.subn(
        f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)",
        lambda match: f"{match[1]}\n{section}\n\n{match[2]}",
        document.read_text(),
        flags=re.DOTALL,
    )
    if number != 1:
        raise ValueError(f"{document}: the line `<!-- {name} -->` is missing")
    document.write_text(text)
    yield document
    yield from charts


def title_of(chart: Path) -> str:
    """Return the title of an SVG file."""
    found = re.search("<title>(.*?)</title>", chart.read_text())
    assert found is not None
    return found[1]


def origin(run: Run) -> str:
    """Return sentences that say when and on what machine a run was measured."""
    machine = run.machine
    text = (
        f"Measured on {run.date[:10]} (commit `{run.commit}`): {machine.processor}, {machine.cores} cores, "
        f"Linux {machine.kernel}, Python {machine.python}, Mosquitto {machine.mosquitto}, {machine.store}, "
        f"{machine.commit_ms} ms for a commit with a photo; {run.blocks} blocks of {run.scale:g} of the full length."
    )
    if machine.load > BUSY_LOAD:
        text += (
            f" The load average at the start was {machine.load}: other programs used the processor. Compare ratios "
            "and processor times, not elapsed times."
        )
    return text


def growth_table(run: Run, rows: Mapping[str, Row]) -> Iterator[str]:
    """Return the figures of the product by number of terminals as Markdown, with those of the floor in parentheses."""
    sizes = sorted({one.terminals for one in run.measured})
    yield "\n| row | figure | " + " | ".join(f"{size:,}" for size in sizes) + " | exponent |"
    yield "|---" * (len(sizes) + 3) + "|"
    for name, broker in dict.fromkeys((one.row, one.broker) for one in run.measured):
        for metric in rows[name].metrics:
            product = series(run, name, broker, PRODUCT, metric.key)
            if metric in CORES or not product or (metric.key == "failed" and not any(product.values())):
                continue
            floor = series(run, name, broker, FLOOR, metric.key)
            exponent = growth_exponent(product)
            cells = [cell(product.get(size), floor.get(size)) for size in sizes]
            title = f"{rows[name].title}, {broker} broker | {metric.title}, {metric.unit}"
            shown = "" if exponent is None else f"{exponent:.2f}"
            yield f"| {title} | {' | '.join(cells)} | {shown} |"


def cell(product: float | None, floor: float | None) -> str:
    """Return a figure, with that of the floor in parentheses."""
    if product is None:
        return ""
    return significant(product) if floor is None else f"{significant(product)} ({significant(floor)})"
