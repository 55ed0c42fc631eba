"""The order of changes: per terminal the order of the calls; different terminals do not wait for each other."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager


class FifoGate:
    """A first-in-first-out queue for each terminal."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Reservation]] = {}

    def is_reserved(self, sns: Iterable[str]) -> bool:
        """Return whether there is a place in the queue of one of these terminals."""
        return not self._queues.keys().isdisjoint(sns)

    @contextmanager
    def place(self, sns: Iterable[str]) -> Iterator["Reservation"]:
        """Take a place in the queues of these terminals now, and give it up at the end of the body."""
        place = Reservation(frozenset(sns))
        for sn in place.sns:
            queue = self._queues.setdefault(sn, deque())
            place.behind += bool(queue)
            queue.append(place)
        try:
            yield place
        finally:
            self._leave(place)

    @asynccontextmanager
    async def reserve(self, sns: Iterable[str]) -> AsyncIterator[None]:
        """Take a place in the queues of these terminals now; enter the body when it is the first in all of them.

        The place is given up at the end of the body, or if the caller is cancelled while it waits.
        """
        with self.place(sns) as place:
            await place.wait()
            yield

    def _leave(self, place: "Reservation") -> None:
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


class Reservation:
    """A place in several queues, from its reservation until it is left.

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

    async def wait(self) -> None:
        """Wait until this place is the first in all of its queues."""
        if self.behind:
            await self.turn.wait()
