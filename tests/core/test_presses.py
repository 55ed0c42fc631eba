"""Promise 1 as the hub keeps it; the sockets' part is tested in tests/terminals, the broker's in tests/mqtt."""

import asyncio
from collections.abc import Callable

import pytest

from bridge.core.event_bus import EventBus
from bridge.core.presses import MAXIMUM_WAITING, Presses
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import Open, Reboot
from bridge.model.events import CommandReplied, GroupReplied, UnknownReply
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply
from bridge.protocol.replies import TerminalReply
from tests.support.core import ManualClock, RecordingConnection, collect, known_terminal, msgids

DEADLINE = 5.0
ORIGIN = Origin(source="test", response_topic="answers/here", correlation_data=b"7")


class House:
    """A hub with two terminals, T1 connected and T2 not."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.events = EventBus()
        self.registry = TerminalRegistry(self.events, self.clock)
        self.registry.put(known_terminal("T1", groups=("lobby",)))
        self.registry.put(known_terminal("T2", groups=("lobby",)))
        self.presses = Presses(self.registry, self.events, self.clock, msgids(), DEADLINE)
        self.connection = RecordingConnection(self.registry, "T1")
        self.registry.connected(self.connection)

    def silent(self) -> RecordingConnection:
        connection = RecordingConnection(self.registry, "T1", answer=lambda _: None)
        self.registry.connected(connection)
        return connection

    async def press(self, sn: str = "T1", age: float | None = 0.0) -> Reply:
        asked_at = None if age is None else self.clock.seconds - age
        return await self.presses.press(sn, Open(request_id="r1"), ORIGIN, asked_at)


@pytest.fixture
def system() -> House:
    return House()


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


async def test_an_open_reaches_the_terminal_and_its_answer_is_told(system: House) -> None:
    told = collect(system.events, CommandReplied)
    reply = await system.press()
    assert (reply.outcome, reply.status, reply.message, reply.delivered) == (Outcome.OK, 0, "ok", True)
    assert (reply.request_id, reply.msgid, reply.sn, reply.command) == ("r1", "m1", "T1", "open")
    assert system.connection.commands == ["OpenRequest"]
    assert [(event.reply, event.origin) for event in told if isinstance(event, CommandReplied)] == [(reply, ORIGIN)]
    known = system.registry.get("T1")
    assert known is not None
    assert known.last_reply == reply


async def test_a_reboot_is_a_reboot(system: House) -> None:
    reply = await system.presses.press("T1", Reboot(), ORIGIN, system.clock.seconds)
    assert reply.command == "reboot"
    assert system.connection.commands == ["RebootRequest"]


@pytest.mark.parametrize("age", [DEADLINE, DEADLINE + 60, None])
async def test_what_comes_too_late_is_not_carried_out(system: House, age: float | None) -> None:
    reply = await system.press(age=age)
    assert (reply.outcome, reply.delivered) == (Outcome.EXPIRED, False)
    assert system.connection.frames == []


async def test_the_deadline_runs_from_when_it_was_asked_for(system: House) -> None:
    connection = system.silent()
    pressing = asyncio.get_running_loop().create_task(system.press(age=DEADLINE - 1))
    await until(lambda: connection.frames)
    system.clock.seconds += 1.0
    reply = await pressing
    assert reply.outcome is Outcome.TIMEOUT
    assert reply.duration_ms == 1000.0


async def test_a_refusal_carries_the_terminals_words(system: House) -> None:
    system.registry.connected(
        RecordingConnection(system.registry, "T1", lambda msgid: TerminalReply(msgid, None, 3, "busy"))
    )
    reply = await system.press()
    assert (reply.outcome, reply.status, reply.message) == (Outcome.REFUSED, 3, "busy")


async def test_offline_is_said_and_nothing_is_kept_for_later(system: House) -> None:
    reply = await system.press("T2")
    assert (reply.outcome, reply.delivered) == (Outcome.OFFLINE, False)
    later = RecordingConnection(system.registry, "T2")
    system.registry.connected(later)
    await asyncio.sleep(0)
    assert later.frames == []


async def test_an_unknown_terminal_is_told_by_its_name(system: House) -> None:
    reply = await system.press("T9")
    assert reply.outcome is Outcome.INVALID
    assert reply.faults[0].path == "sn"
    assert "T9" in reply.faults[0].message


async def test_what_the_far_side_has_not_taken_by_the_deadline_is_thrown_away(system: House) -> None:
    connection = system.silent()
    connection.taken = False
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, False)
    assert len(connection.resets) == 1


async def test_it_is_withdrawn_early_and_told_when_no_copy_is_left(system: House) -> None:
    connection = system.silent()
    connection.taken = False
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE - 3
    await asyncio.wait((pressing,), timeout=1)
    assert len(connection.resets) == 1
    assert not pressing.done()
    system.clock.seconds += 3
    assert (await pressing).outcome is Outcome.TIMEOUT


async def test_what_the_far_side_has_taken_keeps_its_connection(system: House) -> None:
    connection = system.silent()
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, True)
    assert connection.resets == []


@pytest.mark.parametrize("taken", [True, False, None])
async def test_a_connection_that_breaks_is_told_at_once(system: House, taken: bool | None) -> None:
    connection = system.silent()
    connection.taken = taken
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.registry.disconnected(connection, "gone")
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.LOST, taken)


async def test_a_connection_that_has_ended_unnoticed_takes_nothing(system: House) -> None:
    system.connection.broken = True
    reply = await system.press()
    assert (reply.outcome, reply.delivered) == (Outcome.LOST, False)


async def test_a_new_connection_does_not_inherit_a_press(system: House) -> None:
    old = system.silent()
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: old.frames)
    new = system.silent()
    reply = await pressing
    assert reply.outcome is Outcome.LOST
    assert old.resets == ["replaced by a newer connection"]
    assert new.frames == []


async def test_a_late_or_doubled_answer_changes_nothing(system: House) -> None:
    unknown = collect(system.events, UnknownReply)
    reply = await system.press()
    system.registry.received(system.connection, TerminalReply("m1", None, 7, "again"))
    assert reply.outcome is Outcome.OK
    assert len(unknown) == 1


async def test_a_flood_of_presses_is_turned_away(system: House) -> None:
    connection = system.silent()
    loop = asyncio.get_running_loop()
    pressing = [loop.create_task(system.press()) for _ in range(MAXIMUM_WAITING)]
    await until(lambda: len(connection.frames) == MAXIMUM_WAITING)
    reply = await system.press()
    assert (reply.outcome, reply.delivered) == (Outcome.UNAVAILABLE, False)
    system.registry.disconnected(connection, "gone")
    await asyncio.gather(*pressing)
    system.registry.connected(RecordingConnection(system.registry, "T1"))
    assert (await system.press()).outcome is Outcome.OK


async def test_a_group_is_summed_up_and_only_the_summary_goes_to_the_response_topic(system: House) -> None:
    told = collect(system.events, CommandReplied, GroupReplied)
    summary = await system.presses.press_group("lobby", Open(request_id="g"), ORIGIN, system.clock.seconds)
    assert isinstance(summary, GroupSummary)
    assert summary.as_json() == {
        "request_id": "g",
        "command": "open",
        "group": "lobby",
        "total": 2,
        "outcomes": {"ok": 1, "offline": 1},
        "failed": {"T2": "offline"},
        "at": "2026-11-24T08:00:00.000+00:00",
    }
    members = [event for event in told if isinstance(event, CommandReplied)]
    assert {event.reply.sn for event in members} == {"T1", "T2"}
    assert all(event.origin.response_topic is None for event in members)
    assert [event.origin for event in told if isinstance(event, GroupReplied)] == [ORIGIN]


async def test_an_unknown_or_empty_group_is_invalid(system: House) -> None:
    reply = await system.presses.press_group("cellar", Open(), ORIGIN, system.clock.seconds)
    assert isinstance(reply, Reply)
    assert (reply.outcome, reply.group, reply.sn) == (Outcome.INVALID, "cellar", None)


async def test_the_group_of_all_is_every_known_terminal(system: House) -> None:
    summary = await system.presses.press_group("all", Open(), ORIGIN, system.clock.seconds)
    assert isinstance(summary, GroupSummary)
    assert summary.total == 2
