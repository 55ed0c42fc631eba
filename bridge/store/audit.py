"""The table of the audit."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter

import orjson
from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
)

from bridge.model.audit import AuditFilter, AuditRecord
from bridge.model.reply import Outcome
from bridge.store.database import Database
from bridge.store.tables import AUDIT

_DROPPED_RECORDS = 2000
"""Rows that one transaction deletes: this takes some ten milliseconds, during which a person change may wait."""


class StoredAudit:
    """The core's `AuditStore`, and the source of `facebridge log`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, records: Sequence[AuditRecord]) -> None:
        """Add records, in their order. Raises UnavailableError."""
        await self._database.write(_add, records)

    async def drop(self, *, before: datetime, keep: int) -> None:
        """Delete the records that are older, and the oldest of more than `keep`. Raises UnavailableError."""
        newest = await self._database.read(_last_id)
        dropped = _DROPPED_RECORDS
        while dropped == _DROPPED_RECORDS:
            dropped = await self._database.write(_drop, before, newest - keep)

    async def latest(self, wanted: AuditFilter, limit: int) -> Sequence[AuditRecord]:
        """Return the youngest records, the youngest last. Raises UnavailableError."""
        query = _filtered(wanted).order_by(AUDIT.c.id.desc()).limit(limit)
        return list(reversed(await self._database.read(_records, query)))

    async def page(self, wanted: AuditFilter, before_id: int | None, limit: int) -> tuple[Sequence[AuditRecord], int]:
        """Return records older than the one with that id, the youngest first, and the number of all wanted records.

        Raises:
            UnavailableError: the store cannot be read.
        """
        return await self._database.read(_page, wanted, before_id, limit)

    async def after(self, last_id: int, wanted: AuditFilter, limit: int) -> Sequence[AuditRecord]:
        """Return the records that are younger than the one with that id, the youngest last. Raises UnavailableError."""
        query = _filtered(wanted).where(AUDIT.c.id > last_id).order_by(AUDIT.c.id).limit(limit)
        return await self._database.read(_records, query)

    async def last_id(self) -> int:
        """Return the id of the youngest record, 0 if there is none. Raises UnavailableError."""
        return await self._database.read(_last_id)


def _add(connection: Connection, records: Sequence[AuditRecord]) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(
            _ADD_IN_SQLITE, {"records": orjson.dumps([_sqlite_row(record) for record in records]).decode()}
        )
    else:
        connection.execute(_ADD, [_row(record) for record in records])


def _drop(connection: Connection, before: datetime, up_to: int) -> int:
    """Delete some of the records that are older or have an id up to `up_to`; return how many."""
    oldest = select(AUDIT.c.id).where((AUDIT.c.at < before) | (AUDIT.c.id <= up_to)).limit(_DROPPED_RECORDS)
    return connection.execute(delete(AUDIT).where(AUDIT.c.id.in_(oldest))).rowcount


def _page(
    connection: Connection, wanted: AuditFilter, before_id: int | None, limit: int
) -> tuple[list[AuditRecord], int]:
    query = _filtered(wanted)
    total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    if before_id is not None:
        query = query.where(AUDIT.c.id < before_id)
    return _records(connection, query.order_by(AUDIT.c.id.desc()).limit(limit)), total


def _last_id(connection: Connection) -> int:
    return connection.execute(select(func.max(AUDIT.c.id))).scalar() or 0


def _records(connection: Connection, query: Select[tuple[object, ...]]) -> list[AuditRecord]:
    return [_read(row) for row in connection.execute(query).mappings()]


def _filtered(wanted: AuditFilter) -> Select[tuple[object, ...]]:
    query = select(AUDIT)
    if wanted.since is not None:
        query = query.where(AUDIT.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AUDIT.c.at <= wanted.until)
    for column, values in (
        (AUDIT.c.sn, wanted.sns),
        (AUDIT.c.command, wanted.commands),
        (AUDIT.c.outcome, [outcome.value for outcome in wanted.outcomes]),
    ):
        if values:
            query = query.where(column.in_(values))
    for column, value in (
        (AUDIT.c.person_id, wanted.person_id),
        (AUDIT.c.user, wanted.user),
        (AUDIT.c.request_id, wanted.request_id),
    ):
        if value is not None:
            query = query.where(column == value)
    return query


_ADD = insert(AUDIT)
_COLUMNS = tuple(one.name for one in fields(AuditRecord) if one.name not in ("id", "outcome"))
assert _COLUMNS[0] == "at"
_other_values = attrgetter(*_COLUMNS[1:])


_SQLITE_ROWS = func.json_each(bindparam("records")).table_valued("value")
_ADD_IN_SQLITE = insert(AUDIT).from_select(
    [*_COLUMNS, "outcome"],
    select(*(func.json_extract(_SQLITE_ROWS.c.value, f"$[{number}]") for number in range(len(_COLUMNS) + 1))),
)
"""Adds all records in one statement. Python's driver takes the interpreter back for each row of a batch, and the event
loop may wait each time: up to 90 times for a batch of 500, together 23 ms, four times a second (measured)."""


def _sqlite_row(record: AuditRecord) -> list[object]:
    """Return the values of `_ADD_IN_SQLITE`; the time as SQLAlchemy writes it in SQLite."""
    at = record.at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return [at, *_other_values(record), record.outcome.value]


def _row(record: AuditRecord) -> dict[str, object]:
    # `asdict` would copy every value, which takes longer than the insert.
    row: dict[str, object] = {name: getattr(record, name) for name in _COLUMNS}
    row["outcome"] = record.outcome.value
    return row


def _read(row: RowMapping) -> AuditRecord:
    return AuditRecord(**{**row, "outcome": Outcome(row["outcome"])})
