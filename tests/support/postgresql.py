"""A real PostgreSQL of the tests' own: on a free port, in a folder of its own, with an empty database for each test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg

from tests.support.mosquitto import free_port

_NUMBERS = count(1)


class PostgreSQL:
    """A running server."""

    def __init__(self, port: int, folder: Path, programs: Path) -> None:
        self.port = port
        self._folder = folder
        self._programs = programs

    async def new_url(self) -> str:
        """Return the URL of a new, empty database, as `store.url` takes it."""
        name = f"facebridge_{next(_NUMBERS)}"
        connection = await asyncpg.connect(f"postgresql://facebridge:secret@127.0.0.1:{self.port}/postgres")
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        finally:
            await connection.close()
        return f"postgresql://facebridge:secret@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._control("start", "-w", "-l", str(self._folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """End it: `smart`, `fast`, or `immediate`, which is as good as a kill."""
        self._control("stop", "-w", "-m", mode)

    def _control(self, *arguments: str) -> None:
        _run(self._programs / "pg_ctl", "-D", self._folder / "data", *arguments)


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """Run a server; its data are gone at the end."""
    # Not below pytest's own folder, which is root's alone: the server refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="facebridge-postgresql-") as folder, _running(Path(folder)) as server:
        yield server


@contextmanager
def _running(folder: Path) -> Iterator[PostgreSQL]:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
    assert programs is not None, "PostgreSQL is not installed; scripts/test --all does that"
    port = free_port()
    password = folder / "password"
    password.write_text("secret")
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        shutil.chown(password, "postgres")
    _run(
        programs / "initdb", "-D", folder / "data", "-U", "facebridge", "--pwfile", password, "--no-sync",
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
    )  # fmt: skip
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write(f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n")
        # The tests kill programs, not the machine.
        file.write("fsync = off\nmax_connections = 200\n")
    server = PostgreSQL(port, folder, programs)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")


def _run(program: Path, *arguments: str | Path) -> None:
    # The server lives on with what it inherits: a pipe would never be read to its end.
    errors = None if "start" in arguments else subprocess.PIPE
    as_its_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_its_user, str(program), *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
        env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False, cwd="/", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, (done.stderr or b"").decode()
