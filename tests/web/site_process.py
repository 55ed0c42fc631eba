"""The HTTP server in a separate process, which a test can stop with SIGSTOP: `python -m tests.web.site_process`.

It runs on the bridge's event loop. It prints its port and, once its standard input ends, the number of presses that
reached the terminal.
"""

import asyncio
import sys

import uvloop

from tests.support.web import WebServerUnderTest

DEADLINE_SECONDS = 1.5


async def main() -> None:
    site = WebServerUnderTest(deadline=DEADLINE_SECONDS)
    async with site.open():
        print(site.server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(len(site.connection.frames), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
