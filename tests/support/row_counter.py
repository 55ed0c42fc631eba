"""Counts the rows that transactions change, to find those that grow with the store."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread
from typing import Any

from sqlalchemy import event

from bridge.store.database import Database


class RowCounter:
    """Counts by transaction the rows that the writer reads and writes.

    Attributes:
        transactions: of each transaction the rows by kind: `read` for those that queries returned, otherwise the table.
    """

    def __init__(self) -> None:
        self.transactions: list[Counter[str]] = []

    @property
    def longest(self) -> Counter[str]:
        """The most rows of each kind in one transaction."""
        most: Counter[str] = Counter()
        for transaction in self.transactions:
            most |= transaction
        return most


@contextmanager
def counted(database: Database) -> Iterator[RowCounter]:
    """Count rows as long as the block lasts."""
    counter = RowCounter()

    def begin(*_: object) -> None:
        if current_thread().name == "store writer":
            counter.transactions.append(Counter())

    def note(*arguments: Any) -> None:
        statement, parameters, is_many = str(arguments[2]), arguments[3], arguments[5]
        if current_thread().name != "store writer" or not counter.transactions:
            return
        first, _, rest = statement.partition(" ")
        if first in ("INSERT", "UPDATE", "DELETE"):
            table = rest.removeprefix("INTO ").removeprefix("FROM ").split()[0]
            cursor = arguments[1]
            counter.transactions[-1][table] += len(parameters) if is_many else max(cursor.rowcount, 0)

    event.listen(database.engine, "begin", begin)
    event.listen(database.engine, "after_cursor_execute", note)
    try:
        yield counter
    finally:
        event.remove(database.engine, "begin", begin)
        event.remove(database.engine, "after_cursor_execute", note)
