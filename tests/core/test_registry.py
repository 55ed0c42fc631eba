"""Connections come, go and take each other's place."""

import logging

import pytest

from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.events import TerminalConnected, TerminalDisconnected, UnknownReply
from bridge.protocol.replies import TerminalReply
from tests.support.core import ManualClock, RecordingConnection, collect, known_terminal


def registry_of(*sns: str) -> tuple[TerminalRegistry, EventBus]:
    events = EventBus()
    registry = TerminalRegistry(events, ManualClock())
    for sn in sns:
        registry.put(known_terminal(sn, groups=("lobby",)))
    return registry, events


def test_a_connection_is_announced_and_let_go() -> None:
    registry, events = registry_of("T1")
    told = collect(events, TerminalConnected, TerminalDisconnected)
    connection = RecordingConnection(registry, "T1")
    registry.connected(connection)
    registry.disconnected(connection, "gone")
    registry.disconnected(connection, "gone again")
    assert [type(event) for event in told] == [TerminalConnected, TerminalDisconnected]
    known = registry.get("T1")
    assert known is not None
    assert known.connection is None
    assert known.last_seen == connection.last_seen


def test_a_second_connection_takes_over_without_a_disconnection() -> None:
    registry, events = registry_of("T1")
    told = collect(events, TerminalConnected, TerminalDisconnected)
    old, new = RecordingConnection(registry, "T1"), RecordingConnection(registry, "T1")
    registry.connected(old)
    registry.connected(new)
    registry.disconnected(old, "its socket noticed late")
    assert [event.replaced for event in told if isinstance(event, TerminalConnected)] == [False, True]
    assert not [event for event in told if isinstance(event, TerminalDisconnected)]
    known = registry.get("T1")
    assert known is not None
    assert known.connection is new


def test_a_reply_may_come_in_on_a_later_connection_where_its_waiter_says_so() -> None:
    registry, _ = registry_of("T1")
    old, new = RecordingConnection(registry, "T1"), RecordingConnection(registry, "T1")
    registry.connected(old)
    known = registry.get("T1")
    assert known is not None
    replies: list[TerminalReply] = []
    known.expect("m1", old, replies.append)
    registry.connected(new)
    registry.received(new, TerminalReply("m1", None, 0, "ok"))
    registry.received(new, TerminalReply("m1", None, 0, "ok"))
    assert [reply.msgid for reply in replies] == ["m1"]


def test_what_is_no_longer_expected_is_not_handed_on() -> None:
    registry, _ = registry_of("T1")
    connection = RecordingConnection(registry, "T1")
    registry.connected(connection)
    known = registry.get("T1")
    assert known is not None
    replies: list[TerminalReply] = []
    undo = known.expect("m1", connection, replies.append)
    undo()
    undo()
    registry.received(connection, TerminalReply("m1", None, 0, "ok"))
    assert replies == []


def test_what_is_known_of_a_terminal_changes_under_its_connection() -> None:
    registry, _ = registry_of("T1", "T2")
    connection = RecordingConnection(registry, "T1")
    registry.connected(connection)
    registry.put(known_terminal("T1", groups=("cellar",)))
    known = registry.get("T1")
    assert known is not None
    assert known.connection is connection
    assert [member.terminal.sn for member in registry.members("lobby")] == ["T2"]
    assert [member.terminal.sn for member in registry.members("all")] == ["T1", "T2"]


def test_a_flood_of_unknown_replies_is_counted_and_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    registry, events = registry_of("T1")
    counted = collect(events, UnknownReply)
    connection = RecordingConnection(registry, "T1")
    registry.connected(connection)
    for number in range(100):
        registry.received(connection, TerminalReply(f"x{number}", None, 0, "ok"))
    assert len(counted) == 100
    assert caplog.text.count("no command waits for") == 10
    registry.connected(RecordingConnection(registry, "T1"))
    registry.received(connection, TerminalReply("x", None, 0, "ok"))
    assert caplog.text.count("no command waits for") == 11
