"""The command line of the benchmarks; `scripts/bench` sets up what it needs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.event_loop import run as run_loop
from benchmarks.harness import BROKERS, Measured, Options, measure
from benchmarks.processes import IN_MEMORY, file_system, set_real_time, this_machine
from benchmarks.publishing import publish
from benchmarks.results import Run, comparison, count_of_terminals, growth, markdown, table
from benchmarks.rows import GROWING, ROWS
from benchmarks.soak import report, soak
from benchmarks.subjects.setting import SubjectKind
from benchmarks.subjects.starting import FLOOR, PRODUCT, ROOT, subject_kinds

SIZES = (10, 100, 1000, 10_000)

QUICK_BLOCKS, QUICK_SLOW_BLOCKS = 3, 2
QUICK_SCALE = 0.2
"""What `--quick` measures of each row: enough to see the spread."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

F = TypeVar("F", bound=Callable[..., Any])


class Default(click.Group):
    """A group whose command `run` needs no name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Default)
def main() -> None:
    """Measure Facebridge beside other bridges in the same run. `run` is the default command."""


def measuring_options(command: F) -> F:
    """Add the options of a measurement to a command."""
    options = (
        click.option("--subject", "subjects", multiple=True,
                     help="Only this subject and the floor; several times: several."),
        click.option("--broker", "brokers", multiple=True, type=click.Choice(list(BROKERS)),
                     help="Only this Mosquitto."),
        click.option("--blocks", type=click.IntRange(1), default=5, show_default=True,
                     help="Blocks of each row. Rows that take minutes have at most 2 or 3."),
        click.option("--scale", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
                     help="Factor of the duration of a block: 0.1 for a quick look."),
        click.option("--quick", is_flag=True,
                     help="3 blocks of a fifth of the full length; rows that take minutes have 2. All rows take some"
                          " 20 minutes on an idle machine."),
        click.option("--real-time", is_flag=True,
                     help="Let all that is measured run before other programs, so that their load matters less: for the"
                          " latencies of presses on a busy machine. Needs root. Rows that use whole cores slow down"
                          " everything else."),
        click.option("--checkout", "checkouts", multiple=True, metavar="NAME=FOLDER",
                     help="Measure the product of another checkout, too, for example before=../main."),
        click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default="/var/tmp",
                     show_default=True, help="A folder on a real disk for stores."),
        click.option("--memory", is_flag=True, help="Allow a folder in memory, where commits cost nothing."),
        click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the results."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@main.command("run")
@click.argument("names", metavar="[ROW]...", nargs=-1, type=click.Choice(list(ROWS)))
@click.option("--terminals", type=click.IntRange(1), help="Number of terminals instead of each row's own.")
@measuring_options
def run_command(names: Sequence[str], terminals: int | None, **options: Any) -> None:
    """Measure the rows (without a name: all) and print them."""
    finished = measured_run(names or list(ROWS), [terminals], **options)
    show(table(finished, ROWS), finished)


@main.command("grow")
@click.argument("names", metavar="[ROW]...", nargs=-1, type=click.Choice(GROWING))
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=click.IntRange(1),
    default=SIZES,
    show_default=True,
    help="A number of terminals; several times: several.",
)
@measuring_options
def grow_command(names: Sequence[str], sizes: Sequence[int], **options: Any) -> None:
    """Measure how figures grow with the number of terminals."""
    finished = measured_run(names or GROWING, sizes, **options)
    show(growth(finished, ROWS), finished)


@main.command("soak")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True)
@click.option("--terminals", type=click.IntRange(1), default=2000, show_default=True)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/var/tmp",
    show_default=True,
    help="A folder on a real disk for the store.",
)
def soak_command(minutes: float, terminals: int, folder: Path) -> None:
    """Run the product for long, with reconnections, presses and photos, and show what grows."""
    for line in report(run_loop(soak(Options(folder), terminals, minutes))):
        click.echo(line)


@main.command("compare")
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--subject", default=PRODUCT, show_default=True, help="The subject to compare.")
def compare_command(before: Path, after: Path, subject: str) -> None:
    """Compare a subject in two saved runs."""
    for line in comparison(Run.load(before), Run.load(after), ROWS, subject):
        click.echo(line)


@main.command("show")
@click.argument("file", type=FILE)
@click.option("--markdown", "as_markdown", is_flag=True, help="As the table of docs/performance.md.")
def show_command(file: Path, *, as_markdown: bool) -> None:
    """Print a saved run again."""
    run = Run.load(file)
    lines = markdown(run, ROWS) if as_markdown else growth(run, ROWS) if run.is_growth else table(run, ROWS)
    show(lines, run)


@main.command("publish")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--document",
    type=FILE,
    default=ROOT / "docs" / "performance.md",
    help="The document with the tables; the folder charts is beside it. [default: docs/performance.md]",
)
def publish_command(files: Sequence[Path], document: Path) -> None:
    """Write the tables and charts of docs/performance.md from saved runs: one of `run`, one of `grow`."""
    for file in files:
        for changed in publish(Run.load(file), ROWS, document):
            click.echo(changed)


def measured_run(
    names: Sequence[str], sizes: Sequence[int | None], *, subjects: Sequence[str], brokers: Sequence[str], blocks: int,
    scale: float, quick: bool, real_time: bool, checkouts: Sequence[str], folder: Path, memory: bool,
    save: Path | None,
) -> Run:  # fmt: skip
    """Measure rows with each broker and each number of terminals."""
    if quick:
        blocks, scale = min(blocks, QUICK_BLOCKS), min(scale, QUICK_SCALE)
    kind = file_system(folder)
    if kind.split()[0] in IN_MEMORY and not memory:
        raise click.UsageError(
            f"{folder} is in memory ({kind}), but commits to a disk are measured: give --folder or --memory"
        )
    if real_time:
        try:
            set_real_time(os.getpid())
        except PermissionError:
            raise click.UsageError("--real-time: not allowed for this user: run it as root") from None
    kinds = chosen_subjects(subjects, checkouts)
    machine = this_machine(folder)
    measured: list[Measured] = []
    failures: list[str] = []

    def finished() -> Run:
        date = datetime.now(UTC).isoformat(timespec="minutes")
        return Run(date, current_commit(), machine, blocks, scale, tuple(measured), tuple(failures))

    async def measure_all() -> None:
        for name in names:
            for broker in ROWS[name].brokers:
                for terminals in sizes if not brokers or broker in brokers else ():
                    size = count_of_terminals(terminals or ROWS[name].terminals)
                    click.echo(f"measuring: {ROWS[name].title}, {size}, {broker} broker", err=True)
                    options = Options(
                        folder, blocks, scale, terminals,
                        most_slow_blocks=QUICK_SLOW_BLOCKS if quick else None, real_time=real_time,
                    )  # fmt: skip
                    found, failed = await measure(ROWS[name], broker, kinds, options)
                    measured.extend(found)
                    failures.extend(failed)
                    # A run takes an hour, and can be interrupted.
                    if save is not None:
                        finished().save(save)

    run_loop(measure_all())
    return finished()


def chosen_subjects(names: Sequence[str], checkouts: Sequence[str]) -> dict[str, SubjectKind]:
    """Return the subjects of the options; the floor is always first."""
    others = {}
    for checkout in checkouts:
        name, equals, folder = checkout.partition("=")
        if not equals or not (Path(folder) / "bridge").is_dir():
            raise click.UsageError(f"--checkout {checkout}: not NAME=FOLDER with the folder of a checkout")
        others[name] = Path(folder)
    kinds = subject_kinds(others)
    unknown = set(names) - kinds.keys()
    if unknown:
        raise click.UsageError(f"--subject {', '.join(sorted(unknown))}: not one of {', '.join(kinds)}")
    return {name: kind for name, kind in kinds.items() if not names or name == FLOOR or name in names or name in others}


def current_commit() -> str:
    """Return the commit of this checkout."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def show(lines: Iterable[str], run: Run) -> None:
    """Print results. If something failed, exit with 1."""
    for line in lines:
        click.echo(line)
    for failure in run.failures:
        click.echo(f"failed: {failure}", err=True)
    if run.failures:
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
