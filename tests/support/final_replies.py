"""Track which changes still lack their final reply."""

import asyncio
from collections import Counter

import orjson

from tests.support.person_stream import Change

_FINAL = frozenset(("ok", "refused", "superseded"))
"""The outcomes of final replies (docs/mqtt.md)."""


class FinalReplyTracker:
    """Compares the replies that a client receives with the expected ones.

    Attributes:
        missing: by request id, the terminals and persons (None: everyone) without a final reply.
        outcomes: the number of replies by outcome.
    """

    def __init__(self) -> None:
        self.missing: dict[str, set[tuple[str, str | None]]] = {}
        self.outcomes: Counter[str] = Counter()
        self._more = asyncio.Event()

    def expect(self, change: Change) -> None:
        """Expect the final replies to a change that is about to be published."""
        self.missing[change.request_id] = set(change.concerns)

    def received(self, _topic: str, payload: bytes) -> None:
        """Handle a reply."""
        reply = orjson.loads(payload)
        self.outcomes[reply["outcome"]] += 1
        missing = self.missing.get(reply["request_id"])
        if missing is not None and reply["outcome"] in _FINAL:
            missing.discard((reply["sn"], reply["person_id"]))
            if not missing:
                del self.missing[reply["request_id"]]
        self._more.set()

    @property
    def replies(self) -> int:
        """The number of all replies."""
        return self.outcomes.total()

    async def wait_more(self) -> None:
        """Wait for one more reply."""
        self._more.clear()
        await self._more.wait()

    async def wait_complete(self) -> None:
        """Wait until no final reply is missing."""
        while self.missing:
            await self.wait_more()
