"""Measures time and peak memory of an import of ten thousand persons with photos of 100 KB.

Run `python -m benchmarks.import_persons`; `--help` lists the options. It writes a ZIP with a CSV and pictures, all
different, and runs `facebridge persons import` with an empty SQLite store on a real disk; then once more, when nothing
differs, and an export. It compares with a plain copy of the ZIP that is synced to the disk.
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

_COPY_BLOCK_BYTES = 1024 * 1024


@click.command()
@click.option("--persons", default=10_000, show_default=True, help="Number of persons.")
@click.option("--terminals", default=1, show_default=True, help="Number of terminals.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), help="A folder on the disk to measure."
)
def main(persons: int, terminals: int, folder: Path | None) -> None:
    """Measure an import."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work_folder = Path(name)
        print(f"on {file_system(work_folder)}")
        known: dict[str, dict[str, str]] = {f"T{number}": {} for number in range(terminals)}
        settings = configuration(1, terminals={"known": known})
        (work_folder / "config.yaml").write_text(yaml.safe_dump(settings))
        file = work_folder / "persons.zip"
        _write(file, persons)
        print(f"{persons:,} persons to {terminals} terminals, {file.stat().st_size / 1e6:,.0f} MB")
        started = perf_counter()
        _copy(file, work_folder / "copy.zip")
        copy_seconds = perf_counter() - started
        (work_folder / "copy.zip").unlink()
        print(f"plain copy      {copy_seconds:8.1f} s")
        for what, words in (
            ("import", ("persons", "import", str(file), "--group", "all")),
            ("import again", ("persons", "import", str(file), "--group", "all")),
            ("export", ("persons", "export", str(work_folder / "out.zip"), "--group", "all")),
        ):
            _measure(what, work_folder, words, persons, copy_seconds)


def _write(file: Path, persons: int) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        rows = ["id,name,card"]
        for number, photo in zip(range(persons), photos(persons), strict=True):
            archive.writestr(f"photos/{number}.jpg", photo)
            rows.append(f"{number},Person {number},{number:08}")
        archive.writestr("persons.csv", "\n".join(rows))


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(_COPY_BLOCK_BYTES):
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())


def _measure(what: str, folder: Path, words: tuple[str, ...], persons: int, copy_seconds: float) -> None:
    started = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "bridge", *words, "-c", str(folder / "config.yaml")])
    _, status, used = os.wait4(process.pid, 0)
    seconds = perf_counter() - started
    if status:
        raise click.ClickException(f"{what} failed with exit code {os.waitstatus_to_exitcode(status)}")
    print(
        f"{what:<15} {seconds:8.1f} s, {seconds / copy_seconds:.1f} times the copy  {persons / seconds:8,.0f} persons/s"
        f"   peak memory {_megabytes(used):,.0f} MB   processor {used.ru_utime + used.ru_stime:,.1f} s"
    )


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
