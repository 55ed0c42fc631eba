"""Reads a CSV as spreadsheets write it.

That is: with commas, semicolons or tabs, any kind of line end, names of columns in any case, a line `sep=;` before the
header, and in UTF-8 or Windows-1252.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from bridge.import_export.csv_cells import is_shortened, unescape_cell
from bridge.import_export.rows import MAXIMUM_ROW_BYTES, ByteSource, PersonFileError, Row
from bridge.model.faults import Fault, InvalidError, unknown_key
from bridge.model.messages import message
from bridge.persons.fields import FIELDS_BY_KEY, PersonField

_DELIMITERS = ",;\t"
"""A spreadsheet writes semicolons where the comma is the decimal separator."""

_MAXIMUM_HEADER_LENGTH = 1000
"""Characters of the header in which the delimiter is searched. All names together have about 200."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.?)"?[\r\n]*', re.IGNORECASE)
"""What Excel reads, and some programs write, before the header to say which delimiter follows."""

_FOREIGN = re.compile(r"[\x80-\xff\u0152-\u2122]{3}|[¤¦§¨©¬®¯°±²³µ¶¸¹»¼½¾×÷¡¢£¥¿†‡ˆ‰‹›˜™ƒ]")
"""Text that no name in Windows-1252 contains: three characters beyond ASCII together, or a sign that is no letter.
Chinese, Cyrillic or Greek text in a code page of its own looks like this."""

_NAMES = {name.lower(): name for name in FIELDS_BY_KEY}
"""The names that users may give to fields, by their lower-case form."""

_HEADER_EXAMPLE = "id,name,card,valid_until"


def read_csv(source: ByteSource) -> Iterator[Row]:
    """Read row by row.

    Raises:
        PersonFileError: the header, or the file from some row on, is not a CSV of persons.
    """
    # The limit holds for every reader in the process. Its default of 131,072 characters is less than a photo. It is
    # never lowered again, because another reader may be in the middle of its file; the source bounds our rows anyway.
    csv.field_size_limit(max(csv.field_size_limit(), MAXIMUM_ROW_BYTES))
    records = _read_records(source)
    header = next(records, None)
    if header is None:
        raise PersonFileError(
            message(
                "is empty; its first row must be the header, with names like %(header_example)s",
                header_example=_HEADER_EXAMPLE,
            )
        )
    columns = read_header(header[1])
    for number, cells in records:
        trimmed = [cell.strip() for cell in cells]
        while len(trimmed) > len(columns) and not trimmed[-1]:
            trimmed.pop()
        if not any(trimmed):
            continue
        data, faults = read_cells(columns, trimmed)
        if len(trimmed) != len(columns):
            faults.insert(0, Fault("", _wrong_count(len(trimmed), len(columns))))
        yield Row(number=number, data=data, picture=None, faults=tuple(faults))


def read_header(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns.

    Raises:
        PersonFileError: a name is unknown or given twice, or there is no `id`.
    """
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not any(_is_field_name(name) for name in names):
        # The message shows nothing of the row, which may hold a person's name.
        raise PersonFileError(
            message("row 1: must be the header, with names like %(header_example)s", header_example=_HEADER_EXAMPLE)
        )
    given: set[str] = set()
    for column, name in enumerate(names, 1):
        if not name:
            raise PersonFileError(message("row 1, column %(column)s: has no name", column=column))
        if not _is_field_name(name):
            raise PersonFileError(
                message(
                    "row 1, column %(column)s: %(unknown_key)s",
                    column=column,
                    unknown_key=unknown_key(name, FIELDS_BY_KEY),
                )
            )
        field = FIELDS_BY_KEY[_NAMES[name.lower()]]
        if field.name in given:
            raise PersonFileError(
                message(
                    "row 1, column %(column)s: %(name)s is given twice; keep one such column",
                    column=column,
                    name=repr(name),
                )
            )
        given.add(field.name)
    if "id" not in given:
        raise PersonFileError("row 1: has no column 'id', which says which person the row is")
    return tuple(_NAMES[name.lower()] for name in names)


def read_cells(columns: Sequence[str], cells: Sequence[str]) -> tuple[dict[str, object], list[Fault]]:
    """Return what `parse_person` takes for a row's trimmed cells, and the faults of the cells."""
    data: dict[str, object] = {}
    faults: list[Fault] = []
    for column, text in zip(columns, cells, strict=False):
        field = FIELDS_BY_KEY[column]
        if not text and field.is_photo:
            # A person cannot be without a photo, so an empty cell leaves the photo unchanged.
            continue
        try:
            data[column] = _read_cell(field, text)
        except InvalidError as error:
            faults += (fault.below(column) for fault in error.faults)
    return data, faults


def _read_cell(field: PersonField, text: str) -> object:
    if is_shortened(text):
        raise InvalidError.at(
            "", "is a number that a spreadsheet has shortened: format the column as text, and enter the number again"
        )
    text = unescape_cell(text)
    return None if not text and field.kind.accepts_null else field.kind.read_cell(text)


def _is_field_name(text: str) -> bool:
    return text.strip().lower() in _NAMES


def _wrong_count(cells: int, columns: int) -> str:
    if cells > columns:
        return message(
            "has %(cells)s cells and the header %(columns)s; a cell that contains a separator needs quotation marks",
            cells=cells,
            columns=columns,
        )
    return message(
        "has %(cells)s cells and the header %(columns)s; a field without a value still needs its empty cell",
        cells=cells,
        columns=columns,
    )


def _read_records(source: ByteSource) -> Iterator[tuple[int, list[str]]]:
    """Return the cells of each row with the row's number; blank rows count."""
    source.begin("row 1")
    lines = _decode_lines(source)
    first = next(lines, None)
    if first is None:
        return
    separator = _SEPARATOR_LINE.fullmatch(first)
    if separator is None:
        delimiter, lines = _find_delimiter(first), chain([first], lines)
    else:
        # A spreadsheet does not show this line, so the next one is row 1.
        delimiter = separator[1]
        if delimiter not in tuple(_DELIMITERS):
            raise PersonFileError("its first line names a separator that is no comma, semicolon or tab")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    number = 1
    while True:
        source.begin(f"row {number}")
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise source.error(_explain(error)) from None
        yield number, cells
        number += 1


def _explain(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end of data" in message:
        return "has a quotation mark that is not closed"
    if "field limit" in message:
        return f"has a cell of more than {MAXIMUM_ROW_BYTES // 1_000_000} MB; is a quotation mark not closed?"
    return "has text behind a closing quotation mark; write a quotation mark within a cell twice"


def _find_delimiter(header: str) -> str:
    def fitness(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([header[:_MAXIMUM_HEADER_LENGTH]], delimiter=delimiter, skipinitialspace=True), [])
        return sum(map(_is_field_name, cells)), len(cells)

    return max(_DELIMITERS, key=fitness)


def _decode_lines(source: ByteSource) -> Iterator[str]:
    """Decode UTF-8 or Windows-1252, as the first line beyond ASCII is; a file in both is an error."""
    encoding = None
    for line in _split_lines(source):
        if b"\0" in line:
            raise source.error("contains a NUL byte, so it is not CSV")
        if line.isascii():
            yield line.decode()
            continue
        try:
            text = line.decode()
            of_line = "UTF-8"
        except UnicodeDecodeError:
            text = _decode_windows(source, line)
            of_line = "Windows-1252"
        encoding = encoding or of_line
        if of_line != encoding:
            raise source.error(f'is in {of_line} and rows before it are in {encoding}; save the file as "CSV UTF-8"')
        yield text


def _decode_windows(source: ByteSource, line: bytes) -> str:
    try:
        text = line.decode("cp1252")
    except UnicodeDecodeError:
        text = None
    if text is None or _FOREIGN.search(text):
        raise source.error('is neither UTF-8 nor Windows-1252; save the file as "CSV UTF-8"')
    return text


def _split_lines(source: ByteSource) -> Iterator[bytes]:
    """Split after each LF, CR or CRLF. These bytes are never part of another character in UTF-8."""
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
        # After a CR the next piece may begin with its LF.
        if last.endswith(b"\n"):
            yield b"".join(pending)
            pending.clear()
    if pending:
        yield b"".join(pending)
