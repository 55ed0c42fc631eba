"""A line for costly work, done one piece at a time, that nobody can make long for others."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


class FullError(Exception):
    """Too much waits already, or was asked by the same one."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[_T]):
    begin: Callable[[], asyncio.Future[_T]]
    done: asyncio.Future[_T]


class FairQueue(Generic[_T]):
    """Work that waits, its askers served in turn: whoever asks for a lot waits for a lot.

    Where too much waits, whoever has the most waiting makes room.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._waiting: OrderedDict[str, deque[_Waiting[_T]]] = OrderedDict()
        self._length = 0
        self._busy = False

    def __len__(self) -> int:
        return self._length

    def wait(self, asker: str, begin: Callable[[], asyncio.Future[_T]]) -> asyncio.Future[_T]:
        """Have work begun when its turn has come.

        Args:
            asker: who asks.
            begin: begins it.

        Returns:
            Its result; a FullError where there was no room for it, or others needed the room.
        """
        waiting = _Waiting(begin, asyncio.get_running_loop().create_future())
        if self._length >= self._maximum and not self._make_room(asker):
            waiting.done.set_exception(FullError())
            return waiting.done
        self._waiting.setdefault(asker, deque()).append(waiting)
        self._length += 1
        self._go_on()
        return waiting.done

    def close(self) -> None:
        """Cancel what waits."""
        for waiting in [one for line in self._waiting.values() for one in line]:
            waiting.done.cancel()
        self._waiting.clear()
        self._length = 0

    def _make_room(self, asker: str) -> bool:
        longest = max(self._waiting, key=lambda one: len(self._waiting[one]))
        if len(self._waiting[longest]) <= len(self._waiting.get(asker, ())) + 1:
            return False
        self._take(longest, last=True).done.set_exception(FullError())
        return True

    def _go_on(self) -> None:
        if self._busy or not self._waiting:
            return
        asker = next(iter(self._waiting))
        waiting = self._take(asker)
        if asker in self._waiting:
            self._waiting.move_to_end(asker)
        self._busy = True

        def ended(work: asyncio.Future[_T]) -> None:
            self._busy = False
            if not waiting.done.done():
                if work.cancelled():
                    waiting.done.cancel()
                elif (error := work.exception()) is not None:
                    waiting.done.set_exception(error)
                else:
                    waiting.done.set_result(work.result())
            self._go_on()

        waiting.begin().add_done_callback(ended)

    def _take(self, asker: str, *, last: bool = False) -> _Waiting[_T]:
        line = self._waiting[asker]
        waiting = line.pop() if last else line.popleft()
        if not line:
            del self._waiting[asker]
        self._length -= 1
        return waiting
