"""`facebridge simulate`: run simulated terminals against a bridge and print what they do."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.console import Console

from bridge.cli.support import program
from bridge.simulator.behaviour import Behaviour, Drop, Garbage, Refusal
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.fleet import SimulatedFleet, simulated_sn

BEHAVIOURS: Mapping[str, Behaviour] = {
    "good": Behaviour(),
    "slow": Behaviour(answer_delay=10),
    "silent": Behaviour(silent=True),
    "refusing": Behaviour(refusal=Refusal(1, "refused by the simulation")),
    "garbage": Behaviour(garbage=Garbage.NOT_JSON),
    "dropping": Behaviour(drop=Drop.ABORT),
    "reporting": Behaviour(pass_seconds=5),
}
"""The choices of `--behaviour`."""

_REPORT_SECONDS = 1.0
"""Time between two reports. A line is printed only if it differs from the previous one."""

_MAX_RETRY_SECONDS = 5.0
"""Longest pause between two attempts to connect: a user who has just approved a terminal waits for it."""


async def run_simulation(url: str, *, count: int, sn: str | None, behaviour: str) -> int:
    """Run simulated terminals until SIGINT or SIGTERM; return the exit code.

    Args:
        url: the address that terminals connect to, with credentials.
        count: the number of terminals.
        sn: the serial number of a single terminal, or the prefix for several; None for the simulator's default.
        behaviour: a key of `BEHAVIOURS`.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    options = ConnectionOptions(max_retry_seconds=_MAX_RETRY_SECONDS)
    fleet = SimulatedFleet(url, names(count, sn), options=options, behaviour=BEHAVIOURS[behaviour])
    terminals, them = ("simulated terminals", "them") if count > 1 else ("simulated terminal", "it")
    console.print(f"{count} {terminals}, behaviour {behaviour}; Ctrl-C stops {them}")
    async with fleet.running():
        before = ""
        known_failures: set[str] = set()
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS if before else 0):
                    await stop.wait()
            failures = fleet.failures()
            for reason in failures.keys() - known_failures:
                console.print(_failure_line(reason, failures[reason]), soft_wrap=True)
            known_failures = set(failures)
            now = fleet.statistics()
            line = (
                f"connected {now.connected}/{now.terminals}, refused {now.refused}, "
                f"opened {now.opened}, rebooted {now.rebooted}, persons {now.persons}"
            )
            if line != before:
                console.print(line)
            before = line
    return 0


def _failure_line(reason: str, sns: Sequence[str]) -> str:
    """Return a line on terminals that cannot connect."""
    more = f" and {len(sns) - 1:,} more" if len(sns) > 1 else ""
    line = f"{sns[0]}{more} cannot connect: {reason}"
    if reason.startswith("403"):
        line += f". On the bridge's machine: {program()} terminals approve {sns[0]}"
    return line


def names(count: int, sn: str | None) -> list[str]:
    """Return the serial numbers of the simulated terminals."""
    if sn is None:
        return [simulated_sn(number) for number in range(1, count + 1)]
    return [sn] if count == 1 else [f"{sn}{number}" for number in range(1, count + 1)]
