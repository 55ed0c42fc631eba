"""Daemon threads: unlike those of `asyncio.to_thread`, they cannot keep the process from ending.

A database server that stops answering blocks a thread for minutes; the bridge must be able to stop meanwhile.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def run_in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a function in a daemon thread of its own and return its result.

    A caller that is cancelled does not stop the function.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  the caller gets it
            call_on_loop(loop, settle, ended, None, error)
        else:
            call_on_loop(loop, settle, ended, result, None)

    start_thread(run, "store task")
    return await ended


def start_thread(function: Callable[[], None], name: str) -> None:
    """Run a function in a daemon thread."""
    Thread(target=function, name=name, daemon=True).start()


def call_on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    """Call a function on the event loop, unless the loop has been closed: nothing waits for the result then."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *args)


def settle(future: asyncio.Future[_T], result: Any, error: BaseException | None) -> None:
    """Set the result of a future, unless its caller was cancelled."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
