"""Waits for conditions that have no event."""

import asyncio
from collections.abc import Callable

TIMEOUT_SECONDS = 20.0
"""Time after which a step that takes milliseconds has failed, also on a machine with a high load."""

_POLL_SECONDS = 0.005


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as a condition is true. Raises TimeoutError."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(_POLL_SECONDS)
