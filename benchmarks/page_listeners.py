"""Open pages for `benchmarks.page`, in a process of their own, so that their work is not the server's.

    python -m benchmarks.page_listeners URL PAGES

Prints `ready` when all of them listen, and runs until it is killed.
"""

import asyncio
import sys

import aiohttp

from bridge.core.clock import Clock

CLOCK = Clock()

REFRESH_SECONDS = 0.7
"""The page waits as long between two refreshes."""


async def listen(url: str, barrier: asyncio.Barrier) -> None:
    """Do what an open page does: read the stream of events, and fetch the list of terminals after changes."""
    headers = {"HX-Request": "true", "X-Page-Root": "./", "Accept": "text/html"}
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=None)) as session:
        stream = "/api/events?types=bridge,terminal,terminal_removed,event&snapshot=bridge&terminals=T1,T2"
        async with session.get(stream) as events:
            await barrier.wait()
            refresh_at = 0.0
            async for line in events.content:
                if line.startswith(b"event: ") and b"heartbeat" not in line and CLOCK.boottime() >= refresh_at:
                    refresh_at = CLOCK.boottime() + REFRESH_SECONDS
                    async with session.get("/?q=T", headers=headers) as part:
                        await part.read()
                        headers["If-None-Match"] = part.headers["ETag"]


async def run(url: str, pages: int) -> None:
    """Keep pages open."""
    barrier = asyncio.Barrier(pages + 1)
    async with asyncio.TaskGroup() as group:
        for _ in range(pages):
            group.create_task(listen(url, barrier))
        await barrier.wait()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
