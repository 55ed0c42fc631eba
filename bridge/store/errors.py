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
subclass `CommitUnknownError` says that a COMMIT failed in a way that does not tell whether the changes are stored.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from bridge.model.faults import UnavailableError


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


_REASONS = {
    "SQLITE_FULL": "the store is full: there is no space left on its disk",
    "SQLITE_BUSY": "the store is locked by another program",
    "SQLITE_LOCKED": "the store is locked by another program",
    "SQLITE_IOERR": "the store's disk cannot be read or written",
    "SQLITE_READONLY": "the store may not be written to",
    "SQLITE_CANTOPEN": "the store's file or folder cannot be opened",
    "SQLITE_PERM": "the store may not be opened",
    "SQLITE_CORRUPT": "the store is damaged",
    "SQLITE_NOTADB": "the store is damaged",
}
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_CERTAINLY_NOT_COMMITTED = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED")


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Raise UnavailableError in place of the errors of SQLAlchemy and the drivers.

    The texts of those errors contain statements and values, so only the kind of the error is passed on.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        # The errors of PostgreSQL contain the values of the statement, so they must not become the cause.
        raise UnavailableError(describe(error)) from (error if _kind(error) else None)
    except OSError as error:
        raise UnavailableError(f"the store cannot be reached ({error.strerror or type(error).__name__})") from error


def describe(error: Exception) -> str:
    """Return what failed, without statements and values."""
    is_server_error = _kind(error) or getattr(_cause(error), "sqlstate", None)
    if isinstance(error, OperationalError) and not is_server_error:
        # The connection to the server broke, or none could be opened.
        return f"the store cannot be reached ({_name(error)})"
    return _REASONS.get(_kind(error), f"the store failed ({_name(error)})")


def is_damage(error: BaseException | None) -> bool:
    """Return whether the cause of an UnavailableError is a damaged file."""
    return isinstance(error, SQLAlchemyError | sqlite3.Error) and _kind(error) in _DAMAGED


def is_rolled_back(error: Exception) -> bool:
    """Return whether a failed COMMIT has certainly written nothing, once it is rolled back.

    SQLite reports a full disk and a lock before it has written everything that makes a commit valid. After another
    error, such as a failed fsync, the file may contain a valid commit, which counts if the process dies now.
    PostgreSQL may have committed before the connection broke.
    """
    return _kind(error) in _CERTAINLY_NOT_COMMITTED


def _kind(error: Exception) -> str:
    """Return SQLite's primary result code; the extended codes (`SQLITE_IOERR_WRITE`) only add the operation."""
    name = getattr(_cause(error), "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])


def _name(error: Exception) -> str:
    return type(_cause(error)).__name__


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
