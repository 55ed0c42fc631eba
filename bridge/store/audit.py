"""The audit's table."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import RowMapping, Select, delete, func, insert, select

from bridge.model.audit import AuditRecord
from bridge.model.outcome import Outcome
from bridge.store.database import Database
from bridge.store.tables import AUDIT

_DROPPED_AT_ONCE = 5000
"""Rows that one transaction drops: some ten milliseconds, for which a person change may have to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records are wanted; None and nothing mean all.

    Attributes:
        since: not older.
        until: not younger.
        sns: of these terminals.
        person_id: of this person.
        commands: of these commands.
        outcomes: that ended so.
        user: asked by.
        request_id: under this mark.
    """

    since: datetime | None = None
    until: datetime | None = None
    sns: Collection[str] = ()
    person_id: str | None = None
    commands: Collection[str] = ()
    outcomes: Collection[Outcome] = ()
    user: str | None = None
    request_id: str | None = None


class StoredAudit:
    """The hub's `AuditStore`, and what `facebridge log` reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, records: Sequence[AuditRecord]) -> None:
        """Add records, in their order. Raises UnavailableError."""
        async with self._database.writing() as connection:
            await connection.execute(insert(AUDIT), [_row(record) for record in records])

    async def drop(self, *, before: datetime, keep: int) -> None:
        """Drop what is older, and the oldest of more than `keep`. Raises UnavailableError."""
        async with self._database.reading() as connection:
            newest = (await connection.execute(select(func.max(AUDIT.c.id)))).scalar() or 0
        too_old = (AUDIT.c.at < before) | (AUDIT.c.id <= newest - keep)
        oldest = select(AUDIT.c.id).where(too_old).limit(_DROPPED_AT_ONCE)
        dropped = _DROPPED_AT_ONCE
        while dropped == _DROPPED_AT_ONCE:
            async with self._database.writing() as connection:
                dropped = (await connection.execute(delete(AUDIT).where(AUDIT.c.id.in_(oldest)))).rowcount

    async def latest(self, wanted: AuditFilter, limit: int) -> Sequence[AuditRecord]:
        """Return the youngest records, the youngest last. Raises UnavailableError."""
        query = _filtered(wanted).order_by(AUDIT.c.id.desc()).limit(limit)
        return list(reversed(await self._read(query)))

    async def after(self, last_id: int, wanted: AuditFilter, limit: int) -> Sequence[AuditRecord]:
        """Return records younger than one, the youngest last. Raises UnavailableError."""
        return await self._read(_filtered(wanted).where(AUDIT.c.id > last_id).order_by(AUDIT.c.id).limit(limit))

    async def last_id(self) -> int:
        """Return the youngest record's id, 0 where there is none. Raises UnavailableError."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(func.max(AUDIT.c.id)))).scalar() or 0

    async def _read(self, query: Select[tuple[object, ...]]) -> Sequence[AuditRecord]:
        async with self._database.reading() as connection:
            return [_read(row) for row in (await connection.execute(query)).mappings()]


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


def _row(record: AuditRecord) -> dict[str, object]:
    row = asdict(record)
    del row["id"]
    return {**row, "outcome": record.outcome.value}


def _read(row: RowMapping) -> AuditRecord:
    return AuditRecord(**{**row, "outcome": Outcome(row["outcome"])})
