"""What the bridge told of each change: who is still owed a last word."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import orjson

from tests.support.person_stream import Change

LAST = frozenset(("ok", "refused", "superseded"))
"""Outcomes after which nothing more is owed (CONTRACT, section 1)."""


class LastWords:
    """Fills with the replies a listener hears."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.invalid: list[dict[str, Any]] = []
        self._said: defaultdict[str, set[tuple[str, str | None]]] = defaultdict(set)
        self._accepted: defaultdict[str, set[tuple[str, str | None]]] = defaultdict(set)
        self._more = asyncio.Event()

    def heard(self, _topic: str, payload: bytes) -> None:
        """Take a reply."""
        reply = orjson.loads(payload)
        outcome = reply["outcome"]
        self.outcomes[outcome] += 1
        whom = (reply["sn"], reply["person_id"])
        if outcome in LAST:
            self._said[reply["request_id"]].add(whom)
        elif outcome == "accepted":
            self._accepted[reply["request_id"]].add(whom)
        elif outcome == "invalid":
            self.invalid.append(reply)
        self._more.set()

    @property
    def replies(self) -> int:
        """How many came in all."""
        return self.outcomes.total()

    def accepted(self, change: Change) -> bool:
        """Tell whether all of a change was taken, as far as was heard."""
        return change.concerns <= self._accepted[change.request_id]

    def owed(self, changes: Iterable[Change]) -> list[tuple[Change, str, str | None]]:
        """Return whose last word on which change has not been heard."""
        return [
            (change, sn, person_id)
            for change in changes
            for sn, person_id in change.concerns - self._said[change.request_id]
        ]

    async def wait_more(self) -> None:
        """Wait for one more reply."""
        self._more.clear()
        await self._more.wait()
