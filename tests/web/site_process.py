"""The HTTP server in a process of its own, which can be stopped where it is: `python -m tests.web.site_process`.

It runs on the bridge's event loop, and writes its port on a line and, once its input ends, how many presses reached
the terminal.
"""

import asyncio
import sys

import uvloop

from tests.support.web import Site

DEADLINE = 1.5


async def main() -> None:
    site = Site(deadline=DEADLINE)
    async with site.open():
        print(site.server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(len(site.connection.frames), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
