"""Damages the file of a store, as a failing disk would."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path


def damage_pages_with(store: Path, text: str) -> None:
    """Overwrite the start of each page that contains a text. Everything must be in the file, not in its log.

    Besides the page of a row there can be one with its remains from before the row moved.
    """
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    found = {match.start() // page_bytes for match in re.finditer(re.escape(text.encode()), store.read_bytes())}
    assert found
    for index in found:
        _damage_page(store, index, page_bytes)


def damage_root_page(store: Path, table: str) -> None:
    """Overwrite the start of a table's first page, so that nothing can be read or written there."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        (number,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    _damage_page(store, number - 1, page_bytes)


def _damage_page(store: Path, index: int, page_bytes: int) -> None:
    with store.open("r+b") as file:
        file.seek(index * page_bytes)
        file.write(b"\xff" * 100)
