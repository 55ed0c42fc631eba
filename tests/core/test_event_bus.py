"""The event bus: order, types, and failures of subscribers."""

import logging

import pytest

from bridge.core.event_bus import EventBus
from bridge.model.events import PendingChanged, TerminalForgotten
from tests.support.core import ManualClock


def test_subscribers_get_their_type_only_and_in_order() -> None:
    events = EventBus()
    received: list[str] = []
    events.subscribe(PendingChanged, lambda _: received.append("first"), name="first")
    unsubscribe = events.subscribe(PendingChanged, lambda _: received.append("second"), name="second")
    events.subscribe(TerminalForgotten, lambda _: received.append("other"), name="other")
    events.publish(PendingChanged(at=ManualClock().now()))
    unsubscribe()
    unsubscribe()
    events.publish(PendingChanged(at=ManualClock().now()))
    assert received == ["first", "second", "first"]


def test_urgent_subscribers_are_called_before_earlier_ones() -> None:
    events = EventBus()
    received: list[str] = []
    events.subscribe(PendingChanged, lambda _: received.append("audit"), name="audit")
    events.subscribe(PendingChanged, lambda _: received.append("reply"), name="reply", urgent=True)
    events.subscribe(PendingChanged, lambda _: received.append("second reply"), name="second reply", urgent=True)
    events.publish(PendingChanged(at=ManualClock().now()))
    assert received == ["reply", "second reply", "audit"]


def test_a_handler_may_unsubscribe_while_it_is_called() -> None:
    events = EventBus()
    received: list[str] = []

    def once(_: PendingChanged) -> None:
        received.append("once")
        unsubscribe()

    unsubscribe = events.subscribe(PendingChanged, once, name="once")
    events.subscribe(PendingChanged, lambda _: received.append("each time"), name="each time")
    for _ in range(2):
        events.publish(PendingChanged(at=ManualClock().now()))
    assert received == ["once", "each time", "each time"]


def test_a_subscriber_that_fails_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    events = EventBus()
    received: list[object] = []

    def fail(_: PendingChanged) -> None:
        raise ValueError("broken on purpose")

    events.subscribe(PendingChanged, fail, name="the broken one")
    events.subscribe(PendingChanged, received.append, name="the other")
    with caplog.at_level(logging.ERROR):
        events.publish(PendingChanged(at=ManualClock().now()))
    assert len(received) == 1
    assert "the broken one failed on PendingChanged" in caplog.text
