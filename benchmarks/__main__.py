"""The command line of the benchmarks; `scripts/bench` sets up what it needs."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.event_loop import run as run_loop
from benchmarks.harness import BROKERS, Measured, Options, Row, measure
from benchmarks.processes import IN_MEMORY, file_system, this_machine
from benchmarks.results import Run, comparison, table
from benchmarks.rows import connections, opens, persons
from benchmarks.subjects.starting import FLOOR, PRODUCT, ROOT, SubjectKind, subject_kinds

ROWS: dict[str, Row] = {row.name: row for row in (*opens.ROWS, *persons.ROWS, *connections.ROWS)}


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


@main.command()
@click.argument("names", metavar="[ROW]...", nargs=-1, type=click.Choice(list(ROWS)))
@click.option(
    "--subject", "subjects", multiple=True, help="Only this subject; several times: several. The floor is always one."
)
@click.option("--broker", "brokers", multiple=True, type=click.Choice(list(BROKERS)), help="Only this Mosquitto.")
@click.option("--blocks", type=click.IntRange(1), default=5, show_default=True, help="Blocks of each row.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor of the duration of a block: 0.2 for a quick look.",
)
@click.option("--terminals", type=click.IntRange(1), help="Number of terminals instead of each row's own.")
@click.option(
    "--checkout",
    "checkouts",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Measure the product of another checkout, too, for example before=../main.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/var/tmp",
    show_default=True,
    help="A folder on a real disk for stores.",
)
@click.option("--memory", is_flag=True, help="Allow a folder in memory, where commits cost nothing.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the results.")
def run(
    names: Sequence[str], subjects: Sequence[str], brokers: Sequence[str], blocks: int, scale: float,
    terminals: int | None, checkouts: Sequence[str], folder: Path, memory: bool, save: Path | None,
) -> None:  # fmt: skip
    """Measure the rows (without a name: all) and print them."""
    kind = file_system(folder)
    if kind.split()[0] in IN_MEMORY and not memory:
        raise click.UsageError(
            f"{folder} is in memory ({kind}), but commits to a disk are measured: give --folder or --memory"
        )
    kinds = chosen_subjects(subjects, checkouts)
    options = Options(folder, blocks, scale, terminals)
    rows = [ROWS[name] for name in names or ROWS]
    measured = run_loop(measure_all(rows, brokers or list(BROKERS), kinds, options))
    finished = finished_run(options, measured)
    for line in table(finished, ROWS):
        click.echo(line)
    if save is not None:
        finished.save(save)


async def measure_all(
    rows: Sequence[Row], brokers: Sequence[str], kinds: dict[str, SubjectKind], options: Options
) -> list[Measured]:
    """Measure rows with each broker."""
    measured: list[Measured] = []
    for row in rows:
        for broker in row.brokers:
            if broker not in brokers:
                continue
            click.echo(f"measuring: {row.title}, {broker} broker", err=True)
            measured += await measure(row, broker, kinds, options)
    return measured


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


def finished_run(options: Options, measured: Sequence[Measured]) -> Run:
    """Return the results with what they depend on."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    date = datetime.now(UTC).isoformat(timespec="minutes")
    return Run(date, commit, this_machine(options.folder), options.blocks, options.scale, tuple(measured))


@main.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--subject", default=PRODUCT, show_default=True, help="The subject to compare.")
def compare(before: Path, after: Path, subject: str) -> None:
    """Compare two saved runs."""
    for line in comparison(Run.load(before), Run.load(after), ROWS, subject):
        click.echo(line)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
