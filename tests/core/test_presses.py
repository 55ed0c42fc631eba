"""Promise 1 in the core; tests/terminals tests the sockets' part, tests/mqtt the broker's."""

import asyncio
from collections.abc import Callable
from uuid import RFC_4122, UUID

import pytest

from bridge.app import new_msgid
from bridge.core.event_bus import EventBus
from bridge.core.presses import MAXIMUM_WAITING, Presses
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import Open, Reboot
from bridge.model.events import CommandReplied, GroupReplied, UnknownReply
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import decode_request
from tests.support.core import ManualClock, RecordingConnection, collect, known_terminal, msgids
from tests.support.waiting import until as until_time_passes

DEADLINE = 5.0
ORIGIN = Origin(source="test", response_topic="answers/here", correlation_data=b"7")


class PressSystem:
    """A core with two terminals: T1 is connected, T2 is not."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self.clock = ManualClock()
        self.events = EventBus()
        self.registry = TerminalRegistry(self.events, self.clock)
        self.registry.put(known_terminal("T1", groups=("lobby",)))
        self.registry.put(known_terminal("T2", groups=("lobby",)))
        self.presses = Presses(self.registry, self.events, self.clock, msgids(), deadline)
        self.connection = RecordingConnection(self.registry, "T1")
        self.registry.connected(self.connection)

    def connect_silent(self) -> RecordingConnection:
        connection = RecordingConnection(self.registry, "T1", answer=lambda _: None)
        self.registry.connected(connection)
        return connection

    async def press(self, sn: str = "T1", age: float | None = 0.0) -> Reply:
        requested_at = None if age is None else self.clock.seconds - age
        return await self.presses.press(sn, Open(request_id="r1"), ORIGIN, requested_at)


@pytest.fixture
def system() -> PressSystem:
    return PressSystem()


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never became true")


async def test_an_open_reaches_the_terminal_and_its_answer_is_published(system: PressSystem) -> None:
    published = collect(system.events, CommandReplied)
    reply = await system.press()
    assert (reply.outcome, reply.status, reply.message, reply.delivered) == (Outcome.OK, 0, "ok", True)
    assert (reply.request_id, reply.msgid, reply.sn, reply.command) == ("r1", "m1", "T1", "open")
    assert system.connection.commands == ["OpenRequest"]
    assert [(event.reply, event.origin) for event in published if isinstance(event, CommandReplied)] == [
        (reply, ORIGIN)
    ]
    known = system.registry.get("T1")
    assert known is not None
    assert known.last_reply == reply


async def test_a_reboot_reaches_the_terminal(system: PressSystem) -> None:
    reply = await system.presses.press("T1", Reboot(), ORIGIN, system.clock.seconds)
    assert reply.command == "reboot"
    assert system.connection.commands == ["RebootRequest"]


@pytest.mark.parametrize("age", [1.6, 2.0, 4.9, DEADLINE, DEADLINE + 60, None])
async def test_a_press_that_arrives_too_late_is_not_carried_out(system: PressSystem, age: float | None) -> None:
    reply = await system.press(age=age)
    assert (reply.outcome, reply.delivered) == (Outcome.EXPIRED, False)
    assert system.connection.frames == []
    assert system.connection.resets == []


@pytest.mark.parametrize(("deadline", "age"), [(1.0, 0.29), (2.0, 0.59), (5.0, 1.49), (60.0, 56.4)])
async def test_a_press_with_enough_time_left_to_withdraw_it_is_carried_out(deadline: float, age: float) -> None:
    system = PressSystem(deadline)
    assert (await system.press(age=age)).outcome is Outcome.OK
    assert (await system.press(age=age + 0.12)).outcome is Outcome.EXPIRED


async def test_the_deadline_starts_with_the_request(system: PressSystem) -> None:
    connection = system.connect_silent()
    pressing = asyncio.get_running_loop().create_task(system.press(age=1.0))
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE - 1
    reply = await pressing
    assert reply.outcome is Outcome.TIMEOUT
    assert reply.duration_ms == 4000.0


async def test_a_refusal_carries_the_terminals_message(system: PressSystem) -> None:
    system.registry.connected(
        RecordingConnection(system.registry, "T1", lambda msgid: TerminalReply(msgid, None, 3, "busy"))
    )
    reply = await system.press()
    assert (reply.outcome, reply.status, reply.message) == (Outcome.REFUSED, 3, "busy")


async def test_a_press_on_an_offline_terminal_is_not_kept(system: PressSystem) -> None:
    reply = await system.press("T2")
    assert (reply.outcome, reply.delivered) == (Outcome.OFFLINE, False)
    later = RecordingConnection(system.registry, "T2")
    system.registry.connected(later)
    await asyncio.sleep(0)
    assert later.frames == []


async def test_the_reply_for_an_unknown_terminal_names_it(system: PressSystem) -> None:
    reply = await system.press("T9")
    assert reply.outcome is Outcome.INVALID
    assert reply.faults[0].path == "sn"
    assert "T9" in reply.faults[0].message


@pytest.mark.parametrize(("delivered", "message"), [(False, "withdrawn"), (None, "may have been carried out")])
async def test_a_press_that_is_not_acknowledged_by_the_deadline_is_discarded(
    system: PressSystem, delivered: bool | None, message: str
) -> None:
    connection = system.connect_silent()
    connection.is_delivered = delivered
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, delivered)
    assert message in (reply.message or "")
    assert len(connection.resets) == 1


async def test_a_press_waits_in_the_core_until_the_buffers_of_its_connection_are_clear(system: PressSystem) -> None:
    system.connection.is_clear = False
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until_time_passes(lambda: system.connection.reservations)
    assert system.connection.frames == []
    system.connection.is_clear = True
    assert (await pressing).outcome is Outcome.OK
    assert system.connection.reservations == 0


async def test_a_press_whose_buffers_become_clear_too_late_is_not_written(system: PressSystem) -> None:
    system.connection.is_clear = False
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until_time_passes(lambda: system.connection.reservations)
    # The bridge is frozen for a while; meanwhile the kernel empties the buffers.
    system.connection.is_clear = True
    system.clock.seconds += 1.6
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, False)
    assert system.connection.frames == []
    assert system.connection.resets == [], "the connection is not touched"
    assert system.connection.reservations == 0


async def test_presses_that_wait_are_written_in_order(system: PressSystem) -> None:
    system.connection.is_clear = False
    loop = asyncio.get_running_loop()
    pressing = [loop.create_task(system.press()) for _ in range(5)]
    await until_time_passes(lambda: system.connection.reservations)
    system.connection.is_clear = True
    last = loop.create_task(system.press())
    replies = await asyncio.gather(*pressing, last)
    assert [reply.outcome for reply in replies] == [Outcome.OK] * 6
    assert [decode_request(frame).msgid for frame in system.connection.frames] == [reply.msgid for reply in replies]


async def test_a_press_that_waits_is_lost_with_its_connection(system: PressSystem) -> None:
    system.connection.is_clear = False
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until_time_passes(lambda: system.connection.reservations)
    system.connection.is_clear = system.connection.broken = True
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.LOST, False)


async def test_after_an_unanswered_press_none_is_sent_until_the_terminal_sends_something(system: PressSystem) -> None:
    connection = system.connect_silent()
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE
    assert (await pressing).outcome is Outcome.TIMEOUT
    reply = await system.press()
    assert (reply.outcome, reply.delivered) == (Outcome.UNAVAILABLE, False)
    assert "did not answer" in (reply.message or "")
    assert len(connection.frames) == 1
    connection.responsive = True
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: len(connection.frames) == 2)
    system.registry.disconnected(connection, "gone")
    await pressing
    system.registry.connected(RecordingConnection(system.registry, "T1"))
    assert (await system.press()).outcome is Outcome.OK


async def test_it_is_withdrawn_early_and_the_reply_waits_until_no_copy_is_left(system: PressSystem) -> None:
    connection = system.connect_silent()
    connection.is_delivered = False
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE - 3
    await asyncio.wait((pressing,), timeout=1)
    assert len(connection.resets) == 1
    assert not pressing.done()
    system.clock.seconds += 3
    assert (await pressing).outcome is Outcome.TIMEOUT


async def test_presses_on_a_connection_that_is_reset_end_once_each(system: PressSystem) -> None:
    published = collect(system.events, CommandReplied)
    connection = system.connect_silent()
    connection.is_delivered = None
    pressing = [system.presses.press("T1", Open(), ORIGIN, system.clock.seconds) for _ in range(3)]
    system.clock.seconds += DEADLINE
    replies = await asyncio.gather(*pressing)
    assert [reply.outcome for reply in replies] == [Outcome.TIMEOUT, Outcome.LOST, Outcome.LOST]
    assert len(connection.resets) == 1
    assert len(published) == 3
    system.registry.connected(RecordingConnection(system.registry, "T1"))
    assert (await system.press()).outcome is Outcome.OK


async def test_a_press_that_fails_in_the_bridge_leaves_nothing_behind(system: PressSystem) -> None:
    def fail(frame: bytes) -> None:
        raise RuntimeError("a defect")

    broken = RecordingConnection(system.registry, "T1")
    broken.send_urgent = fail  # type: ignore[method-assign]
    system.registry.connected(broken)
    for _ in range(MAXIMUM_WAITING + 1):
        with pytest.raises(RuntimeError):
            await system.press()


async def test_a_caller_that_gives_up_does_not_stop_the_press(system: PressSystem) -> None:
    published = collect(system.events, CommandReplied)
    connection = system.connect_silent()
    system.presses.press("T1", Open(), ORIGIN, system.clock.seconds).cancel()
    msgid = decode_request(connection.frames[0]).msgid
    system.registry.received(connection, TerminalReply(msgid, None, 0, "ok"))
    assert [event.reply.outcome for event in published if isinstance(event, CommandReplied)] == [Outcome.OK]


async def test_an_acknowledged_press_keeps_its_connection(system: PressSystem) -> None:
    connection = system.connect_silent()
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.clock.seconds += DEADLINE
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, True)
    assert connection.resets == []


@pytest.mark.parametrize("acknowledged", [True, False, None])
async def test_a_broken_connection_is_replied_at_once(system: PressSystem, acknowledged: bool | None) -> None:
    connection = system.connect_silent()
    connection.is_delivered = acknowledged
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: connection.frames)
    system.registry.disconnected(connection, "gone")
    reply = await pressing
    assert (reply.outcome, reply.delivered) == (Outcome.LOST, acknowledged)


async def test_a_connection_that_has_just_ended_sends_nothing(system: PressSystem) -> None:
    system.connection.broken = True
    reply = await system.press()
    assert (reply.outcome, reply.delivered) == (Outcome.LOST, False)


async def test_a_new_connection_does_not_inherit_a_press(system: PressSystem) -> None:
    old = system.connect_silent()
    pressing = asyncio.get_running_loop().create_task(system.press())
    await until(lambda: old.frames)
    new = system.connect_silent()
    reply = await pressing
    assert reply.outcome is Outcome.LOST
    assert old.resets == ["replaced by a newer connection"]
    assert new.frames == []


async def test_a_second_answer_changes_nothing(system: PressSystem) -> None:
    unknown = collect(system.events, UnknownReply)
    reply = await system.press()
    system.registry.received(system.connection, TerminalReply("m1", None, 7, "again"))
    assert reply.outcome is Outcome.OK
    assert len(unknown) == 1


async def test_a_flood_of_presses_is_rejected(system: PressSystem) -> None:
    connection = system.connect_silent()
    loop = asyncio.get_running_loop()
    pressing = [loop.create_task(system.press()) for _ in range(MAXIMUM_WAITING)]
    await until(lambda: len(connection.frames) == MAXIMUM_WAITING)
    reply = await system.press()
    assert (reply.outcome, reply.delivered) == (Outcome.UNAVAILABLE, False)
    system.registry.disconnected(connection, "gone")
    await asyncio.gather(*pressing)
    system.registry.connected(RecordingConnection(system.registry, "T1"))
    assert (await system.press()).outcome is Outcome.OK


async def test_a_group_has_a_summary_and_only_this_goes_to_the_response_topic(system: PressSystem) -> None:
    published = collect(system.events, CommandReplied, GroupReplied)
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
    members = [event for event in published if isinstance(event, CommandReplied)]
    assert {event.reply.sn for event in members} == {"T1", "T2"}
    assert all(event.origin.response_topic is None for event in members)
    assert [event.origin for event in published if isinstance(event, GroupReplied)] == [ORIGIN]


async def test_each_press_of_a_large_group_is_checked_right_before_it_is_written(system: PressSystem) -> None:
    """Writing to many terminals takes time."""

    def answer_slowly(msgid: str) -> TerminalReply:
        system.clock.seconds += 0.6
        return TerminalReply(msgid, None, 0, "ok")

    connections = []
    for number in range(5):
        system.registry.put(known_terminal(f"G{number}", groups=("large",)))
        connections.append(RecordingConnection(system.registry, f"G{number}", answer_slowly))
        system.registry.connected(connections[-1])
    summary = await system.presses.press_group("large", Open(), ORIGIN, system.clock.seconds)
    assert summary.as_json()["outcomes"] == {"ok": 3, "expired": 2}
    assert [len(connection.frames) for connection in connections] == [1, 1, 1, 0, 0]


async def test_an_unknown_or_empty_group_is_invalid(system: PressSystem) -> None:
    reply = await system.presses.press_group("cellar", Open(), ORIGIN, system.clock.seconds)
    assert isinstance(reply, Reply)
    assert (reply.outcome, reply.group, reply.sn) == (Outcome.INVALID, "cellar", None)


async def test_the_group_all_contains_every_known_terminal(system: PressSystem) -> None:
    summary = await system.presses.press_group("all", Open(), ORIGIN, system.clock.seconds)
    assert isinstance(summary, GroupSummary)
    assert summary.total == 2


def test_message_ids_are_random_uuids() -> None:
    ids = [UUID(new_msgid()) for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert {(one.version, one.variant) for one in ids} == {(4, RFC_4122)}
    msgid = new_msgid()
    assert str(UUID(msgid)) == msgid
