"""An import of ten thousand persons with photos of 100 KB: how long it takes, and how much memory at its highest.

Run as `python -m benchmarks.import_persons`; `--help` has the options. It writes a ZIP of a CSV and pictures, no two
alike, and runs `facebridge persons import` on it into an empty SQLite store on a real disk; then once more, when
nothing differs, and an export of all of it. The measure beside them is a bare copy of the ZIP, written durably.
"""

import os
import resource
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from time import perf_counter

import click
import yaml

from benchmarks.person_changes import file_system, photos
from tests.support.bridge_process import configuration

_PIECE = 1024 * 1024


@click.command()
@click.option("--persons", default=10_000, show_default=True, help="How many.")
@click.option("--terminals", default=1, show_default=True, help="To how many terminals.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), help="On which disk.")
def main(persons: int, terminals: int, folder: Path | None) -> None:
    """Measure an import."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        print(f"on {file_system(place)}")
        known: dict[str, dict[str, str]] = {f"T{number}": {} for number in range(terminals)}
        settings = configuration(1, terminals={"known": known})
        (place / "config.yaml").write_text(yaml.safe_dump(settings))
        file = place / "persons.zip"
        _write(file, persons)
        print(f"{persons:,} persons to {terminals} terminals, {file.stat().st_size / 1e6:,.0f} MB")
        started = perf_counter()
        _copy(file, place / "copy.zip")
        bare = perf_counter() - started
        (place / "copy.zip").unlink()
        print(f"bare copy       {bare:8.1f} s")
        for what, words in (
            ("import", ("persons", "import", str(file), "--group", "all")),
            ("import again", ("persons", "import", str(file), "--group", "all")),
            ("export", ("persons", "export", str(place / "out.zip"), "--group", "all")),
        ):
            _measure(what, place, words, persons, bare)


def _write(file: Path, persons: int) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        rows = ["id,name,card"]
        for number, photo in zip(range(persons), photos(persons), strict=True):
            archive.writestr(f"photos/{number}.jpg", photo)
            rows.append(f"{number},Person {number},{number:08}")
        archive.writestr("persons.csv", "\n".join(rows))


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(_PIECE):
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())


def _measure(what: str, place: Path, words: tuple[str, ...], persons: int, bare: float) -> None:
    started = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "bridge", *words, "-c", str(place / "config.yaml")])
    _, status, used = os.wait4(process.pid, 0)
    took = perf_counter() - started
    if status:
        raise click.ClickException(f"{what} failed")
    print(
        f"{what:<15} {took:8.1f} s, {took / bare:.1f} of the copy   {persons / took:8,.0f} persons/s"
        f"   memory at its highest {_megabytes(used):,.0f} MB   processor {used.ru_utime + used.ru_stime:,.1f} s"
    )


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
