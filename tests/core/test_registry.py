"""The registry: connections, their replacement, and the replies to frames."""

import logging

import pytest

from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.events import TerminalConnected, TerminalDisconnected, TerminalReplaced, UnknownReply
from bridge.protocol.replies import TerminalReply
from tests.support.core import ManualClock, RecordingConnection, collect, known_terminal


def registry_of(*sns: str) -> tuple[TerminalRegistry, EventBus]:
    events = EventBus()
    registry = TerminalRegistry(events, ManualClock())
    for sn in sns:
        registry.put(known_terminal(sn, groups=("lobby",)))
    return registry, events


def test_a_connection_and_its_end_are_published_once() -> None:
    registry, events = registry_of("T1")
    published = collect(events, TerminalConnected, TerminalDisconnected)
    connection = RecordingConnection(registry, "T1")
    registry.connected(connection)
    registry.disconnected(connection, "gone")
    registry.disconnected(connection, "gone again")
    assert [type(event) for event in published] == [TerminalConnected, TerminalDisconnected]
    known = registry.get("T1")
    assert known is not None
    assert known.connection is None
    assert known.last_seen == connection.last_seen


def test_a_second_connection_replaces_the_first_without_a_disconnection() -> None:
    registry, events = registry_of("T1")
    published = collect(events, TerminalConnected, TerminalDisconnected)
    old, new = RecordingConnection(registry, "T1"), RecordingConnection(registry, "T1")
    registry.connected(old)
    registry.connected(new)
    registry.disconnected(old, "its socket reports the end late")
    assert [event.replaced for event in published if isinstance(event, TerminalConnected)] == [False, True]
    assert not [event for event in published if isinstance(event, TerminalDisconnected)]
    known = registry.get("T1")
    assert known is not None
    assert known.connection is new


def test_a_takeover_is_published_with_both_addresses() -> None:
    registry, events = registry_of("T1")
    published = collect(events, TerminalReplaced)
    registry.connected(RecordingConnection(registry, "T1", address="192.0.2.1"))
    registry.connected(RecordingConnection(registry, "T1", address="192.0.2.66"))
    (event,) = published
    assert isinstance(event, TerminalReplaced)
    assert (event.sn, event.address, event.previous_address) == ("T1", "192.0.2.66", "192.0.2.1")


def test_a_terminal_that_is_taken_over_again_and_again_is_warned_about_once_an_hour(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    registry = TerminalRegistry(EventBus(), clock)
    registry.put(known_terminal("T1"))

    def take_over(times: int, seconds: float) -> int:
        caplog.clear()
        for number in range(times):
            clock.seconds += seconds
            registry.connected(RecordingConnection(registry, "T1", address=f"192.0.2.{number % 2}"))
        return sum("replace each other" in record.getMessage() for record in caplog.records)

    assert take_over(20, 400) == 0, "slowly: reconnects of one terminal"
    assert take_over(30, 10) == 1
    assert "192.0.2.0 and 192.0.2.1" in caplog.text or "192.0.2.1 and 192.0.2.0" in caplog.text
    assert take_over(30, 10) == 0
    clock.seconds += 3600
    assert take_over(30, 10) == 1


def test_a_reply_may_arrive_on_a_later_connection_if_the_caller_allows_it() -> None:
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


def test_a_reply_that_is_no_longer_expected_is_ignored() -> None:
    registry, _ = registry_of("T1")
    connection = RecordingConnection(registry, "T1")
    registry.connected(connection)
    known = registry.get("T1")
    assert known is not None
    replies: list[TerminalReply] = []
    cancel = known.expect("m1", connection, replies.append)
    cancel()
    cancel()
    registry.received(connection, TerminalReply("m1", None, 0, "ok"))
    assert replies == []


def test_a_changed_terminal_keeps_its_connection() -> None:
    registry, _ = registry_of("T1", "T2")
    connection = RecordingConnection(registry, "T1")
    registry.connected(connection)
    registry.put(known_terminal("T1", groups=("cellar",)))
    known = registry.get("T1")
    assert known is not None
    assert known.connection is connection
    assert [member.terminal.sn for member in registry.members("lobby")] == ["T2"]
    assert [member.terminal.sn for member in registry.members("all")] == ["T1", "T2"]


def test_a_flood_of_unknown_replies_is_counted_and_rarely_logged(caplog: pytest.LogCaptureFixture) -> None:
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
