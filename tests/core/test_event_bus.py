"""One subscriber's failure is its own."""

import logging

import pytest

from bridge.core.event_bus import EventBus
from bridge.model.events import PendingChanged, TerminalForgotten
from tests.support.core import ManualClock


def test_subscribers_hear_their_type_only_and_in_order() -> None:
    events = EventBus()
    heard: list[str] = []
    events.subscribe(PendingChanged, lambda _: heard.append("first"), name="first")
    undo = events.subscribe(PendingChanged, lambda _: heard.append("second"), name="second")
    events.subscribe(TerminalForgotten, lambda _: heard.append("other"), name="other")
    events.publish(PendingChanged(at=ManualClock().now()))
    undo()
    undo()
    events.publish(PendingChanged(at=ManualClock().now()))
    assert heard == ["first", "second", "first"]


def test_one_that_fails_is_named_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    events = EventBus()
    heard: list[object] = []

    def fail(_: PendingChanged) -> None:
        raise ValueError("broken on purpose")

    events.subscribe(PendingChanged, fail, name="the broken one")
    events.subscribe(PendingChanged, heard.append, name="the other")
    with caplog.at_level(logging.ERROR):
        events.publish(PendingChanged(at=ManualClock().now()))
    assert len(heard) == 1
    assert "the broken one failed on PendingChanged" in caplog.text
