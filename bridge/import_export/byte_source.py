"""The bytes of a table, in pieces: counted for a progress bar, bounded for each row."""

import codecs
from collections.abc import Callable

from bridge.import_export.errors import PersonFileError

LONGEST_ROW = 72_000_000
"""Bytes of a row, and so of a cell: the largest picture that can be configured (50 MB), as base64 in lines."""

_PIECE = 64 * 1024
"""Bytes that are read at once."""


class ByteSource:
    """Hands out a table's bytes, without a byte order mark."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        """Begin at the table's first byte.

        Args:
            read: returns at most so many bytes, none at the end; raises PersonFileError.
            size: of the table, in bytes.
        """
        self._read = read
        self._size = size
        self._taken = 0
        self._begun_at = 0
        self._where = ""

    def begin(self, where: str) -> None:
        """Note that a row begins, and what an error in it is to call it."""
        self._where = where
        self._begun_at = self._taken

    def read(self, size: int = _PIECE) -> bytes:
        """Return the next bytes, none at the end.

        Raises:
            PersonFileError: they cannot be read, or the row has too many.
        """
        if self._taken - self._begun_at > LONGEST_ROW:
            raise self.error(
                f"is longer than {LONGEST_ROW // 1_000_000} MB; is a quotation mark or a bracket not closed?"
            )
        piece = self._read(size)
        first = self._taken == 0
        self._taken += len(piece)
        if not first:
            return piece
        if piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise PersonFileError("is in UTF-16; save it as UTF-8")
        return piece.removeprefix(codecs.BOM_UTF8)

    def error(self, message: str) -> PersonFileError:
        """Return the error for something wrong in the row that was begun."""
        return PersonFileError(f"{self._where}: {message}" if self._where else message)

    def progress(self) -> float:
        """Return how much was handed out, 0 to 1."""
        return min(self._taken / self._size, 1.0) if self._size else 1.0
