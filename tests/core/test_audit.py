"""The audit records every reply in the background, and survives a store that fails."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.core.audit import MAX_STORED_RECORDS, MAX_WAITING_RECORDS, AuditRecorder
from bridge.core.event_bus import EventBus
from bridge.model.audit import AuditRecord
from bridge.model.events import AuditWritten, CommandReplied, PersonSettled
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from tests.support.core import ManualClock
from tests.support.waiting import until

AT = datetime(2026, 11, 24, 8, tzinfo=UTC)
ORIGIN = Origin(source="facebridge/terminal/T1/open/set", user="ann")


class FailingStore:
    """Stores records in memory, unless it fails."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.fails = False
        self.tries = 0
        self.dropped: list[tuple[datetime, int]] = []

    async def add(self, records: Sequence[AuditRecord]) -> None:
        self.tries += 1
        if self.fails:
            raise UnavailableError("the store is full")
        await asyncio.sleep(0)
        self.records += records

    async def drop(self, *, before: datetime, keep: int) -> None:
        self.dropped.append((before, keep))
        if self.fails:
            raise UnavailableError("the store is full")


def reply(number: int = 0, outcome: Outcome = Outcome.OK, **details: Any) -> Reply:
    return Reply(command="open", outcome=outcome, at=AT, sn="T1", request_id=str(number), **details)


def recorder(store: FailingStore, events: EventBus, max_waiting: int = MAX_WAITING_RECORDS) -> AuditRecorder:
    return AuditRecorder(store, events, ManualClock(), keep_days=90, max_waiting=max_waiting, retry_seconds=0.01)


async def test_records_are_announced_when_they_can_be_read() -> None:
    store, events = FailingStore(), EventBus()
    stored_then: list[int] = []
    events.subscribe(AuditWritten, lambda _: stored_then.append(len(store.records)), name="test")
    audit = recorder(store, events)
    audit.start()
    events.publish(CommandReplied(at=AT, reply=reply(1), origin=ORIGIN))
    assert stored_then == []
    await until(lambda: stored_then == [1])
    store.fails = True
    events.publish(CommandReplied(at=AT, reply=reply(2), origin=ORIGIN))
    tries = store.tries
    await until(lambda: store.tries > tries)
    assert stored_then == [1]
    store.fails = False
    await until(lambda: stored_then == [1, 2])
    await audit.stop()


async def test_every_reply_is_recorded_with_its_requester() -> None:
    store, events = FailingStore(), EventBus()
    audit = recorder(store, events)
    audit.start()
    events.publish(CommandReplied(at=AT, reply=reply(1), origin=ORIGIN))
    refused = reply(2, Outcome.REFUSED, person_id="p1", message="no face")
    events.publish(PersonSettled(at=AT, reply=refused, origin=ORIGIN))
    await until(lambda: len(store.records) == 2)
    first, second = store.records
    assert (first.command, first.sn, first.request_id, first.outcome, first.source, first.user) == (
        "open", "T1", "1", Outcome.OK, ORIGIN.source, "ann",
    )  # fmt: skip
    assert (second.person_id, second.outcome, second.message) == ("p1", Outcome.REFUSED, "no face")
    assert store.dropped == [(ManualClock().now() - timedelta(days=90), MAX_STORED_RECORDS)]
    await audit.stop()


async def test_texts_of_strangers_are_shortened() -> None:
    store, events = FailingStore(), EventBus()
    audit = recorder(store, events)
    audit.start()
    events.publish(CommandReplied(at=AT, reply=reply(1, message="x" * 5000 + "\0"), origin=ORIGIN))
    made_up = Reply(command="open", outcome=Outcome.OK, at=AT, request_id="a\0b")
    events.publish(CommandReplied(at=AT, reply=made_up, origin=ORIGIN))
    await until(lambda: len(store.records) == 2)
    assert [len(store.records[0].message or ""), store.records[1].request_id] == [200, "a\ufffdb"]
    await audit.stop()


async def test_only_repetitions_are_omitted_while_the_store_fails(caplog: pytest.LogCaptureFixture) -> None:
    store, events = FailingStore(), EventBus()
    store.fails = True
    audit = recorder(store, events)
    audit.start()
    events.publish(CommandReplied(at=AT, reply=reply(1), origin=ORIGIN))
    await until(lambda: store.tries > 1)
    # A change that is repeated until it is stored has this outcome each time.
    events.publish(CommandReplied(at=AT, reply=reply(2, Outcome.UNAVAILABLE), origin=ORIGIN))
    events.publish(CommandReplied(at=AT, reply=reply(3), origin=ORIGIN))
    store.fails = False
    await until(lambda: len(store.records) == 2)
    assert [record.request_id for record in store.records] == ["1", "3"]
    assert "cannot be written now: the store is full" in caplog.text
    events.publish(CommandReplied(at=AT, reply=reply(4, Outcome.UNAVAILABLE), origin=ORIGIN))
    await until(lambda: len(store.records) == 3)
    await audit.stop()


async def test_waiting_records_are_limited_and_missing_ones_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    store, events = FailingStore(), EventBus()
    audit = recorder(store, events, max_waiting=3)
    for number in range(5):
        events.publish(CommandReplied(at=AT, reply=reply(number), origin=ORIGIN))
    assert audit.waiting == 3
    with caplog.at_level(logging.WARNING):
        audit.start()
        await until(lambda: "lacks 2 records" in caplog.text)
    assert [record.request_id for record in store.records] == ["0", "1", "2"]
    await audit.stop()


async def test_stopping_writes_everything() -> None:
    store, events = FailingStore(), EventBus()
    audit = recorder(store, events)
    audit.start()
    for number in range(1200):
        events.publish(CommandReplied(at=AT, reply=reply(number), origin=ORIGIN))
    await audit.stop()
    assert [record.request_id for record in store.records] == [str(number) for number in range(1200)]


async def test_a_store_that_fails_does_not_delay_stopping() -> None:
    store, events = FailingStore(), EventBus()
    store.fails = True
    audit = recorder(store, events)
    audit.start()
    events.publish(CommandReplied(at=AT, reply=reply(1), origin=ORIGIN))
    await until(lambda: store.tries)
    async with asyncio.timeout(2):
        await audit.stop()


async def test_single_records_share_a_transaction() -> None:
    store, events = FailingStore(), EventBus()
    audit = recorder(store, events)
    audit.start()
    for number in range(20):
        events.publish(CommandReplied(at=AT, reply=reply(number), origin=ORIGIN))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await until(lambda: len(store.records) == 20)
    assert store.tries <= 3, "not one for each record"
    await audit.stop()
