"""The terminal store as a dict, which can be full."""

from collections.abc import Sequence

from bridge.model.faults import UnavailableError
from bridge.model.received_message import AnsweredMessage, ReceivedMessage
from bridge.model.reply import Reply
from bridge.model.terminal import Terminal


class InMemoryTerminals:
    def __init__(self) -> None:
        self.terminals: dict[str, Terminal] = {}
        self.full = False
        self.batches: list[list[str]] = []
        self.answered: list[AnsweredMessage] = []

    async def load(self) -> Sequence[Terminal]:
        return list(self.terminals.values())

    async def save(self, terminal: Terminal, answered: AnsweredMessage | None = None) -> None:
        self._require_space()
        self.terminals[terminal.sn] = terminal
        self._add(answered)

    async def save_all(self, terminals: Sequence[Terminal]) -> None:
        self._require_space()
        self.batches.append([one.sn for one in terminals])
        self.terminals.update((one.sn, one) for one in terminals)

    async def delete(self, sn: str, answered: AnsweredMessage | None = None) -> None:
        self._require_space()
        self.terminals.pop(sn, None)
        self._add(answered)

    async def reply_to(self, message: ReceivedMessage) -> Reply | None:
        known = [one.reply for one in self.answered if one.message.digest == message.digest]
        return known[-1] if known and message.is_redelivered else None

    async def add_answered(self, answered: AnsweredMessage) -> None:
        self._require_space()
        self._add(answered)

    def _add(self, answered: AnsweredMessage | None) -> None:
        if answered is not None:
            self.answered.append(answered)

    def _require_space(self) -> None:
        if self.full:
            raise UnavailableError("the store is full")
