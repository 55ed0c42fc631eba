"""Warnings about the bridge change while it runs."""

from bridge.core.bridge_warnings import BridgeWarnings
from bridge.core.event_bus import EventBus
from bridge.model.events import WarningsChanged
from tests.support.core import ManualClock, collect


def test_a_warning_is_added_replaced_and_removed() -> None:
    events = EventBus()
    changes = collect(events, WarningsChanged)
    warnings = BridgeWarnings(events, ManualClock())
    warnings.set("broker", "embedded")
    warnings.set("store", "1 photo")
    warnings.set("store", "2 photos")
    assert list(warnings.texts) == ["embedded", "2 photos"]
    assert len(changes) == 3
    warnings.set("store", "2 photos")
    warnings.set("other", None)
    assert len(changes) == 3
    warnings.set("store", None)
    assert list(warnings.texts) == ["embedded"]
    assert len(changes) == 4
