"""The terminal store as a dict, which can be full."""

from collections.abc import Sequence

from bridge.model.faults import UnavailableError
from bridge.model.terminal import Terminal


class InMemoryTerminals:
    def __init__(self) -> None:
        self.terminals: dict[str, Terminal] = {}
        self.full = False

    async def load(self) -> Sequence[Terminal]:
        return list(self.terminals.values())

    async def save(self, terminal: Terminal) -> None:
        if self.full:
            raise UnavailableError("the store is full")
        self.terminals[terminal.sn] = terminal

    async def delete(self, sn: str) -> None:
        if self.full:
            raise UnavailableError("the store is full")
        self.terminals.pop(sn, None)
