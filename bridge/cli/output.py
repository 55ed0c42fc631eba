"""What commands show to people: results, and bars for what takes a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


def output() -> Console:
    """Return the console for results; whole lines where nobody looks at a terminal."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, markup=False, width=10_000)
    return console


class _Rate(ProgressColumn):
    """Persons a second."""

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0
        done = int(task.fields.get("done", 0))
        rate = f"{done / elapsed:,.0f}/s" if elapsed else ""
        return Text(f"{done:,} {rate}")


class ProgressBars:
    """One bar for each thing that is done, with the rate and the time that is left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, part: float) -> None:
        """Take what is being done, how much is done, and what part of all that is, 0 to 1."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=1.0, done=0)
        self._progress.update(self._tasks[what], completed=part, done=done)

    def hide(self) -> None:
        """Stop showing anything, so that a question can be asked."""
        self._progress.stop()


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Show bars on standard error, where that is a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield ProgressBars(progress)
