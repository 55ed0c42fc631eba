"""Reads a CSV, as spreadsheets write it: with commas, semicolons or tabs, and any kind of line end."""

import csv
from collections.abc import Iterator
from itertools import chain

from bridge.import_export.byte_source import LONGEST_ROW, ByteSource
from bridge.import_export.csv_cells import is_field, read_cells, read_header
from bridge.import_export.errors import PersonFileError
from bridge.import_export.rows import Row
from bridge.model.faults import Fault

_DELIMITERS = ",;\t"
"""Semicolons are what a spreadsheet writes where the comma is the decimal sign."""

_LONGEST_HEADER = 1000
"""Characters of a header that are looked at for its delimiter: all names there are take 200."""


def read_csv(source: ByteSource) -> Iterator[Row]:
    """Read row by row.

    Raises:
        PersonFileError: it is no CSV of persons, in the header or from some row on.
    """
    # The limit is the module's, for every reader in the process; its default of 131,072 characters is less than a
    # photo. It is raised once and never lowered again, as another reader may be in the middle of its file; what a row
    # of ours can take is bounded by the source in any case.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
    records = _records(source)
    header = next(records, None)
    if header is None:
        raise PersonFileError("is empty; its first row must be the header, with names like id,name,card,valid_until")
    columns = read_header(header[1])
    for number, cells in records:
        trimmed = [cell.strip() for cell in cells]
        while len(trimmed) > len(columns) and not trimmed[-1]:
            trimmed.pop()
        if not any(trimmed):
            continue
        data, faults = read_cells(columns, trimmed)
        if len(trimmed) != len(columns):
            faults.insert(0, Fault("", _miscounted(len(trimmed), len(columns))))
        yield Row(number=number, data=data, picture=None, faults=tuple(faults))


def _miscounted(cells: int, columns: int) -> str:
    if cells > columns:
        return f"has {cells} cells and the header {columns}; a cell with a separator in it needs quotation marks"
    return f"has {cells} cells and the header {columns}; a field without a value still needs its empty cell"


def _records(source: ByteSource) -> Iterator[tuple[int, list[str]]]:
    """Read cells and count rows, blank ones included."""
    source.begin("row 1")
    lines = _lines(source)
    first = next(lines, None)
    if first is None:
        return
    reader = csv.reader(chain([first], lines), delimiter=_delimiter_of(first), strict=True, skipinitialspace=True)
    number = 1
    while True:
        source.begin(f"row {number}")
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise source.error(_why(error)) from None
        yield number, cells
        number += 1


def _why(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end of data" in message:
        return "has a quotation mark that is not closed"
    if "field limit" in message:
        return f"has a cell of more than {LONGEST_ROW // 1_000_000} MB; is a quotation mark not closed?"
    return "has text behind a closing quotation mark; a quotation mark within a cell is written twice"


def _delimiter_of(header: str) -> str:
    def fitness(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([header[:_LONGEST_HEADER]], delimiter=delimiter, skipinitialspace=True), [])
        return sum(map(is_field, cells)), len(cells)

    return max(_DELIMITERS, key=fitness)


def _lines(source: ByteSource) -> Iterator[str]:
    for line in _split(source):
        if b"\0" in line:
            raise source.error("holds a NUL byte; this is no CSV")
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise source.error('is not UTF-8; save the file as "CSV UTF-8"') from None


def _split(source: ByteSource) -> Iterator[bytes]:
    """Split after each LF, CR or CRLF, at which UTF-8 can be split too."""
    pending: list[bytes] = []
    while piece := source.read():
        if pending and pending[-1].endswith(b"\r") and not piece.startswith(b"\n"):
            yield b"".join(pending)
            pending.clear()
        *whole, last = piece.splitlines(keepends=True)
        for line in whole:
            yield b"".join((*pending, line))
            pending.clear()
        pending.append(last)
        # After a CR an LF may follow in the next piece.
        if last.endswith(b"\n"):
            yield b"".join(pending)
            pending.clear()
    if pending:
        yield b"".join(pending)
