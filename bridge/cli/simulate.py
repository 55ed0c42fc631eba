"""`facebridge simulate`: simulated terminals against a bridge, with what happens on the screen."""

import asyncio
import signal
from collections.abc import Mapping
from contextlib import suppress

from rich.console import Console

from bridge.simulator.behaviour import Behaviour, Drop, Garbage, Refusal
from bridge.simulator.fleet import SimulatedFleet, simulated_sn

BEHAVIOURS: Mapping[str, Behaviour] = {
    "good": Behaviour(),
    "slow": Behaviour(answer_delay=10),
    "silent": Behaviour(silent=True),
    "refusing": Behaviour(refusal=Refusal(1, "refused by the simulation")),
    "garbage": Behaviour(garbage=Garbage.NOT_JSON),
    "dropping": Behaviour(drop=Drop.ABORT),
}
"""What `--behaviour` can be."""

_REPORT = 2.0
"""Seconds between looks; a line is printed only where something has changed."""


async def run_simulation(url: str, *, count: int, sn: str | None, behaviour: str) -> int:
    """Run simulated terminals until SIGINT or SIGTERM; return the exit code.

    Args:
        url: the bridge's door, credentials included.
        count: how many.
        sn: of a single one, or what a number is put behind; None for the simulator's own.
        behaviour: a key of `BEHAVIOURS`.
    """
    console = Console(stderr=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    manners = BEHAVIOURS[behaviour]
    fleet = SimulatedFleet(url, names(count, sn), behaviour=manners)
    console.print(f"{count} simulated terminal{'s' if count > 1 else ''}, {behaviour}; Ctrl-C ends")
    async with fleet.running():
        before = ""
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT if before else 0):
                    await stop.wait()
            now = fleet.statistics()
            line = (
                f"connected {now.connected}/{now.terminals}, refused {now.refused}, "
                f"opened {now.opened}, rebooted {now.rebooted}, persons {now.persons}"
            )
            if line != before:
                console.print(line)
            before = line
    return 0


def names(count: int, sn: str | None) -> list[str]:
    """Return the serial numbers of a simulation."""
    if sn is None:
        return [simulated_sn(number) for number in range(1, count + 1)]
    return [sn] if count == 1 else [f"{sn}{number}" for number in range(1, count + 1)]
