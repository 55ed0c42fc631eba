"""The audit's table."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.model.audit import AuditFilter, AuditRecord
from bridge.model.reply import Outcome
from bridge.store.audit import StoredAudit
from bridge.store.database import Database

AT = datetime(2026, 11, 24, 8, tzinfo=UTC)


def record(minute: int = 0, **details: Any) -> AuditRecord:
    values: dict[str, Any] = {
        "command": "open",
        "sn": "T1",
        "group": None,
        "person_id": None,
        "request_id": f"r{minute}",
        "source": "facebridge/terminal/T1/open/set",
        "user": None,
        "outcome": Outcome.OK,
        "status": 0,
        "message": "ok",
        "duration_ms": 1.25,
        **details,
    }
    return AuditRecord(at=AT + timedelta(minutes=minute), **values)


async def ids(audit: StoredAudit, limit: int = 100, **wanted: Any) -> list[str | None]:
    return [one.request_id for one in await audit.latest(AuditFilter(**wanted), limit)]


async def test_records_come_back_as_they_were_added_the_youngest_last(database: Database) -> None:
    audit = StoredAudit(database)
    first = record(0, person_id="p1", user="ann", group="lobby", status=-7)
    await audit.add([first, record(1)])
    await audit.add([record(2)])
    (read, *_) = await audit.latest(AuditFilter(), 100)
    assert read == AuditRecord(**{**{name: getattr(first, name) for name in first.__slots__}, "id": 1})
    assert await ids(audit) == ["r0", "r1", "r2"]
    assert await ids(audit, limit=2) == ["r1", "r2"]
    assert [one.request_id for one in await audit.after(1, AuditFilter(), 1)] == ["r1"]
    assert await audit.last_id() == 3


async def test_each_filter(database: Database) -> None:
    audit = StoredAudit(database)
    await audit.add(
        [
            record(0),
            record(1, sn="T2"),
            record(2, command="setPerson", person_id="p1"),
            record(3, outcome=Outcome.TIMEOUT),
            record(4, user="ann"),
        ]
    )
    assert await ids(audit, sns=["T2"]) == ["r1"]
    assert await ids(audit, person_id="p1") == ["r2"]
    assert await ids(audit, commands=["setPerson", "reboot"]) == ["r2"]
    assert await ids(audit, outcomes=[Outcome.TIMEOUT]) == ["r3"]
    assert await ids(audit, user="ann") == ["r4"]
    assert await ids(audit, request_id="r3") == ["r3"]
    assert await ids(audit, since=AT + timedelta(minutes=3)) == ["r3", "r4"]
    assert await ids(audit, until=AT + timedelta(minutes=1)) == ["r0", "r1"]
    assert await ids(audit, sns=["T1"], user="ann", since=AT) == ["r4"]


async def test_old_and_excess_records_are_deleted(database: Database) -> None:
    audit = StoredAudit(database)
    await audit.add([record(minute % 60, request_id=str(minute)) for minute in range(6000)])
    await audit.drop(before=AT + timedelta(minutes=1), keep=1_000_000)
    assert len(await audit.latest(AuditFilter(until=AT), 10)) == 0
    assert len(await audit.latest(AuditFilter(), 10_000)) == 5900
    await audit.drop(before=AT, keep=3)
    assert await ids(audit) == ["5997", "5998", "5999"]
    await audit.add([record(1)])
    assert await audit.last_id() == 6001
