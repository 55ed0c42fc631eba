"""The order of changes: per terminal the order of the calls; different terminals do not wait for each other."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager


class FifoGate:
    """A first-in-first-out queue for each terminal."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[_Place]] = {}

    def is_reserved(self, sns: Iterable[str]) -> bool:
        """Return whether there is a place in the queue of one of these terminals."""
        return not self._queues.keys().isdisjoint(sns)

    @asynccontextmanager
    async def reserve(self, sns: Iterable[str]) -> AsyncIterator[None]:
        """Take a place in the queues of these terminals now; enter the body when it is the first in all of them.

        The place is given up at the end of the body, or if the caller is cancelled while it waits.
        """
        place = _Place(frozenset(sns))
        for sn in place.sns:
            queue = self._queues.setdefault(sn, deque())
            place.behind += bool(queue)
            queue.append(place)
        try:
            if place.behind:
                await place.turn.wait()
            yield
        finally:
            self._leave(place)

    def _leave(self, place: "_Place") -> None:
        for sn in place.sns:
            queue = self._queues[sn]
            was_first = queue[0] is place
            queue.remove(place)
            if not queue:
                del self._queues[sn]
            elif was_first:
                queue[0].behind -= 1
                if queue[0].behind == 0:
                    queue[0].turn.set()


class _Place:
    """A place in several queues.

    Attributes:
        sns: the terminals of the queues.
        behind: the number of queues in which another place comes first.
        turn: set when there is none any more.
    """

    __slots__ = ("behind", "sns", "turn")

    def __init__(self, sns: frozenset[str]) -> None:
        self.sns = sns
        self.behind = 0
        self.turn = asyncio.Event()
