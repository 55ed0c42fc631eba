"""Runs a measurement on the event loop that the bridge uses."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(measurement: Coroutine[Any, Any, T]) -> T:
    """Run a measurement and return its result. On SIGTERM and SIGINT, clean up and exit with 1."""
    interrupted = asyncio.Event()

    async def until_done() -> T:
        task = asyncio.get_running_loop().create_task(measurement)

        def end() -> None:
            interrupted.set()
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end)
        return await task

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(until_done())
        except BaseException:
            # An interrupted measurement raises various errors.
            if interrupted.is_set():
                sys.exit(1)
            raise
