"""The rows of the table: what is measured of each subject."""

from benchmarks.harness import Row
from benchmarks.rows import connections, opens, page, persons, store

ROWS: dict[str, Row] = {
    row.name: row for row in (*opens.ROWS, *persons.ROWS, *connections.ROWS, *store.ROWS, *page.ROWS)
}
"""All rows by name, in the order of the table."""

GROWING = ("open", "open-200", "opens", "open-all", "persons-100", "idle", "storm", "start", "page-terminals")
"""Rows whose figures can depend on the number of terminals."""
