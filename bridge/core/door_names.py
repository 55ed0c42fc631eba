"""The names of doors in the log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.core.registry import TerminalRegistry


class _DoorNames(logging.Filter):
    """Adds the attribute `door` to records that have the serial number of a terminal with a name."""

    def __init__(self, registry: TerminalRegistry) -> None:
        super().__init__()
        self._registry = registry

    def filter(self, record: logging.LogRecord) -> bool:
        sn = record.__dict__.get("sn")
        known = self._registry.get(sn) if sn is not None else None
        if known is not None and known.terminal.name:
            record.door = known.terminal.name
        return True


@contextmanager
def named_doors(registry: TerminalRegistry) -> Iterator[None]:
    """Let the log name the door of each terminal during the block.

    Many parts of the bridge know only the serial number of the terminal that a line is about.
    """
    names = _DoorNames(registry)
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(names)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(names)
