"""A COMMIT whose answer gets lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, event

from bridge.store.database import Database


@contextmanager
def failing_commit(
    database: Database,
    *,
    is_stored: bool,
    error_name: str = "SQLITE_IOERR_FSYNC",
    times: int | None = None,
    after: int = 0,
) -> Iterator[None]:
    """Let commits fail during the block.

    Args:
        database: the store.
        is_stored: whether the database carries out the commit before it fails.
        error_name: what SQLite calls the error; any store can raise it here.
        times: how many commits fail; None for all.
        after: how many commits succeed before.
    """
    failures = commits = 0

    def fail(connection: Connection) -> None:
        nonlocal commits, failures
        commits += 1
        if commits <= after:
            return
        if times is not None and failures >= times:
            return
        failures += 1
        driver = connection.connection.driver_connection
        assert driver is not None
        if is_stored:
            driver.commit()
        error = sqlite3.OperationalError("the commit fails")
        error.sqlite_errorname = error_name
        raise error

    event.listen(database.engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(database.engine, "commit", fail)
