"""A PostgreSQL server for tests, on a free port, with an empty database for each test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import trustme

from tests.support.ports import free_port

_NUMBERS = count(1)


class PostgreSQL:
    """A running server."""

    def __init__(self, port: int, folder: Path, programs: Path) -> None:
        self.port = port
        self._folder = folder
        self._programs = programs

    async def new_url(self) -> str:
        """Create an empty database and return its URL, in the form that `store.url` accepts."""
        name = f"facebridge_{next(_NUMBERS)}"
        server = f"postgresql://facebridge:secret@127.0.0.1:{self.port}/postgres"
        async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return f"postgresql://facebridge:secret@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._control("start", "-w", "-l", str(self._folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; mode `immediate` has the effect of a crash."""
        self._control("stop", "-w", "-m", mode)

    def _control(self, *arguments: str) -> None:
        _run(self._programs / "pg_ctl", "-D", self._folder / "data", *arguments)


@contextmanager
def postgresql_server(certificate: trustme.LeafCert | None = None) -> Iterator[PostgreSQL]:
    """Run a server and delete its data at the end; with a certificate it also accepts TLS."""
    # PostgreSQL refuses to run as root, and no other user can read pytest's temporary folder.
    with (
        tempfile.TemporaryDirectory(prefix="facebridge-postgresql-") as folder,
        _running(Path(folder), certificate) as server,
    ):
        yield server


@contextmanager
def _running(folder: Path, certificate: trustme.LeafCert | None) -> Iterator[PostgreSQL]:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
    assert programs is not None, "PostgreSQL is not installed: run scripts/test --all, which installs it"
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
        # fsync matters only when the whole machine crashes, which no test does.
        file.write("fsync = off\nmax_connections = 200\n")
        if certificate is not None:
            file.write(f"ssl = on\nssl_cert_file = '{folder}/server.pem'\nssl_key_file = '{folder}/server.key'\n")
            _write_certificate(folder, certificate)
    server = PostgreSQL(port, folder, programs)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")


def _write_certificate(folder: Path, certificate: trustme.LeafCert) -> None:
    key, chain = folder / "server.key", folder / "server.pem"
    key.touch(mode=0o600)
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    if os.geteuid() == 0:
        shutil.chown(key, "postgres")
        shutil.chown(chain, "postgres")


def _run(program: Path, *arguments: str | Path) -> None:
    # The server inherits the file descriptors of `pg_ctl start`: reading a pipe to its end would wait for the server.
    errors = None if "start" in arguments else subprocess.PIPE
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_user, str(program), *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
        env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False, cwd="/", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, (done.stderr or b"").decode()
