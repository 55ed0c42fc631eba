"""Rows of the store: import and export of many persons, and a start with many persons."""

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.harness import MEMORY_MB, Metric, Options, Row, Values
from benchmarks.processes import memory_kb, processor_seconds
from benchmarks.stores import fill_store, write_import
from benchmarks.subjects.setting import Setting, SubjectKind
from benchmarks.subjects.starting import Product

IMPORTED_PERSONS = 10_000
STORED_PERSONS = 100_000

_COPY_BLOCK_BYTES = 1024 * 1024


async def import_persons(kind: SubjectKind, setting: Setting, options: Options) -> Values:
    """Import persons, import them again, and export them, as the command line does."""
    assert isinstance(kind, Product)
    persons = options.scaled(IMPORTED_PERSONS, 2)
    file = setting.folder / "persons.zip"
    write_import(file, persons)
    copy_seconds = _elapsed(lambda: _copy(file, setting.folder / "copy.zip"))
    values: dict[str, float] = {"copy_seconds": copy_seconds}
    words = ("persons", "import", str(file), "--group", "all")
    began = perf_counter()
    used = kind.command_line(setting, *words)
    seconds = perf_counter() - began
    values |= {
        "per_second": persons / seconds,
        "copies": seconds / copy_seconds,
        "processor_ms": used.processor_seconds / persons * 1000,
        "memory_mb": used.memory_mb,
    }
    values["again_seconds"] = _elapsed(lambda: kind.command_line(setting, *words))
    out = str(setting.folder / "out.zip")
    values["export_seconds"] = _elapsed(lambda: kind.command_line(setting, "persons", "export", out, "--group", "all"))
    return values


async def start(kind: SubjectKind, setting: Setting, options: Options) -> Values:
    """Start with an empty store, then with many persons."""
    assert isinstance(kind, Product)
    empty_seconds, _ = await _start(kind, setting)
    (setting.folder / "facebridge.db").unlink()
    fill_store(kind, setting, options.scaled(STORED_PERSONS, 2))
    seconds, values = await _start(kind, setting)
    return {**values, "seconds": seconds, "times_empty": seconds / empty_seconds}


async def _start(kind: Product, setting: Setting) -> tuple[float, Values]:
    began = perf_counter()
    async with kind(setting) as subject:
        seconds = perf_counter() - began
        return seconds, {
            "processor_s": processor_seconds(subject.pid),
            "memory_mb": memory_kb(subject.pid) / 1024,
        }


def _elapsed(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(_COPY_BLOCK_BYTES):
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())
    target.unlink()


_IMPORT = (
    Metric("per_second", "1/s", "persons a second", lower_is_better=False),
    Metric("copies", "times", "times a plain copy"),
    Metric("processor_ms", "ms", "processor for each"),
    MEMORY_MB,
    Metric("again_seconds", "s", "import again"),
    Metric("export_seconds", "s", "export"),
)
_START = (
    Metric("seconds", "s", "start to ready"),
    Metric("times_empty", "times", "times an empty store"),
    Metric("processor_s", "s", "processor"),
    MEMORY_MB,
)

ROWS = (
    Row(
        "import", f"import of {IMPORTED_PERSONS:,} persons", _IMPORT, 1,
        fresh_block=import_persons, brokers=("stock",), most_blocks=2, only_product=True,
    ),
    Row(
        "start-persons", f"start with {STORED_PERSONS:,} persons", _START, 1,
        fresh_block=start, brokers=("stock",), most_blocks=3, only_product=True,
    ),
)  # fmt: skip
