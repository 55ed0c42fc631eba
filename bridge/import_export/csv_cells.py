"""Cells of a CSV that a spreadsheet would change: it runs text as a formula, and shortens long numbers."""

import re

_FORMULA = r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]"
"""The first characters of a formula, also in full width, as East Asian spreadsheets accept them (OWASP, CSV Injection).
A tab or a carriage return is skipped by some spreadsheets."""

_SHORTENED = r"[0-9]+(?:[.,][0-9]+)?E\+[0-9]{2,3}"
"""A number of more digits than a column shows, as spreadsheets write it: 4.21E+09."""

_CHANGED = re.compile(f"{_FORMULA}|{_SHORTENED}$", re.IGNORECASE)
_ESCAPED = re.compile(f"'+(?:{_FORMULA}|{_SHORTENED}$)", re.IGNORECASE)
_SHORTENED_CELL = re.compile(_SHORTENED, re.IGNORECASE)


def escape_cell(text: str) -> str:
    """Return a cell that a spreadsheet shows as this text.

    An apostrophe is put before text that would be changed, and before such text that begins with apostrophes itself.
    All other text stays as it is, also with an apostrophe at its beginning.
    """
    return f"'{text}" if _CHANGED.match(text) or _ESCAPED.match(text) else text


def unescape_cell(text: str) -> str:
    """Return the text from which `escape_cell` made a cell."""
    return text[1:] if _ESCAPED.match(text) else text


def is_shortened(text: str) -> bool:
    """Return whether a spreadsheet has replaced digits of a number, which are lost."""
    return _SHORTENED_CELL.fullmatch(text) is not None
