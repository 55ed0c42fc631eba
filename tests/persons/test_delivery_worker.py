"""Delivery to a terminal: one frame at a time, repeated until it is answered; refused ones are not repeated."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import current_thread

import pytest
from sqlalchemy import event

from bridge.core.clock import Clock
from bridge.core.presses import Presses
from bridge.model.commands import Open
from bridge.model.events import PersonsChanged, UnknownReply
from bridge.model.reply import Outcome
from bridge.model.secret import Secret
from bridge.model.terminal import PersonCounts
from bridge.persons.delivery.manager import AnswerRecorder
from bridge.persons.delivery.worker import WINDOW, DeliveryTimes
from bridge.persons.effects import TerminalAnswer
from bridge.persons.transaction_runner import TransactionRunner
from bridge.persons.transactions import PersonTransaction
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import OpenRequest, SetPersonRequest, decode_request
from bridge.store.person_queries import pending_window
from tests.persons.person_system import (
    ORIGIN,
    OTHER_PHOTO,
    PersonSystem,
    answer_ok,
    person,
    person_system,
    requests,
    sent,
    silent,
)
from tests.support.core import RecordingConnection, collect
from tests.support.waiting import until

QUICK = DeliveryTimes(first_repeat=0.02, longest_repeat=0.04, store_retry=0.01)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    """A service whose clock stands still: nothing is repeated."""
    async with person_system(tmp_path) as system:
        yield system


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    """A service that repeats after some milliseconds."""
    async with person_system(tmp_path, times=QUICK, clock=Clock()) as system:
        yield system


def answer(
    system: PersonSystem, connection: RecordingConnection, frame: bytes, status: int = 0, text: str = "ok"
) -> None:
    system.registry.received(connection, TerminalReply(decode_request(frame).msgid, None, status, text))


async def test_one_frame_in_flight(system: PersonSystem) -> None:
    connection = system.connect(answer=silent)
    await system.set(person("p1"), person("p2"))
    await until(lambda: connection.frames)
    await system.set(person("p3"))
    assert sent(connection) == ["set p1"]
    answer(system, connection, connection.frames[0])
    await until(lambda: len(connection.frames) == 2)
    answer(system, connection, connection.frames[1])
    await until(lambda: len(connection.frames) == 3)
    assert sent(connection) == ["set p1", "set p2", "set p3"]


async def test_presses_overtake_persons(system: PersonSystem) -> None:
    def only_opens(msgid: str) -> TerminalReply | None:
        opens = isinstance(requests(connection)[-1], OpenRequest)
        return TerminalReply(msgid, None, 0, "ok") if opens else None

    connection = system.connect(answer=only_opens)
    presses = Presses(system.registry, system.events, system.clock, lambda: "press", deadline=5)
    await system.set(person("p1"), person("p2"))
    await until(lambda: connection.frames)
    reply = await presses.press("T1", Open(), ORIGIN, system.clock.boottime())
    assert reply.outcome is Outcome.OK
    assert sent(connection) == ["set p1", "OpenRequest"]


async def test_a_terminal_that_connects_later_gets_the_pending_changes(system: PersonSystem) -> None:
    await system.set(person("p1"))
    assert system.person_service.counts("T1") == PersonCounts(desired=1, pending=1)
    connection = system.connect()
    await system.settled()
    assert sent(connection) == ["set p1"]


async def test_frames_contain_the_terminals_key(system: PersonSystem) -> None:
    known = system.registry.get("T1")
    assert known is not None
    known.terminal = replace(known.terminal, key=Secret("abc"))
    connection = system.connect()
    await system.set(person("p1"))
    await system.settled()
    (request,) = requests(connection)
    assert isinstance(request, SetPersonRequest)
    assert request.person.key == "abc"


async def test_an_unanswered_frame_is_repeated_with_another_msgid(quick: PersonSystem) -> None:
    connection = quick.connect(answer=silent)
    await quick.set(person("p1"))
    await until(lambda: len(connection.frames) >= 3)
    assert set(sent(connection)) == {"set p1"}
    assert len({request.msgid for request in requests(connection)}) == len(connection.frames)


async def test_a_late_answer_to_an_earlier_attempt_counts(quick: PersonSystem) -> None:
    connection = quick.connect(answer=silent)
    await quick.set(person("p1"), request_id="r")
    await until(lambda: len(connection.frames) >= 2)
    answer(quick, connection, connection.frames[0])
    (final_reply,) = await quick.final_replies(1)
    assert (final_reply.reply.outcome, final_reply.reply.msgid) == (Outcome.OK, requests(connection)[0].msgid)
    count = len(connection.frames)
    await quick.set(person("p2"))
    await until(lambda: "set p2" in sent(connection))
    assert sent(connection)[count:].count("set p1") == 0


async def test_a_late_answer_counts_after_a_reconnection(system: PersonSystem) -> None:
    first = system.connect(answer=silent)
    await system.set(person("p1"))
    await until(lambda: first.frames)
    system.registry.disconnected(first, "gone")
    second = system.connect(answer=silent)
    await until(lambda: second.frames)
    answer(system, second, first.frames[0])
    await system.settled()


async def test_a_reconnected_terminal_gets_the_change_at_once(system: PersonSystem) -> None:
    first = system.connect(answer=silent)
    await system.set(person("p1"))
    await until(lambda: first.frames)
    second = system.connect()
    await system.settled()
    assert sent(second) == ["set p1"]


async def test_an_answer_to_a_superseded_change_does_not_count(system: PersonSystem) -> None:
    connection = system.connect(answer=silent)
    await system.set(person("p1"))
    await until(lambda: connection.frames)
    await system.set({"id": "p1", "name": "Newer"}, request_id="newer")
    assert len(connection.frames) == 1
    answer(system, connection, connection.frames[0])
    await until(lambda: len(connection.frames) == 2)
    assert system.person_service.counts("T1") == PersonCounts(desired=1, pending=1)
    answer(system, connection, connection.frames[1])
    await system.settled()
    newer = requests(connection)[1]
    assert isinstance(newer, SetPersonRequest)
    assert newer.person.name == "Newer"


async def test_an_answer_stored_after_a_newer_change_does_not_confirm_it(system: PersonSystem) -> None:
    await system.set(person("p1"), request_id="r")
    _, (older,) = await system.read(pending_window, "T1", -1, -1, 1)
    await system.set({"id": "p1", "name": "Newer"}, request_id="r")
    # The answer came in before the change, but is stored after it.
    recorder = AnswerRecorder(system.transactions, retry_seconds=1)
    for person_id in ("p1", "unknown"):
        recorder.record(
            TerminalAnswer(sn="T1", person_id=person_id, revision=older.revision, status=0, message="ok", msgid="m")
        )
    recorder.stop()
    await recorder.run()
    assert await system.delivery() == {"p1": "pending"}


async def test_a_second_answer_changes_nothing(system: PersonSystem) -> None:
    unknown = collect(system.events, UnknownReply)
    connection = system.connect()
    await system.set(person("p1"))
    await system.settled()
    answer(system, connection, connection.frames[0], status=7)
    assert len(unknown) == 1
    assert await system.delivery() == {"p1": "confirmed"}


async def test_a_refused_person_is_shown_and_does_not_block_others(system: PersonSystem) -> None:
    connection = system.connect(answer=silent)
    await system.set(person("p1"), person("p2"), request_id="r")
    await until(lambda: connection.frames)
    answer(system, connection, connection.frames[0], status=-3, text="no face found")
    await until(lambda: len(connection.frames) == 2)
    answer(system, connection, connection.frames[1])
    refused, ok = await system.final_replies(2)
    assert (refused.reply.outcome, refused.reply.status, refused.reply.message) == (
        Outcome.REFUSED,
        -3,
        "no face found",
    )
    assert ok.reply.outcome is Outcome.OK
    shown = (await system.persons("T1", "p1"))[0]
    assert (shown["delivery"], shown["status"], shown["message"]) == ("refused", -3, "no face found")
    assert system.person_service.counts("T1") == PersonCounts(desired=2, confirmed=1, refused=1)


async def test_a_refused_person_is_sent_again_only_on_request_and_a_removal_by_itself(system: PersonSystem) -> None:
    stubborn = system.connect(answer=lambda msgid: TerminalReply(msgid, None, 1, "no"))
    await system.set(person("p1"))
    await system.remove("p2")
    await system.settled()
    assert system.person_service.counts("T1") == PersonCounts(desired=1, refused=2)
    obeying = system.connect()
    await system.set(person("p3"))
    await system.settled()
    assert sorted(sent(stubborn)) == ["remove p2", "set p1"]
    assert sorted(sent(obeying)) == ["remove p2", "set p3"]
    await system.sync()
    await system.settled()
    assert sent(obeying)[2:] == ["set p1", "set p3"]
    assert system.person_service.counts("T1") == PersonCounts(desired=2, confirmed=2)


async def test_an_unanswered_person_does_not_block_many_others(quick: PersonSystem) -> None:
    def all_but_the_first(msgid: str) -> TerminalReply | None:
        return None if sent(connection)[-1] == "set p000" else TerminalReply(msgid, None, 0, "ok")

    connection = quick.connect(answer=all_but_the_first)
    await quick.set(*(person(f"p{number:03}") for number in range(3 * WINDOW)))
    await until(lambda: quick.person_service.counts("T1").pending == 1)
    assert (await quick.delivery())["p000"] == "pending"
    assert sent(connection).count("set p001") == 1


async def test_a_whole_window_of_unanswered_persons_does_not_block_others(quick: PersonSystem) -> None:
    silent_persons = {f"set p{number:03}" for number in range(WINDOW + 6)}

    def all_but_the_first(msgid: str) -> TerminalReply | None:
        return None if sent(connection)[-1] in silent_persons else TerminalReply(msgid, None, 0, "ok")

    connection = quick.connect(answer=all_but_the_first)
    await quick.set(*(person(f"p{number:03}") for number in range(len(silent_persons) + 10)))
    await until(lambda: quick.person_service.counts("T1").pending == len(silent_persons))
    # They are tried on, and a late answer still counts.
    count = sent(connection).count("set p000")
    await until(lambda: sent(connection).count("set p000") > count)
    last = max(index for index, name in enumerate(sent(connection)) if name == "set p000")
    answer(quick, connection, connection.frames[last])
    await until(lambda: quick.person_service.counts("T1").pending == len(silent_persons) - 1)


async def test_a_removal_does_not_wait_behind_other_changes(system: PersonSystem) -> None:
    connection = system.connect(answer=silent)
    await system.set(*(person(f"p{number:03}") for number in range(2 * WINDOW)))
    await until(lambda: connection.frames)
    await system.set({"id": "p100", "enabled": False})
    await system.remove("p050")
    for number in range(3):
        await until(lambda: len(connection.frames) == number + 1)  # noqa: B023  awaited within the loop
        answer(system, connection, connection.frames[-1])
    await until(lambda: len(connection.frames) == 4)
    assert sent(connection) == ["set p000", "remove p100", "remove p050", "set p001"]


async def test_a_superseded_slow_change_is_not_sent_any_more(quick: PersonSystem) -> None:
    def all_but_the_first(msgid: str) -> TerminalReply | None:
        return None if sent(connection)[-1] == "set p000" else TerminalReply(msgid, None, 0, "ok")

    connection = quick.connect(answer=all_but_the_first)
    await quick.set(*(person(f"p{number:03}") for number in range(WINDOW + 10)))
    await until(lambda: quick.person_service.counts("T1").pending == 1)
    await quick.remove("p000")
    await quick.settled()
    count = len(connection.frames)
    await quick.set(person("p001"))
    await quick.settled()
    assert sent(connection)[count:] == ["set p001"]


async def test_a_person_that_crashes_the_terminal_does_not_block_others(system: PersonSystem) -> None:
    connections: list[RecordingConnection] = []

    def fall_over(msgid: str) -> TerminalReply | None:
        if sent(connections[-1])[-1] == "set p1":
            connections[-1].reset("fell over")
            asyncio.get_running_loop().call_later(0.005, connect)
            return None
        return TerminalReply(msgid, None, 0, "ok")

    def connect() -> None:
        connections.append(system.connect(answer=fall_over))

    connect()
    await system.set(person("p1"), person("p2"), person("p3"))
    await until(lambda: system.person_service.counts("T1").confirmed == 2)
    await system.remove("p1")
    await system.settled()


async def test_a_connection_that_breaks_during_a_frame(system: PersonSystem) -> None:
    broken = system.connect()
    broken.broken = True
    await system.set(person("p1"))
    await asyncio.sleep(0)
    system.registry.disconnected(broken, "broken")
    connection = system.connect()
    await system.settled()
    assert sent(connection) == ["set p1"]


async def test_idle_terminals_cost_no_task(system: PersonSystem) -> None:
    system.connect("T1")
    system.connect("T2")
    delivery = system.person_service.delivery
    assert (delivery.running, delivery.workers) == (0, 0)
    await system.set(person("p1"))
    await system.settled()
    await until(lambda: delivery.running == 0)
    assert delivery.workers == 0


async def test_no_answer_is_expected_once_everything_is_settled(quick: PersonSystem) -> None:
    connection = quick.connect(answer=silent)
    await quick.set(person("p1"))
    await until(lambda: len(connection.frames) >= 3)
    answer(quick, connection, connection.frames[1])
    await until(lambda: quick.person_service.delivery.workers == 0)
    unknown = collect(quick.events, UnknownReply)
    for frame in connection.frames:
        answer(quick, connection, frame)
    assert len(unknown) == len(connection.frames)


async def test_an_unsendable_person_is_shown_and_does_not_block_others(system: PersonSystem, tmp_path: Path) -> None:
    announced = collect(system.events, PersonsChanged)
    await system.set(person("p1"), person("p2"), request_id="r")
    # The worker must read the change below from the store, and not get the one above from its transaction.
    await until(lambda: announced)
    with closing(sqlite3.connect(tmp_path / "store.db")) as other:
        other.execute("UPDATE person_entry SET desired = json_set(desired, '$.pass_count', -1) WHERE person_id = 'p1'")
        other.commit()
    connection = system.connect()
    refused, ok = (entry.reply for entry in await system.final_replies(2))
    assert (refused.outcome, refused.status, refused.delivered) == (Outcome.REFUSED, None, False)
    assert "a pass count is a whole number" in (refused.message or "")
    assert (ok.outcome, ok.person_id) == (Outcome.OK, "p2")
    assert sent(connection) == ["set p2"]


async def test_answers_wait_for_a_locked_store(system: PersonSystem, tmp_path: Path) -> None:
    await system.set(person("p1"), person("p2"), request_id="r")
    with closing(sqlite3.connect(tmp_path / "store.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        connection = system.connect()
        await until(lambda: len(connection.frames) == 2)
        assert system.person_service.counts("T1").pending == 2
        other.rollback()
    assert await system.final_outcomes(2) == [("r", "p1", "ok"), ("r", "p2", "ok")]
    assert sent(connection) == ["set p1", "set p2"]


async def test_a_forgotten_terminal_gets_nothing_more(system: PersonSystem) -> None:
    connection = system.connect(answer=silent)
    await system.set(person("p1"), person("p2"))
    await until(lambda: connection.frames)
    await system.person_service.forget("T1")
    answer(system, connection, connection.frames[0])
    await system.set(person("p9"), sn="T2")
    other = system.connect("T2")
    await system.settled("T2")
    assert (sent(connection), sent(other)) == (["set p1"], ["set p9"])


class FailingConnection(RecordingConnection):
    """Raises an unexpected exception at the first frame."""

    failures = 1

    async def send(self, frame: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("unexpected")
        await super().send(frame)


async def test_delivery_continues_after_an_unexpected_exception(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    times = replace(QUICK, failure_pause=0.01)
    async with person_system(tmp_path, times=times, clock=Clock()) as system:
        connection = FailingConnection(system.registry, "T1", answer_ok)
        system.registry.connected(connection)
        await system.set(person("p1"), person("p2"))
        await system.settled()
        assert set(sent(connection)) == {"set p1", "set p2"}
        assert "delivery to terminal T1 failed, trying again" in caplog.text


async def test_answers_are_stored_after_an_unexpected_exception(system: PersonSystem) -> None:
    await system.set(person("p1"))
    _, (entry,) = await system.read(pending_window, "T1", -1, -1, 1)
    recorder = AnswerRecorder(FailingOnce(system.transactions), retry_seconds=0.01)  # type: ignore[arg-type]  # one method
    recording = asyncio.get_running_loop().create_task(recorder.run())
    recorder.record(TerminalAnswer(sn="T1", person_id="p1", revision=entry.revision, status=0, message="ok", msgid="m"))
    await system.settled()
    recorder.stop()
    await recording


class FailingOnce:
    """A transaction runner whose first transaction raises an unexpected exception."""

    def __init__(self, transactions: TransactionRunner) -> None:
        self._transactions = transactions
        self._has_failed = False

    def run(self, work: Callable[[PersonTransaction], None]) -> "asyncio.Future[None]":
        if not self._has_failed:
            self._has_failed = True
            raise ValueError("unexpected")
        return self._transactions.run(work)


async def test_what_a_transaction_has_stored_is_not_read_again(system: PersonSystem) -> None:
    reads: list[str] = []

    def note(*arguments: object) -> None:
        if current_thread().name != "store writer":
            reads.append(str(arguments[2]))

    connection = system.connect(answer=silent)
    await system.set(person("p1"))
    await until(lambda: connection.frames)
    event.listen(system.database.engine, "before_cursor_execute", note)
    # A change that waits, one that takes the place of another, and one that takes the place of what is in flight.
    await system.set(person("p2"), person("p3"))
    await system.set(person("p2", name="Another", photo=OTHER_PHOTO))
    await system.remove("p3")
    await system.set({"id": "p1", "name": "Another"})
    answer(system, connection, connection.frames[0])
    while system.person_service.counts("T1").pending:
        count = len(connection.frames)
        answer(system, connection, connection.frames[-1])
        await until(lambda: len(connection.frames) > count or not system.person_service.counts("T1").pending)  # noqa: B023
    assert sent(connection) == ["set p1", "remove p3", "set p2", "set p1"]
    names = [request.person.name for request in requests(connection) if isinstance(request, SetPersonRequest)]
    assert names == ["Name of p1", "Another", "Another"]
    assert not [one for one in reads if "person_entry" in one or "photo" in one]
