"""The bytes of a file of persons, counted and bounded, and its rows."""

import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.model.faults import Fault
from bridge.model.messages import message
from bridge.persons.photos.sources import AttachedPhoto


class PersonFileError(Exception):
    """A file of persons cannot be read or written.

    The message gives the row, if there is one, the fault and the remedy. It contains neither the file's name nor
    anything of a person.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One person of a file, not yet checked.

    Attributes:
        number: of the row. In CSV the header is row 1 and blank rows count, as in a spreadsheet; a cell may contain
            line breaks. In JSON the person's position in the list, from 1.
        data: what `parse_person` takes, without the picture beside the table.
        picture: the picture beside the table that is named by the person's id; None for none.
        faults: what is wrong with the row itself; `data` then contains what could be read.
    """

    number: int
    data: Mapping[str, object] = field(repr=False)
    picture: AttachedPhoto | None
    faults: tuple[Fault, ...] = ()


MAXIMUM_ROW_BYTES = 72_000_000
"""Of a row, and so of a cell: the largest picture that can be configured (50 MB), as base64 with line breaks."""

_PIECE_BYTES = 64 * 1024


class ByteSource:
    """A table's bytes, without a byte order mark."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        """Begin at the table's first byte.

        Args:
            read: returns at most the given number of bytes, and none at the end; raises PersonFileError.
            size: of the table, in bytes.
        """
        self._read = read
        self._size = size
        self._position = 0
        self._row_start = 0
        self._row_name = ""

    def begin(self, row_name: str) -> None:
        """Note that a row begins; `error` puts its name before the message."""
        self._row_name = row_name
        self._row_start = self._position

    def read(self, size: int = _PIECE_BYTES) -> bytes:
        """Return the next bytes, none at the end.

        Raises:
            PersonFileError: they cannot be read, or the row has too many.
        """
        if self._position - self._row_start > MAXIMUM_ROW_BYTES:
            raise self.error(
                message(
                    "is longer than %(size)s MB; is a quotation mark or a bracket not closed?",
                    size=MAXIMUM_ROW_BYTES // 1_000_000,
                )
            )
        piece = self._read(size)
        is_first = self._position == 0
        self._position += len(piece)
        if not is_first:
            return piece
        if piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise PersonFileError("is in UTF-16; save it as UTF-8")
        return piece.removeprefix(codecs.BOM_UTF8)

    def error(self, fault: str) -> PersonFileError:
        """Return the error for a fault in the row that was begun."""
        return PersonFileError(
            message("%(place)s: %(fault)s", place=self._row_name, fault=fault) if self._row_name else fault
        )

    def progress(self) -> float:
        """Return the share that was read, 0 to 1."""
        return min(self._position / self._size, 1.0) if self._size else 1.0
