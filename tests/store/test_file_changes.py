"""The detection of other programs' writes by the files of the store."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.store.file_changes import FileChanges


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to a store with a write-ahead log."""
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE note (text TEXT)")
        yield connection


@pytest.fixture
def changes(tmp_path: Path) -> FileChanges:
    return FileChanges(tmp_path / "store.db")


def age_files(folder: Path) -> None:
    for file in folder.iterdir():
        modified = file.stat().st_mtime_ns - 10_000_000_000
        os.utime(file, ns=(modified, modified))


def settle(changes: FileChanges, folder: Path) -> None:
    age_files(folder)
    assert changes.may_have_changed()
    assert not changes.may_have_changed()


def test_a_store_without_writes_has_not_changed(
    changes: FileChanges, tmp_path: Path, other: sqlite3.Connection
) -> None:
    settle(changes, tmp_path)
    other.execute("SELECT * FROM note").fetchall()
    assert not changes.may_have_changed()


def test_every_write_is_noticed(changes: FileChanges, tmp_path: Path, other: sqlite3.Connection) -> None:
    for number in range(5):
        settle(changes, tmp_path)
        other.execute("INSERT INTO note VALUES (?)", (str(number),))
        assert changes.may_have_changed()


def test_a_write_into_the_used_part_of_the_log_is_noticed(
    changes: FileChanges, tmp_path: Path, other: sqlite3.Connection
) -> None:
    for number in range(20):
        other.execute("INSERT INTO note VALUES (?)", (str(number),))
    other.execute("PRAGMA wal_checkpoint(FULL)")
    size = (tmp_path / "store.db-wal").stat().st_size
    settle(changes, tmp_path)
    other.execute("INSERT INTO note VALUES ('last')")
    assert (tmp_path / "store.db-wal").stat().st_size == size, "the log begins again at its first page"
    assert changes.may_have_changed()


def test_a_second_write_at_the_same_time_is_noticed(
    changes: FileChanges, tmp_path: Path, other: sqlite3.Connection
) -> None:
    settle(changes, tmp_path)
    log = tmp_path / "store.db-wal"
    other.execute("INSERT INTO note VALUES ('first')")
    first = log.stat()
    assert changes.may_have_changed()
    other.execute("UPDATE note SET text = 'other'")
    with log.open("r+b") as file:
        file.truncate(first.st_size)
    os.utime(log, ns=(first.st_mtime_ns, first.st_mtime_ns))
    assert changes.may_have_changed(), "the file looks as it did after the first write"


def test_after_a_failure_the_store_may_have_changed(
    changes: FileChanges, tmp_path: Path, other: sqlite3.Connection
) -> None:
    settle(changes, tmp_path)
    changes.forget()
    assert changes.may_have_changed()


def test_a_database_server_may_always_have_changed() -> None:
    changes = FileChanges(None)
    assert changes.may_have_changed()
    assert changes.may_have_changed()
