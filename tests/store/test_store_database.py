"""Opening a store: what is made, what is checked, what is refused; and what a store that fails looks like."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select, text

from bridge.model.faults import UnavailableError
from bridge.store.database import Database
from bridge.store.errors import StoreDamagedError, StoreTooNewError, StoreUrlError
from bridge.store.tables import PHOTO
from tests.support.file_size import file_size_limit


async def put_photo(database: Database, sha256: str, size: int = 10) -> None:
    async with database.writing() as connection:
        await connection.execute(insert(PHOTO).values(sha256=sha256, jpeg=bytes(size)))


def content(file: Path) -> bytes:
    return file.read_bytes()


def overwrite(file: Path, content: bytes | bytearray) -> None:
    file.write_bytes(content)


async def photos(database: Database) -> set[str]:
    async with database.reading() as connection:
        return set((await connection.execute(select(PHOTO.c.sha256))).scalars())


async def test_a_new_store_is_nobody_elses_to_read(sqlite: Database, file: Path) -> None:
    await put_photo(sqlite, "a")
    assert {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {
        "store.db": 0o600,
        "store.db-wal": 0o600,
        "store.db-shm": 0o600,
    }


async def test_what_is_committed_is_on_the_disk(sqlite: Database) -> None:
    async with sqlite.writing() as connection:
        settings = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_a_store_is_found_as_it_was_left(file: Path) -> None:
    database = await Database.open(f"sqlite:///{file}")
    await put_photo(database, "a")
    await database.close()
    database = await Database.open(f"sqlite:///{file}")
    assert await photos(database) == {"a"}
    assert await database.reachable()
    await database.close()


async def test_an_exception_undoes_the_transaction(database: Database) -> None:
    async def write() -> None:
        async with database.writing() as connection:
            await connection.execute(insert(PHOTO).values(sha256="a", jpeg=b""))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write()
    assert await photos(database) == set()


async def test_a_cancelled_transaction_is_undone_and_holds_nobody_up(database: Database) -> None:
    inside = asyncio.Event()

    async def write() -> None:
        async with database.writing() as connection:
            await connection.execute(insert(PHOTO).values(sha256="a", jpeg=b""))
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(write())
        await inside.wait()
        task.cancel()
    await put_photo(database, "b")
    assert await photos(database) == {"b"}


async def test_many_readers_beside_a_writer(database: Database) -> None:
    async with database.writing() as connection:
        await connection.execute(insert(PHOTO).values(sha256="a", jpeg=b""))
        assert await asyncio.gather(*(photos(database) for _ in range(50))) == [set()] * 50
    assert await photos(database) == {"a"}


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


async def test_a_damaged_store_is_noticed_at_the_start(file: Path) -> None:
    database = await Database.open(f"sqlite:///{file}")
    for number in range(200):
        await put_photo(database, f"{number:064}", size=2000)
    await database.close()
    damaged = bytearray(content(file))
    middle = len(damaged) // 2 // 4096 * 4096
    damaged[middle : middle + 8192] = b"\xff" * 8192
    overwrite(file, damaged)
    with pytest.raises(StoreDamagedError, match="restore a backup"):
        await Database.open(f"sqlite:///{file}")


@pytest.mark.parametrize(
    "url",
    ["", "facebridge.db", "sqlite://", "sqlite:///:memory:", "mysql://h/d", "sqlite+aiosqlite:///x", "sqlite://x/y"],
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

    @event.listens_for(sqlite._engine.sync_engine, "begin")
    def keep_small(connection: object) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]  # it is a Connection

    with pytest.raises(UnavailableError, match="the store is full"):
        await put_photo(sqlite, "b", size=100_000)
    assert await photos(sqlite) == {"a"}
    assert await sqlite.reachable()


async def test_a_disk_that_takes_no_more_and_then_does_again(sqlite: Database, file: Path) -> None:
    await put_photo(sqlite, "a")
    with file_size_limit(file.with_name("store.db-wal").stat().st_size + 50_000):
        with pytest.raises(UnavailableError):
            await put_photo(sqlite, "b", size=100_000)
        assert await photos(sqlite) == {"a"}
    await put_photo(sqlite, "c", size=100_000)
    assert await photos(sqlite) == {"a", "c"}


async def test_errors_hold_no_values(database: Database) -> None:
    await put_photo(database, "the-secret")
    with pytest.raises(UnavailableError) as caught:
        await put_photo(database, "the-secret")
    error: BaseException | None = caught.value
    while error is not None:
        assert "the-secret" not in str(error)
        error = error.__cause__
