"""Errors of the store.

StoreError                  the store cannot be opened; a second attempt does not help
├── StoreMissingError       there is no store, and it must not be created
├── StoreTooNewError        a newer version has written it
├── StoreTooOldError        an older version has written it, and a bridge of that version runs on it
├── StoreInUseError         a bridge runs on it already
├── PhotoKeyError           its photos are encrypted with a key that is not configured
├── PhotoDamagedError       one of its photos is damaged
├── StoreDamagedError       it is damaged, or no store at all
└── StoreUrlError           `store.url` cannot name a store

A store that is full, locked or unreachable raises `bridge.model.faults.UnavailableError`: that is temporary. Its
subclass `CommitUnknownError` says that a COMMIT failed in a way that does not tell whether the changes are stored; its
subclass `DamagedPartError` says that a later attempt will fail in the same way, except if the damaged part has only the
names for searches (`NamesDamagedError`): the store makes that attempt without them.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from bridge.model.faults import UnavailableError
from bridge.store.failure_messages import describe, driver_error, sqlite_code


class StoreError(Exception):
    """The store cannot be opened as it is; the message says what to do."""


class StoreMissingError(StoreError):
    """There is no store where there must be one."""


class StoreTooNewError(StoreError):
    """A newer version of the bridge has written the store; this version would not understand it."""


class StoreTooOldError(StoreError):
    """An older version of the bridge has written the store and still runs on it."""


class StoreInUseError(StoreError):
    """A bridge runs on the store: a second bridge must not, and the store must not be replaced."""


class PhotoKeyError(StoreError):
    """Photos are encrypted with a key that `store.photo_key` does not contain."""


class PhotoDamagedError(StoreError):
    """A photo is not the one that was stored."""


class StoreDamagedError(StoreError):
    """The store is damaged, or the file is something else."""


class StoreUrlError(StoreError):
    """`store.url` cannot be used."""


class CommitUnknownError(UnavailableError):
    """A COMMIT failed, and it is not known whether the changes are stored.

    Attributes:
        result: what the function returned whose changes these are.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class DamagedPartError(UnavailableError):
    """A part of the store that was to be read or written is damaged; other parts may still work."""


class NamesDamagedError(DamagedPartError):
    """A statement on the names for searches met a damage; the transaction must run again without these names."""


_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_DAMAGED_SQLSTATES = ("XX001", "XX002")
_CERTAINLY_NOT_COMMITTED = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED")


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Raise UnavailableError in place of the errors of SQLAlchemy and the drivers.

    The texts of those errors contain statements and values; `describe` leaves these out.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        # The errors of PostgreSQL contain the values of the statement, so they must not become the cause.
        kind = DamagedPartError if is_damage(error) else UnavailableError
        raise kind(describe(error)) from (error if sqlite_code(error) else None)
    except OSError as error:
        raise UnavailableError(describe(error)) from error


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error is one of SQLAlchemy or a driver that says that the store is damaged."""
    if not isinstance(error, SQLAlchemyError | sqlite3.Error):
        return False
    return sqlite_code(error) in _DAMAGED or getattr(driver_error(error), "sqlstate", None) in _DAMAGED_SQLSTATES


def is_rolled_back(error: Exception) -> bool:
    """Return whether a failed COMMIT has certainly written nothing, once it is rolled back.

    SQLite reports a full disk and a lock before it has written everything that makes a commit valid. After another
    error, such as a failed fsync, the file may contain a valid commit, which counts if the process dies now.
    PostgreSQL may have committed before the connection broke.
    """
    return sqlite_code(error) in _CERTAINLY_NOT_COMMITTED
