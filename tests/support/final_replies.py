"""What the bridge told of each change: who is still owed a last word."""

import asyncio
from collections import Counter

import orjson

from tests.support.person_stream import Change

_LAST = frozenset(("ok", "refused", "superseded"))
"""Outcomes after which nothing more is owed (CONTRACT, section 1)."""


class LastWords:
    """Fills with the replies a listener hears.

    Attributes:
        owed: by request id the terminals and persons (None: everyone) of which no last word was heard.
        outcomes: how many replies were of which outcome.
    """

    def __init__(self) -> None:
        self.owed: dict[str, set[tuple[str, str | None]]] = {}
        self.outcomes: Counter[str] = Counter()
        self._more = asyncio.Event()

    def expect(self, change: Change) -> None:
        """Note that a change is about to be asked for."""
        self.owed[change.request_id] = set(change.concerns)

    def heard(self, _topic: str, payload: bytes) -> None:
        """Take a reply."""
        reply = orjson.loads(payload)
        self.outcomes[reply["outcome"]] += 1
        owed = self.owed.get(reply["request_id"])
        if owed is not None and reply["outcome"] in _LAST:
            owed.discard((reply["sn"], reply["person_id"]))
            if not owed:
                del self.owed[reply["request_id"]]
        self._more.set()

    @property
    def replies(self) -> int:
        """How many came in all."""
        return self.outcomes.total()

    async def wait_more(self) -> None:
        """Wait for one more reply."""
        self._more.clear()
        await self._more.wait()

    async def wait_nothing_owed(self) -> None:
        """Wait until everybody has had the last word."""
        while self.owed:
            await self.wait_more()
