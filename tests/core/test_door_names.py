"""Lines of the log about a terminal name its door."""

import io
import json
import logging

from bridge.cli.logs import JsonFormatter, TextFormatter
from bridge.core.door_names import named_doors
from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.terminal import Terminal, TerminalOrigin
from tests.support.core import ManualClock

LOGGER = logging.getLogger("bridge.doors")


def written(formatter: logging.Formatter, message: str, sn: str, *, inside: bool = True) -> str:
    """Return the line that a bridge with a named and an unnamed terminal writes."""
    registry = TerminalRegistry(EventBus(), ManualClock())
    for one, name in (("T1", "Front door"), ("T2", None)):
        registry.put(Terminal(sn=one, name=name, origin=TerminalOrigin.APPROVED))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with named_doors(registry):
            if inside:
                LOGGER.warning(message, extra={"sn": sn})
        if not inside:
            LOGGER.warning(message, extra={"sn": sn})
    finally:
        root.removeHandler(handler)
    return stream.getvalue().strip().partition("doors: ")[2] or stream.getvalue()


def test_a_line_without_the_door_gets_its_name() -> None:
    assert written(TextFormatter(), "a person cannot be sent", "T1") == (
        "a person cannot be sent  [sn=T1 door=Front door]"
    )
    assert written(TextFormatter(), "delivery to terminal T1 failed", "T1") == (
        "delivery to terminal T1 failed  [door=Front door]"
    )
    assert json.loads(written(JsonFormatter(), "failed", "T1"))["door"] == "Front door"


def test_no_name_is_written_twice() -> None:
    assert written(TextFormatter(), "open on T1 (Front door): ok", "T1") == "open on T1 (Front door): ok"


def test_terminals_without_a_name_and_unknown_ones_have_no_door() -> None:
    assert written(TextFormatter(), "failed", "T2") == "failed  [sn=T2]"
    assert written(TextFormatter(), "failed", "T9") == "failed  [sn=T9]"
    assert "door" not in json.loads(written(JsonFormatter(), "failed", "T2"))


def test_the_names_end_with_the_bridge() -> None:
    assert written(TextFormatter(), "failed", "T1", inside=False) == "failed  [sn=T1]"
