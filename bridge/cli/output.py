"""What commands show: tables of results, progress bars, and how far a person's delivery is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bridge.model.person_entry import PersonEntry
from bridge.model.reply import format_time


def output() -> Console:
    """Return the console for results. If the output is not a terminal, it does not wrap lines."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, markup=False, width=10_000)
    return console


def table(*columns: str) -> Table:
    """Return an empty table without borders."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        result.add_column(column, overflow="fold")
    return result


class LongTable:
    """A table that is printed in parts, so that its length does not matter.

    A short table adapts its columns to the width of a terminal. A long one has columns as wide as their cells so far.
    """

    _ROWS = 500
    """Rows that are printed together."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[str, ...]] = []
        self._widths: list[int] | None = None

    def add_row(self, *cells: str) -> None:
        """Add a row."""
        self._rows.append(cells)
        if len(self._rows) == self._ROWS:
            self._print_rows()

    def end(self) -> None:
        """Print what is left."""
        if self._widths is not None:
            if self._rows:
                self._print_rows()
            return
        short = table(*self._columns)
        for row in self._rows:
            short.add_row(*row)
        output().print(short)

    def _print_rows(self) -> None:
        lines = [self._columns, *self._rows] if self._widths is None else self._rows
        widths = self._widths or [0] * len(self._columns)
        self._widths = [
            max(width, *(cell_len(cell) for cell in column))
            for width, column in zip(widths, zip(*lines, strict=True), strict=True)
        ]
        click.echo("\n".join(map(self._line, lines)))
        self._rows = []

    def _line(self, cells: Sequence[str]) -> str:
        assert self._widths is not None
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, self._widths, strict=True))
        return "  ".join(padded).rstrip()


def echo_json(value: dict[str, Any]) -> None:
    """Print one JSON object on a line."""
    click.echo(orjson.dumps(value))


def delivery_json(entry: PersonEntry) -> dict[str, Any]:
    """Return the state of a person's delivery as keys of a JSON object."""
    return {
        "delivery": entry.delivery.value,
        "status": entry.status,
        "message": entry.message,
        "changed_at": format_time(entry.changed_at),
    }


def delivery_cells(entry: PersonEntry) -> tuple[str, str, str, str]:
    """Return the state of a person's delivery as cells of a table, the time in local time."""
    status = "" if entry.status is None else str(entry.status)
    return entry.delivery.value, status, entry.message or "", shown_time(entry.changed_at)


def shown_time(time: datetime) -> str:
    """Return a time as a cell of a table, in local time."""
    return time.astimezone().isoformat(sep=" ", timespec="seconds")


def delivery_note(*, bridge_running: bool) -> str:
    """Return when changes in the store reach the terminals."""
    if bridge_running:
        return "the running bridge delivers the changes"
    return "no bridge is running on this store: the changes are delivered when one starts"


class _Rate(ProgressColumn):
    """A column with the number done and the number done per second."""

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0
        done = int(task.fields.get("done", 0))
        rate = f"{done / elapsed:,.0f}/s" if elapsed else ""
        return Text(f"{done:,} {rate}")


class ProgressBars:
    """One bar for each step of a command, with the rate and the remaining time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, part: float) -> None:
        """Update a bar.

        Args:
            what: the name of the step; a new one gets a new bar.
            done: how many items are done.
            part: the part of the whole step that is done, 0 to 1.
        """
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=1.0, done=0)
        self._progress.update(self._tasks[what], completed=part, done=done)

    def hide(self) -> None:
        """Remove the bars, so that a question can be asked."""
        self._progress.stop()


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Show bars on standard error if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield ProgressBars(progress)
