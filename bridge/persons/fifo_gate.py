"""Lets calls take effect in the order they were made, whatever each has to do first."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager


class FifoGate:
    """A queue in which each takes its place at once and may work until it is called."""

    def __init__(self) -> None:
        self._last: asyncio.Future[None] | None = None

    @contextmanager
    def place(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """Take the next place, kept until the block ends; gives what waits until everyone before has ended."""
        before = self._last
        mine = self._last = asyncio.get_running_loop().create_future()

        async def turn() -> None:
            if before is not None:
                # Not awaited itself: being cancelled here must not cancel the place of another.
                await asyncio.wait((before,))

        try:
            yield turn
        finally:
            if before is None or before.done():
                mine.set_result(None)
            else:
                before.add_done_callback(lambda _: mine.set_result(None))
