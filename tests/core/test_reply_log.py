"""Log lines of commands, and of faults that repeat themselves."""

import asyncio
import io
import logging
import time

import pytest

from bridge.cli.logs import COLLAPSE, CollapsingHandler, TextFormatter
from bridge.core import reply_log
from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.core.reply_log import ReplyLog
from bridge.model.events import CommandReplied, GroupReplied, PersonSettled
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply
from tests.support.core import ManualClock, known_terminal

SET = Origin(source="facebridge/terminal/T1/person/set")


class LogSystem:
    """A reply log with two terminals, one of which has a name."""

    def __init__(self) -> None:
        self.events = EventBus()
        self.clock = ManualClock()
        registry = TerminalRegistry(self.events, self.clock)
        registry.put(known_terminal("T1", name="Front door"))
        registry.put(known_terminal("T2"))
        self.log = ReplyLog(self.events, registry)

    def reply(self, command: str, outcome: Outcome, **details: object) -> Reply:
        return Reply(command=command, outcome=outcome, at=self.clock.now(), **details)  # type: ignore[arg-type]

    def replied(self, reply: Reply, origin: Origin = SET, *, in_group: bool = False) -> None:
        self.events.publish(CommandReplied(at=reply.at, reply=reply, origin=origin, in_group=in_group))

    def settled(self, reply: Reply, origin: Origin = SET) -> None:
        self.events.publish(PersonSettled(at=reply.at, reply=reply, origin=origin))


@pytest.fixture
def system(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> LogSystem:
    caplog.set_level(logging.INFO)
    return LogSystem()


async def written(system: LogSystem, caplog: pytest.LogCaptureFixture) -> list[str]:
    await asyncio.sleep(0)
    system.log.flush()
    return [record.getMessage() for record in caplog.records]


async def test_a_failed_command_says_why_and_names_the_door(
    system: LogSystem, caplog: pytest.LogCaptureFixture
) -> None:
    system.replied(system.reply("open", Outcome.OK, sn="T1", message="ok"))
    system.replied(system.reply("open", Outcome.OFFLINE, sn="T2", message="the terminal is not connected"))
    system.replied(system.reply("admit", Outcome.INVALID, message="sn: must be text"))
    assert await written(system, caplog) == [
        "open on T1 (Front door): ok",
        "open on T2: offline: the terminal is not connected",
        "admit: invalid: sn: must be text",
    ]


async def test_lines_wait_for_a_moment_and_keep_their_order(
    system: LogSystem, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = {Outcome.OK: 1, Outcome.OFFLINE: 1}
    for number in range(20):
        system.replied(system.reply("open", Outcome.OK, sn="T2", request_id=str(number)))
    summary = GroupSummary(command="open", group="lobby", total=2, outcomes=outcomes, failed={}, at=system.clock.now())
    system.events.publish(GroupReplied(at=summary.at, summary=summary, origin=SET))
    await asyncio.sleep(0)
    assert not caplog.records, "no line is written between two presses"
    async with asyncio.timeout(10):
        while len(caplog.records) < 21:
            await asyncio.sleep(0.005)
    assert [vars(record).get("request_id") for record in caplog.records] == [*map(str, range(20)), None]
    assert caplog.messages[-1].startswith("open on group lobby:")


async def test_a_flood_of_lines_is_written_in_larger_portions(
    system: LogSystem, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5_000):
        system.replied(system.reply("open", Outcome.INVALID, sn="T2", message="must be JSON"))
    portions = [0]
    async with asyncio.timeout(30):
        while portions[-1] < 5_000:
            await asyncio.sleep(0)
            if len(caplog.records) > portions[-1]:
                portions.append(len(caplog.records))
    assert portions[1] == 500
    assert len(portions) < 100


async def test_the_final_reply_of_a_person_change_appears(system: LogSystem, caplog: pytest.LogCaptureFixture) -> None:
    change = {"sn": "T1", "person_id": "1001", "request_id": "r1"}
    system.replied(system.reply("setPerson", Outcome.ACCEPTED, message="stored", **change))
    system.settled(system.reply("setPerson", Outcome.REFUSED, status=3, message="no face\nfound", **change))
    assert await written(system, caplog) == [
        "setPerson of 1001 on T1 (Front door): accepted",
        "setPerson of 1001 on T1 (Front door): refused, status 3: no face�found",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


async def test_an_import_is_one_line_with_the_first_failures(
    system: LogSystem, caplog: pytest.LogCaptureFixture
) -> None:
    origin = Origin(source="facebridge persons import", user="ada")
    for number in range(2000):
        outcome = Outcome.REFUSED if number % 400 == 7 else Outcome.OK
        details = {"sn": "T2", "person_id": str(number), "message": "no face", "status": 3}
        system.settled(system.reply("setPerson", outcome, **details), origin)
    (line,) = await written(system, caplog)
    assert line == (
        "setPerson from facebridge persons import by ada: 1,995 ok, 5 refused; "
        "setPerson of 7 on T2: refused, status 3: no face; setPerson of 407 on T2: refused, status 3: no face; "
        "setPerson of 807 on T2: refused, status 3: no face; and 2 more"
    )


async def test_a_long_import_is_counted_once_a_minute(
    system: LogSystem, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_log, "FIRST_LINE_SECONDS", 0.01)
    monkeypatch.setattr(reply_log, "NEXT_LINE_SECONDS", 0.02)
    for number in range(3):
        for _ in range(10):
            system.settled(system.reply("setPerson", Outcome.OK, sn="T2", person_id="1"))
        async with asyncio.timeout(10):
            while len(caplog.records) <= number:
                await asyncio.sleep(0.005)
    assert {record.getMessage() for record in caplog.records} == {f"setPerson from {SET.source}: 10 ok"}


async def test_a_press_of_a_group_is_one_line(system: LogSystem, caplog: pytest.LogCaptureFixture) -> None:
    replies = [system.reply("open", Outcome.OK, sn="T1"), system.reply("open", Outcome.OFFLINE, sn="T2")]
    for reply in replies:
        system.replied(reply, in_group=True)
    at = system.clock.now()
    summary = GroupSummary.of(replies, command="open", group="all", at=at, request_id="r")
    system.events.publish(GroupReplied(at=at, summary=summary, origin=SET))
    assert await written(system, caplog) == ["open on group all: 1 ok, 1 offline (T2 offline)"]


async def test_requests_without_end_are_bounded(system: LogSystem, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1500):
        system.settled(system.reply("setPerson", Outcome.OK, sn="T2", request_id=str(number)))
    assert len(caplog.records) == 500, "the oldest have their line"
    assert len(await written(system, caplog)) == 1500


class Written:
    """A logger with the handler of the bridge, and what it has written."""

    def __init__(self, repeat_seconds: float = 60) -> None:
        self.stream = io.StringIO()
        self.handler = CollapsingHandler(self.stream, repeat_seconds)
        self.handler.setFormatter(TextFormatter())
        self.logger = logging.getLogger("bridge.test")
        self.logger.handlers = [self.handler]
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False

    def lines(self) -> list[str]:
        return [line.partition("test: ")[2] for line in self.stream.getvalue().splitlines()]


def test_a_repeated_fault_is_one_line_and_then_a_count() -> None:
    written = Written()
    for _ in range(45):
        written.logger.warning("refused T1 from %s: wrong credentials", "192.0.2.1")
    written.logger.warning("refused T2 from 192.0.2.1: wrong credentials")
    for _ in range(2):
        written.logger.info("open on T1: ok")
    assert written.lines() == [
        "refused T1 from 192.0.2.1: wrong credentials",
        "refused T2 from 192.0.2.1: wrong credentials",
        "open on T1: ok",
        "open on T1: ok",
    ]
    written.handler.close()
    assert written.lines()[4:] == ["refused T1 from 192.0.2.1: wrong credentials (repeated 44 times in the last 60 s)"]


def test_a_count_has_the_time_at_which_it_is_written() -> None:
    written = Written()
    written.handler.setFormatter(logging.Formatter("%(created)f"))
    for _ in range(2):
        written.logger.warning("the disk is full")
    written.logger.warning("another fault")
    written.handler.close()
    times = [float(line) for line in written.stream.getvalue().splitlines()]
    assert len(times) == 3
    assert times == sorted(times)


async def test_the_count_comes_without_another_line_and_then_ends() -> None:
    written = Written(repeat_seconds=0.02)
    # The lock keeps the timer from counting between the lines.
    assert written.handler.lock is not None
    with written.handler.lock:
        for _ in range(3):
            written.logger.info("terminal T1 connected", extra={COLLAPSE: True})
    async with asyncio.timeout(10):
        while len(written.lines()) < 2:
            await asyncio.sleep(0.005)
    assert written.lines() == ["terminal T1 connected", "terminal T1 connected (repeated 2 times in the last 0.02 s)"]


def test_each_line_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    formatter = TextFormatter()
    lines = [
        formatter.format(logging.makeLogRecord({"created": created, "levelname": "INFO", "name": "x", "msg": "y"}))
        for created in (1_795_500_000.125, 1_795_500_000.875, 1_795_500_001.0, 1_795_499_999.5)
    ]
    monkeypatch.undo()
    time.tzset()
    assert lines == [
        "2026-11-24 06:00:00.125 INFO    x: y",
        "2026-11-24 06:00:00.875 INFO    x: y",
        "2026-11-24 06:00:01.000 INFO    x: y",
        "2026-11-24 05:59:59.500 INFO    x: y",
    ]


def test_no_field_is_printed_twice() -> None:
    written = Written()
    written.logger.info("refused T1 from 192.0.2.1", extra={"sn": "T1", "address": "192.0.2.1", "request_id": "r1"})
    assert written.lines() == ["refused T1 from 192.0.2.1  [request_id=r1]"]
