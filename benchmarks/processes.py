"""Processor time and memory of processes, and a description of this machine."""

import asyncio
import ctypes
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import tempfile
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import clock_gettime, perf_counter

from benchmarks.photos import photos

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

_COMMITS = 50

_REAL_TIME_PRIORITY = 1
"""The lowest of SCHED_FIFO."""

SETTLED_CORES = 0.1
SETTLED_CORES_PER_TERMINAL = 0.00003
"""A subject that uses less of a core has finished the work after a storm. Terminals at rest need 0.00002 at most."""

SETTLE_SECONDS = 300.0

IN_MEMORY = ("tmpfs", "ramfs")
"""File systems on which a commit costs nothing."""


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and its children have used, those that have ended included.

    `/proc` counts ticks of 10 ms. The processor clock of a process (clock_getcpuclockid(3)) is exact.
    """
    # proc(5): the name is in parentheses and can contain any character; cutime and cstime are the fields 16 and 17.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended_children = (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND
    return _own_processor_seconds(pid) + ended_children + sum(processor_seconds(child) for child in children(pid))


def memory_kb(pid: int) -> int:
    """Return the resident memory of a process and its children in KB.

    Unlike the proportional set size, it does not change when other programs load the same libraries.
    """
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) + sum(memory_kb(child) for child in children(pid))


def set_real_time(pid: int) -> None:
    """Let a process run before all ordinary ones (sched(7), SCHED_FIFO), but not the processes that it starts later.

    Raises:
        PermissionError: this user may not do that.
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(
            int(thread.name), os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_REAL_TIME_PRIORITY)
        )


def open_files(pid: int) -> int:
    """Return the number of open files of a process, sockets included."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children(pid: int) -> list[int]:
    """Return the child processes of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


async def busy_cores(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses in the next seconds."""
    before, began = processor_seconds(pid), perf_counter()
    await asyncio.sleep(seconds)
    return (processor_seconds(pid) - before) / (perf_counter() - began)


async def settled(pid: int, terminals: int) -> None:
    """Wait until a process has almost nothing to do, apart from the pings of connected terminals."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while await busy_cores(pid, 0.5) > SETTLED_CORES + terminals * SETTLED_CORES_PER_TERMINAL:
            pass


def _own_processor_seconds(pid: int) -> float:
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error))
    return clock_gettime(clock.value)


_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures of a run depend on."""

    processor: str
    cores: int
    memory_gb: int
    kernel: str
    python: str
    mosquitto: str
    store: str
    commit_ms: float
    """Time of a commit with a photo to an SQLite file; it bounds how fast persons can be stored one after the other."""

    load: float
    """Load average at the start; above 0 other programs disturb the measurement."""


def this_machine(folder: Path) -> Machine:
    """Describe this machine, with the file system of a folder for stores."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    version = subprocess.run(
        ["mosquitto", "-h"], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
    ).stdout  # fmt: skip
    return Machine(
        processor=model[1] if model else platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        kernel=platform.release(),
        python=platform.python_version(),
        mosquitto=version.partition("\n")[0].removeprefix("mosquitto version "),
        store=file_system(folder),
        commit_ms=round(commit_seconds(folder) * 1000, 2),
        load=round(os.getloadavg()[0], 1),
    )


def commit_seconds(folder: Path) -> float:
    """Return the median time of inserting a photo with the SQLite settings of the bridge, with a commit for each."""
    seconds = []
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        closing(sqlite3.connect(f"{own}/plain.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE photo (id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL)")
        for photo in islice(photos(), _COMMITS):
            began = perf_counter()
            connection.execute("INSERT INTO photo (jpeg) VALUES (?)", (photo,))
            seconds.append(perf_counter() - began)
    return statistics.median(seconds)


def file_system(folder: Path) -> str:
    """Return the type of the file system of a folder, and its device."""
    result = subprocess.run(["df", "--output=fstype,source", folder], check=True, capture_output=True, text=True)
    return " on ".join(result.stdout.splitlines()[1].split())
