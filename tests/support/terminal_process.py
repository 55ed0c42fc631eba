"""A simulated terminal as a process of its own: `python -m tests.support.terminal_process URL SN`.

Unlike `facebridge simulate` it pings often, so that it soon notices that its connection is dead. At SIGTERM it prints
`opened N` and exits.
"""

import asyncio
import signal
import sys

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal

_PING_SECONDS = 3.0
"""The terminal connects anew after three intervals without a frame.

That must take longer than the test's deadline for presses: the connection has to survive until the bridge gives the
press up.
"""


async def _main(url: str, sn: str) -> None:
    options = ConnectionOptions(ping_seconds=_PING_SECONDS, first_retry_seconds=0.05, max_retry_seconds=0.3)
    terminal = SimulatedTerminal(url, sn, options=options)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with terminal.running():
        await stop.wait()
    print(f"opened {terminal.opened}")


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
