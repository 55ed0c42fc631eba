"""A store that cannot be used: the message names the fault, the driver's reason and the remedy, and no secret."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from sqlalchemy import Connection

from bridge.model.faults import UnavailableError
from bridge.store.database import Database
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL, postgresql_server
from tests.support.small_disk import SmallDisk

AUTHORITY = trustme.CA()


def execute(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


async def message_of_opening(url: str) -> str:
    with pytest.raises(UnavailableError) as caught:
        await Database.open(url)
    return str(caught.value)


async def message_of(database: Database, *statements: str) -> str:
    with pytest.raises(UnavailableError) as caught:
        await database.write(execute, *statements)
    return str(caught.value)


async def test_a_locked_file(sqlite: Database, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await message_of(sqlite, "DELETE FROM photo") == (
            "the store is locked by another program (database is locked): close the program that has it open"
        )


async def test_a_file_that_may_not_be_written(sqlite: Database) -> None:
    assert await message_of(sqlite, "PRAGMA query_only = ON", "DELETE FROM photo") == (
        "the store may not be written to (attempt to write a readonly database): let the bridge's user write to the"
        " file, its folder and the file system"
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk").mounted() as disk:
        yield disk


async def test_a_full_disk(disk: SmallDisk) -> None:
    database = await Database.open(f"sqlite:///{disk.folder}/store.db")
    try:
        disk.fill()
        assert await message_of(database, f"INSERT INTO photo VALUES ('x', zeroblob({10**6}), NULL)") == (
            "the store is full (database or disk is full): free some space on its disk"
        )
    finally:
        disk.free_space()
        await database.close()


async def test_a_disk_that_is_mounted_read_only(disk: SmallDisk) -> None:
    disk.set_read_only(read_only=True)
    message = await message_of_opening(f"sqlite:///{disk.folder}/store.db")
    assert message.startswith(
        f"the store may not be written to ({disk.folder}/store.db: Read-only file system): let the bridge's user write"
    )


async def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert await message_of_opening(f"sqlite:///{tmp_path}/none/store.db") == (
        f"the store's file or folder cannot be opened ({tmp_path}/none/store.db: No such file or directory): check"
        " store.url, and that the bridge's user may read and write the file and its folder"
    )


async def test_an_unexpected_error_names_no_value(sqlite: Database) -> None:
    insertion = "INSERT INTO photo VALUES ('Ada', x'00', NULL)"
    assert await message_of(sqlite, insertion, insertion) == "the store failed (IntegrityError)"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql_server(AUTHORITY.issue_cert("localhost")) as server:
        yield server


LOGIN = "check the user and the password in store.url"
TLS = "check sslmode and sslrootcert in store.url, and the certificate (docs/operation.md)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (":secret@", ":hidden@", f'password authentication failed for user "facebridge"): {LOGIN}'),
        (":secret@", "@", f"fe_sendauth: no password supplied): {LOGIN}"),
        (":secret@", ":sec@hidden@", "failed to resolve host '…@127.0.0.1': [Errno -2] Name or service not known): "),
        ("/facebridge_", "/none_", 'does not exist): create the database, or correct its name in store.url'),
        ("127.0.0.1", "none.invalid", "'none.invalid': [Errno -2] Name or service not known): check the host in"),
        (":PORT/", ":CLOSED/", "Connection refused): check that the server runs, and that it accepts connections at"),
        ("?", "?sslmode=hidden&", 'connection is bad: invalid sslmode value: "hidden"): correct the options'),
        ("?", "?hidden=1&", 'invalid connection option "hidden"): correct the options in store.url'),
        ("?", "?sslmode=verify-full&sslrootcert=CA&", f"does not match host name \"127.0.0.1\"): {TLS}"),
        ("127.0.0.1", "localhost", f"SSL error: certificate verify failed): {TLS}"),
    ],
    ids=["wrong password", "no password", "@ in the password", "database", "host", "port", "value", "option",
         "certificate's host", "authority"],
)  # fmt: skip
async def test_a_server_that_cannot_be_reached(
    server: PostgreSQL, tmp_path: Path, before: str, after: str, message: str
) -> None:
    authority = AUTHORITY if "sslrootcert" in after else trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url = f"{await server.new_url()}?connect_timeout=5"
    if after == "localhost":
        url += f"&sslmode=verify-full&sslrootcert={tmp_path}/ca.pem"
    before = before.replace("PORT", str(server.port))
    after = after.replace("CLOSED", str(free_port())).replace("CA", f"{tmp_path}/ca.pem")
    assert before in url
    shown = await message_of_opening(url.replace(before, after))
    assert shown.startswith("the store cannot be reached (")
    assert message in shown
    assert "\n" not in shown
    if "hidden@" in after:
        assert "hidden" not in shown
    assert "secret" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            ["SET TRANSACTION READ ONLY", "DELETE FROM photo"],
            "the store may not be written to (cannot execute DELETE in a read-only transaction): store.url must name",
        ),
        (
            ["SET LOCAL statement_timeout = '10ms'", "SELECT pg_sleep(5)"],
            "the database server cancelled a statement (canceling statement due to statement timeout): raise",
        ),
        (
            ["CREATE ROLE hidden", "SET LOCAL ROLE hidden", "DELETE FROM photo"],
            "the store refuses its user (permission denied for table photo): grant",
        ),
        (["DO $$BEGIN RAISE 'out of space' USING ERRCODE = '53100'; END$$"], "the store is full (out of space): free"),
        (["INSERT INTO photo VALUES ('Ada', '', NULL), ('Ada', '', NULL)"], "the store failed (UniqueViolation, "),
        (["SELECT pg_terminate_backend(pg_backend_pid())"], "the store cannot be reached (terminating connection due"),
    ],
    ids=["read-only", "cancelled", "rights", "full", "values", "stopped"],
)
async def test_a_server_that_refuses_a_change(server: PostgreSQL, statements: list[str], message: str) -> None:
    database = await Database.open(await server.new_url())
    shown = await message_of(database, *statements)
    assert shown.startswith(message)
    assert "Ada" not in shown
    await database.close()


@pytest.mark.slow
async def test_a_server_that_stops_while_the_bridge_runs(server: PostgreSQL) -> None:
    database = await Database.open(await server.new_url())
    server.stop("immediate")
    try:
        assert (await message_of(database, "DELETE FROM photo")).startswith("the store cannot be reached (")
    finally:
        server.start()
        await database.close()
