"""One line for an error of SQLite or PostgreSQL: what failed, the driver's reason, and the remedy.

The line goes into replies and the log, so it contains no password, no statement and no values of rows.
"""

import errno
import re
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

_MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class _Failure:
    """What failed, and the remedy."""

    fault: str
    remedy: str

    def with_reason(self, reason: str) -> str:
        return f"{self.fault} ({reason}): {self.remedy}"


_FULL = _Failure("the store is full", "free some space on its disk")
_LOCKED = _Failure("the store is locked by another program", "close the program that has it open")
_READ_ONLY = _Failure(
    "the store may not be written to", "let the bridge's user write to the file, its folder and the file system"
)
_NOT_OPENED = _Failure(
    "the store's file or folder cannot be opened",
    "check store.url, and that the bridge's user may read and write the file and its folder",
)
_DAMAGED = _Failure("the store is damaged", "restore a backup (`facebridge restore FILE`)")

_SQLITE = {
    "SQLITE_FULL": _FULL,
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_IOERR": _Failure("the store's disk cannot be read or written", "check the disk and the kernel's log"),
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_CANTOPEN": _NOT_OPENED,
    "SQLITE_PERM": _NOT_OPENED,
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
}
"""By primary result code (https://sqlite.org/rescode.html). Their texts are constants of SQLite."""

_SYSTEM = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EROFS: _READ_ONLY, errno.EIO: _SQLITE["SQLITE_IOERR"]}

_UNREACHABLE = "the store cannot be reached"

_CONNECTING = (
    (r"password|pg_hba\.conf|role .* does not exist|authentication", "check the user and the password in store.url"),
    (r"database .* does not exist", "create the database, or correct its name in store.url"),
    (r"SSL|certificate", "check sslmode and sslrootcert in store.url, and the certificate (docs/operation.md)"),
    (r"resolve host|Name or service", "check the host in store.url"),
    (r"starting up|shutting down|recovery", "wait until the server is ready; the bridge tries again by itself"),
    (r"too many clients|remaining connection slots", "raise max_connections of the server"),
    (r"invalid .*(option|value)", "correct the options in store.url"),
)
"""Remedies by the text of a failed connection to PostgreSQL, which has no SQLSTATE; the first that fits."""

_RUNNING = "check that the server runs, and that it accepts connections at the host and port of store.url"

_SERVER = (
    ("53100", _Failure("the store is full", "free some space on the database server's disk")),
    ("53", _Failure("the database server is overloaded", "give it more memory or connections")),
    ("25006", _Failure("the store may not be written to", "store.url must name a server that accepts writes")),
    ("55P03", _LOCKED),
    ("40", _LOCKED),
    ("57014", _Failure("the database server cancelled a statement", "raise its statement_timeout and lock_timeout")),
    ("57", _Failure(_UNREACHABLE, "start the server again; the bridge then continues by itself")),
    ("08", _Failure(_UNREACHABLE, _RUNNING)),
    ("42501", _Failure("the store refuses its user", "grant the user of store.url all rights in its database")),
    ("58", _Failure("the database server's disk failed", "check its disk and its log")),
    ("XX001", _DAMAGED),
    ("XX002", _DAMAGED),
)
"""By the beginning of the SQLSTATE (PostgreSQL, appendix A); the first that fits. The messages of these classes contain
no values of rows."""


def describe(error: Exception) -> str:
    """Return one line: what failed, the driver's reason, and the remedy; without statements, values and passwords."""
    if isinstance(error, OSError):
        return _describe_system_error(error)
    cause = driver_error(error)
    failure = _SQLITE.get(sqlite_code(error))
    if failure is not None:
        return failure.with_reason(_one_line(str(cause)))
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate is not None:
        return _describe_server_error(cause, sqlstate)
    if not sqlite_code(error) and (isinstance(error, OperationalError) or _is_option_error(error, cause)):
        # The connection to the server broke, or none could be opened.
        return _describe_connection_error(str(cause))
    return f"the store failed ({type(cause).__name__})"


def sqlite_code(error: Exception) -> str:
    """Return SQLite's primary result code; the extended codes (`SQLITE_IOERR_WRITE`) only add the operation."""
    name = getattr(driver_error(error), "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])


def driver_error(error: Exception) -> BaseException:
    """Return the driver's error behind one of SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _describe_system_error(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    failure = _SYSTEM.get(error.errno or 0, _NOT_OPENED)
    return failure.with_reason(reason if error.filename is None else f"{error.filename}: {reason}")


def _describe_server_error(cause: BaseException, sqlstate: str) -> str:
    for beginning, failure in _SERVER:
        if sqlstate.startswith(beginning):
            # Other parts of the error can contain the statement.
            diagnostics = getattr(cause, "diag", None)
            return failure.with_reason(_one_line(getattr(diagnostics, "message_primary", None) or sqlstate))
    return f"the store failed ({type(cause).__name__}, SQLSTATE {sqlstate})"


def _describe_connection_error(message: str) -> str:
    # libpq reports each attempt on a line of its own, the last one is the one without encryption, if that is allowed.
    attempts = re.findall(r"^.*? failed: (?:FATAL: *)?(.+)$", message, re.MULTILINE)
    reason = _one_line(attempts[-1] if attempts else message.partition("\n")[0])
    remedy = next((remedy for pattern, remedy in _CONNECTING if re.search(pattern, reason)), _RUNNING)
    return _Failure(_UNREACHABLE, remedy).with_reason(reason)


def _is_option_error(error: Exception, cause: BaseException) -> bool:
    return isinstance(error, ProgrammingError) and str(cause).startswith("invalid connection option")


def _one_line(text: str) -> str:
    # If the password of the URL contains an @, the driver takes its end for a part of the host name.
    without_password = re.sub(r"""(['"])[^'"]*@""", r"\1…@", text)
    return " ".join(without_password.split())[:_MAX_REASON_CHARACTERS]
