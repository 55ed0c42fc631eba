"""What can be wrong with a store.

StoreError                  it cannot be opened, and trying again will not help
├── StoreMissingError       there is none, and it must not be made
├── StoreTooNewError        a newer version has written it
├── StoreTooOldError        an older version has written it, and a bridge of that version runs on it
├── StoreInUseError         a bridge runs on it already
├── PhotoKeyError           its photos are encrypted with a key that is not given
├── StoreDamagedError       it is damaged, or no store at all
└── StoreUrlError           `store.url` names nothing that can be a store

A store that is full, locked or gone is `bridge.model.faults.UnavailableError`: that passes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bridge.model.faults import UnavailableError


class StoreError(Exception):
    """The store cannot be opened as it is; the message says what to do."""


class StoreMissingError(StoreError):
    """There is no store where there must be one."""


class StoreTooNewError(StoreError):
    """A newer version of the bridge has written the store; this one would not understand it."""


class StoreTooOldError(StoreError):
    """An older version of the bridge has written the store and still runs on it."""


class StoreInUseError(StoreError):
    """A bridge runs on the store; there may be no second one, and nothing that takes its place."""


class PhotoKeyError(StoreError):
    """Photos are encrypted with a key that `store.photo_key` does not give."""


class StoreDamagedError(StoreError):
    """The store is damaged, or the file is something else."""


class StoreUrlError(StoreError):
    """`store.url` cannot be used."""


_REASONS = {
    "SQLITE_FULL": "the store is full: there is no room left on its disk",
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


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn whatever SQLAlchemy and the drivers raise into UnavailableError.

    Their texts hold statements and values, so only the kind of error is passed on.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        # PostgreSQL's errors hold the values they are about, so nobody gets to see them.
        cause = error if _kind(error) else None
        raise UnavailableError(_REASONS.get(_kind(error), f"the store failed ({_name(error)})")) from cause
    except OSError as error:
        # A database server that cannot be reached shows as an error of the socket.
        raise UnavailableError(f"the store cannot be reached ({error.strerror or type(error).__name__})") from error


def is_damage(error: BaseException | None) -> bool:
    """Tell whether what lies behind an UnavailableError is a damaged file."""
    return isinstance(error, SQLAlchemyError | sqlite3.Error) and _kind(error) in _DAMAGED


def _kind(error: Exception) -> str:
    """Return SQLite's primary code; its extended ones (`SQLITE_IOERR_WRITE`) only add where."""
    name = getattr(_cause(error), "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])


def _name(error: Exception) -> str:
    return type(_cause(error)).__name__


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
