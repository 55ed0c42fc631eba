"""Waiting for what no event tells from outside."""

import asyncio
from collections.abc import Callable

PATIENCE = 20.0
"""Seconds after which something that takes milliseconds is not going to happen."""


async def until(condition: Callable[[], object]) -> None:
    """Look again and again until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
