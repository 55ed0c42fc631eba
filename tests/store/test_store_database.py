"""The database: opening and its checks, groups of transactions, and a store that fails."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from time import sleep
from types import NoneType
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, insert, select, text

from bridge.model.faults import UnavailableError
from bridge.store.database import Database
from bridge.store.errors import CommitUnknownError, StoreDamagedError, StoreTooNewError, StoreUrlError
from bridge.store.tables import PHOTO
from tests.support.failing_commit import failing_commit
from tests.support.file_size import file_size_limit
from tests.support.postgresql import PostgreSQL


def insert_photo(connection: Connection, sha256: str, size: int = 10) -> str:
    connection.execute(insert(PHOTO).values(sha256=sha256, jpeg=bytes(size)))
    return sha256


async def put_photo(database: Database, sha256: str, size: int = 10) -> None:
    await database.write(insert_photo, sha256, size)


@contextmanager
def held_writer(database: Database) -> Iterator["asyncio.Future[None]"]:
    """Keep the writer busy during the block, so that what is submitted waits; give the future that ends after it."""

    def wait(_connection: Connection) -> None:
        may_go_on.wait()

    may_go_on = Event()
    try:
        yield database.submit(wait)
    finally:
        may_go_on.set()


def count_commits(database: Database) -> list[Connection]:
    """Return a list to which each commit adds its connection."""
    commits: list[Connection] = []
    event.listen(database.engine, "commit", commits.append)
    return commits


def content(file: Path) -> bytes:
    return file.read_bytes()


def overwrite(file: Path, content: bytes | bytearray) -> None:
    file.write_bytes(content)


def photo_names(connection: Connection) -> set[str]:
    return set(connection.execute(select(PHOTO.c.sha256)).scalars())


async def photos(database: Database) -> set[str]:
    return await database.read(photo_names)


async def test_a_new_store_is_readable_by_its_owner_only(sqlite: Database, file: Path) -> None:
    await put_photo(sqlite, "a")
    assert {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {
        "store.db": 0o600,
        "store.db-wal": 0o600,
        "store.db-shm": 0o600,
    }


async def test_what_is_committed_is_on_the_disk(sqlite: Database) -> None:
    def settings(connection: Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return {name: connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names}

    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert await sqlite.write(settings) == await sqlite.read(settings) == expected


async def test_a_store_keeps_its_content(file: Path) -> None:
    database = await Database.open(f"sqlite:///{file}")
    await put_photo(database, "a")
    await database.close()
    database = await Database.open(f"sqlite:///{file}")
    assert await photos(database) == {"a"}
    assert await database.reachable()
    await database.close()


async def test_an_exception_undoes_the_transaction(database: Database) -> None:
    def fail(connection: Connection) -> None:
        insert_photo(connection, "a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(fail)
    assert await photos(database) == set()


async def test_a_caller_that_is_cancelled_does_not_cancel_its_function(database: Database) -> None:
    with held_writer(database):
        task = asyncio.get_running_loop().create_task(put_photo(database, "a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await put_photo(database, "b")
    assert await photos(database) == {"a", "b"}


async def test_functions_that_wait_share_a_commit(database: Database) -> None:
    commits = count_commits(database)
    with held_writer(database) as held:
        waiting = [database.submit(partial(insert_photo, sha256=str(number))) for number in range(20)]
    assert await asyncio.gather(*waiting) == [str(number) for number in range(20)]
    assert held.done()
    # A slow machine may need more than one, as a group is limited in time.
    assert len(commits) < 10
    assert len(await photos(database)) == 20


async def test_a_group_is_limited_in_time(database: Database) -> None:
    def take_long(connection: Connection, number: int) -> None:
        insert_photo(connection, str(number))
        sleep(0.03)

    commits = count_commits(database)
    with held_writer(database):
        waiting = [database.submit(partial(take_long, number=number)) for number in range(5)]
    await asyncio.gather(*waiting)
    assert len(commits) >= 2


async def test_a_function_that_fails_undoes_only_its_own_changes(database: Database) -> None:
    def fail(connection: Connection) -> None:
        insert_photo(connection, "failed")
        raise ZeroDivisionError

    def fail_in_the_database(connection: Connection) -> None:
        insert_photo(connection, "failed too")
        insert_photo(connection, "a")

    with held_writer(database):
        ended: list[asyncio.Future[Any]] = [
            database.submit(partial(insert_photo, sha256="a")),
            database.submit(fail),
            database.submit(fail_in_the_database),
            database.submit(partial(insert_photo, sha256="b")),
        ]
    await asyncio.wait(ended)
    assert [type(one.exception()) for one in ended] == [NoneType, ZeroDivisionError, UnavailableError, NoneType]
    assert await photos(database) == {"a", "b"}


async def test_a_first_function_that_fails_leaves_the_others_their_transaction(database: Database) -> None:
    def fail(connection: Connection) -> None:
        insert_photo(connection, "failed")
        may_go_on.wait()
        raise ZeroDivisionError

    may_go_on = Event()
    failed = database.submit(fail)
    other = database.submit(partial(insert_photo, sha256="a"))
    may_go_on.set()
    await asyncio.wait((failed, other))
    assert isinstance(failed.exception(), ZeroDivisionError)
    assert await photos(database) == {"a"}


async def test_a_transaction_that_sqlite_ends_by_itself_fails_for_all(sqlite: Database) -> None:
    def end_transaction(connection: Connection) -> None:
        # As SQLite does by itself at some errors.
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.rollback()

    def end_transaction_and_fail(connection: Connection) -> None:
        end_transaction(connection)
        raise ZeroDivisionError

    for function in (end_transaction, end_transaction_and_fail):
        with held_writer(sqlite) as held:
            before = sqlite.submit(partial(insert_photo, sha256="a"))
            ended = sqlite.submit(function)
            behind = sqlite.submit(partial(insert_photo, sha256=function.__name__))
        await asyncio.gather(held, before, ended, behind, return_exceptions=True)
        for one in (held, before):
            assert isinstance(one.exception(), UnavailableError)
            assert not isinstance(one.exception(), CommitUnknownError)
        assert ended.exception() is not None
        # It runs in the next transaction.
        assert behind.exception() is None
    assert await photos(sqlite) == {"end_transaction", "end_transaction_and_fail"}


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
async def test_a_commit_that_fails_is_unknown_for_all(database: Database, is_stored: bool) -> None:
    with failing_commit(database, is_stored=is_stored):
        with held_writer(database) as held:
            ended = [database.submit(partial(insert_photo, sha256=name)) for name in "ab"]
        await asyncio.gather(held, *ended, return_exceptions=True)
        for name, one in zip("ab", ended, strict=True):
            error = one.exception()
            assert isinstance(error, CommitUnknownError)
            assert error.result == name
    assert await photos(database) == ({"a", "b"} if is_stored else set())
    await put_photo(database, "c")
    assert "c" in await photos(database)


@pytest.mark.slow
async def test_a_connection_that_breaks_under_a_commit(postgresql: PostgreSQL) -> None:
    url = await postgresql.new_url()
    database = await Database.open(url)

    @event.listens_for(database.engine, "commit", once=True)
    def break_connection(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        with psycopg.connect(url) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [driver.info.backend_pid])

    with pytest.raises(CommitUnknownError):
        await put_photo(database, "a")
    await put_photo(database, "b")
    assert await photos(database) == {"b"}
    await database.close()


async def test_a_commit_without_space_or_lock_has_certainly_changed_nothing(sqlite: Database) -> None:
    with failing_commit(sqlite, is_stored=False, error_name="SQLITE_FULL"):
        with pytest.raises(UnavailableError, match="the store is full") as caught:
            await put_photo(sqlite, "a")
        assert not isinstance(caught.value, CommitUnknownError)
    assert await photos(sqlite) == set()
    await put_photo(sqlite, "a")


async def test_closing_finishes_what_waits(file: Path) -> None:
    database = await Database.open(f"sqlite:///{file}")
    waiting = [database.submit(partial(insert_photo, sha256=str(number))) for number in range(150)]
    await database.close()
    assert all(one.done() for one in waiting)
    with pytest.raises(UnavailableError, match="closed"):
        await put_photo(database, "late")
    with pytest.raises(UnavailableError, match="closed"):
        await photos(database)
    again = await Database.open(f"sqlite:///{file}")
    assert len(await photos(again)) == 150
    await again.close()


async def test_many_readers_beside_a_writer(database: Database) -> None:
    def insert_and_wait(connection: Connection) -> None:
        insert_photo(connection, "a")
        has_inserted.set()
        may_commit.wait()

    has_inserted, may_commit = Event(), Event()
    written = database.submit(insert_and_wait)
    await asyncio.to_thread(has_inserted.wait)
    assert await asyncio.gather(*(photos(database) for _ in range(50))) == [set()] * 50
    may_commit.set()
    await written
    assert await photos(database) == {"a"}


async def test_a_reader_sees_one_state(database: Database) -> None:
    def read_twice(connection: Connection) -> list[set[str]]:
        first = photo_names(connection)
        has_read.set()
        may_go_on.wait()
        return [first, photo_names(connection)]

    has_read, may_go_on = Event(), Event()
    reading = asyncio.get_running_loop().create_task(database.read(read_twice))
    await asyncio.to_thread(has_read.wait)
    await put_photo(database, "a")
    may_go_on.set()
    assert await reading == [set(), set()]


async def test_a_store_of_a_newer_version_is_left_alone(file: Path) -> None:
    await (await Database.open(f"sqlite:///{file}")).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = content(file)
    with pytest.raises(StoreTooNewError, match=r"newer version of Facebridge .*9999.*restore a backup"):
        await Database.open(f"sqlite:///{file}")
    assert content(file) == before


async def test_a_file_that_is_no_store_is_left_alone(file: Path) -> None:
    overwrite(file, b"mqtt:\n  host: broker\n" * 100)
    with pytest.raises(StoreDamagedError, match=r"store\.db cannot be used.*restore a backup"):
        await Database.open(f"sqlite:///{file}")
    assert content(file) == b"mqtt:\n  host: broker\n" * 100


async def test_a_damaged_schema_is_noticed_at_the_start(file: Path) -> None:
    await (await Database.open(f"sqlite:///{file}")).close()
    damaged = bytearray(content(file))
    damaged[100:4096] = b"\xff" * 3996
    overwrite(file, damaged)
    with pytest.raises(StoreDamagedError, match="restore a backup"):
        await Database.open(f"sqlite:///{file}")


@pytest.mark.parametrize(
    "url",
    ["", "facebridge.db", "sqlite://", "sqlite:///:memory:", "mysql://h/d", "sqlite+pysqlite:///x", "sqlite://x/y"],
)
async def test_a_url_that_is_no_store(url: str) -> None:
    with pytest.raises(StoreUrlError, match=r"store\.url"):
        await Database.open(url)


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No such file or directory"):
        await Database.open(f"sqlite:///{tmp_path}/missing/store.db")


async def test_a_store_locked_by_another_program(sqlite: Database, file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked by another program"):
            await put_photo(sqlite, "a")
        other.rollback()
    await put_photo(sqlite, "b")
    assert await photos(sqlite) == {"b"}


async def test_a_full_store(sqlite: Database) -> None:
    await put_photo(sqlite, "a")

    @event.listens_for(sqlite.engine, "begin")
    def keep_small(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")

    with pytest.raises(UnavailableError, match="the store is full"):
        await put_photo(sqlite, "b", size=100_000)
    assert await photos(sqlite) == {"a"}
    assert sqlite.write_problem is not None
    assert "the store is full" in sqlite.write_problem
    assert not await sqlite.reachable(), "it can be read, but changes cannot be stored"


async def test_a_disk_that_is_full_and_then_has_space_again(sqlite: Database, file: Path) -> None:
    await put_photo(sqlite, "a")
    noted: list[str | None] = []
    sqlite.watch_writes(noted.append)
    with file_size_limit(file.with_name("store.db-wal").stat().st_size + 50_000):
        with pytest.raises(UnavailableError):
            await put_photo(sqlite, "b", size=100_000)
        assert await photos(sqlite) == {"a"}
        assert not await sqlite.reachable()
    await put_photo(sqlite, "c", size=100_000)
    assert await photos(sqlite) == {"a", "c"}
    assert await sqlite.reachable()
    problem, repaired = noted
    assert problem is not None
    assert repaired is None


async def test_errors_contain_no_values(database: Database) -> None:
    await put_photo(database, "the-secret")
    with pytest.raises(UnavailableError) as caught:
        await put_photo(database, "the-secret")
    error: BaseException | None = caught.value
    while error is not None:
        assert "the-secret" not in str(error)
        error = error.__cause__


async def test_a_deferred_function_shares_the_next_commit(database: Database) -> None:
    commits = count_commits(database)
    deferred = database.submit_deferred(partial(insert_photo, sha256="deferred"), 60.0)
    await put_photo(database, "a")
    assert await deferred == "deferred"
    assert await photos(database) == {"a", "deferred"}
    assert len(commits) == 1


async def test_a_deferred_function_gets_a_transaction_of_its_own_in_time(database: Database) -> None:
    commits = count_commits(database)
    first = database.submit_deferred(partial(insert_photo, sha256="a"), 0.01)
    second = database.submit_deferred(partial(insert_photo, sha256="b"), 0.01)
    assert [await first, await second] == ["a", "b"]
    assert len(commits) == 1


async def test_a_deferred_function_that_fails_undoes_only_its_own_changes(database: Database) -> None:
    def fail(connection: Connection) -> None:
        insert_photo(connection, "deferred")
        raise ZeroDivisionError

    deferred = database.submit_deferred(fail, 60.0)
    await put_photo(database, "a")
    with pytest.raises(ZeroDivisionError):
        await deferred
    assert await photos(database) == {"a"}


async def test_a_deferred_function_runs_before_the_store_is_closed(file: Path) -> None:
    database = await Database.open(f"sqlite:///{file}")
    deferred = database.submit_deferred(partial(insert_photo, sha256="a"), 60.0)
    await database.close()
    assert await deferred == "a"
    late = database.submit_deferred(partial(insert_photo, sha256="b"), 60.0)
    with pytest.raises(UnavailableError):
        await late


async def test_options_of_the_engine_hold_for_the_next_transaction(database: Database) -> None:
    def option(connection: Connection) -> object:
        return connection.get_execution_options().get("name")

    assert await database.write(option) is None
    database.engine.update_execution_options(name="value")
    assert await database.write(option) == "value"
