"""Detection of writes to an SQLite store by its files, which takes a hundredth of a query's processor time."""

import time
from contextlib import suppress
from pathlib import Path

_SETTLED_SECONDS = 3.0
"""Two writes within this time may leave the same time of modification: some file systems count two seconds."""

_NANOSECONDS = 1_000_000_000


class FileChanges:
    """The files of a store, as they were at the last look."""

    def __init__(self, file: Path | None) -> None:
        """Begin with an unknown state.

        Args:
            file: of an SQLite store; None for a database server.
        """
        self._files = () if file is None else (file, file.with_name(f"{file.name}-wal"))
        self._stamp: tuple[tuple[int, int] | None, ...] | None = None
        self._is_settled = False

    def forget(self) -> None:
        """Let the next call of `may_have_changed` return True."""
        self._stamp = None

    def may_have_changed(self) -> bool:
        """Return False if no program has written to the store since the last call."""
        if not self._files:
            return True
        stamp = tuple(_stamp(file) for file in self._files)
        if stamp == self._stamp and self._is_settled:
            return False
        self._stamp = stamp
        newest = max((one[0] for one in stamp if one is not None), default=0)
        self._is_settled = time.time_ns() - newest > _SETTLED_SECONDS * _NANOSECONDS
        return True


def _stamp(file: Path) -> tuple[int, int] | None:
    """Return when a file was modified, and its size; None if there is none."""
    with suppress(OSError):
        status = file.stat()
        return status.st_mtime_ns, status.st_size
    return None
