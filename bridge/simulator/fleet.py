"""Many simulated terminals in one process, for load tests."""

import asyncio
import random
import resource
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Self

import aiohttp

from bridge.simulator.behaviour import Behaviour
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal

_SPARE_FILES = 100
"""Open files that the process needs besides one for each terminal: event loop, logs, a listening socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatistics:
    """A snapshot of a fleet: the number of terminals, and sums of their `TerminalStatistics`."""

    terminals: int
    connected: int
    attempts: int
    connections: int
    refused: int
    opened: int
    rebooted: int
    persons: int
    requests: int
    unreadable: int
    pongs: int


class SimulatedFleet:
    """Terminals that share one HTTP session and do not all connect at once.

    Args:
        url: as for `SimulatedTerminal`.
        sns: the serial numbers.
        connect_concurrency: the largest number of simultaneous handshakes.
        options: of every connection.
        behaviour: of every terminal at the start.
        randomness: as for `SimulatedTerminal`.
    """

    def __init__(
        self,
        url: str,
        sns: Iterable[str],
        *,
        connect_concurrency: int = 200,
        options: ConnectionOptions | None = None,
        behaviour: Behaviour | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        options = replace(options or ConnectionOptions(), gate=asyncio.Semaphore(connect_concurrency))
        randomness = randomness or random.Random()  # noqa: S311 - jitter, not a secret
        self.terminals = tuple(
            SimulatedTerminal(url, sn, options=options, behaviour=behaviour, randomness=randomness) for sn in sns
        )

    def set_behaviour(self, behaviour: Behaviour) -> None:
        """Give every terminal this behaviour."""
        for terminal in self.terminals:
            terminal.behaviour = behaviour

    def statistics(self) -> FleetStatistics:
        """Return a snapshot."""
        each = [terminal.statistics() for terminal in self.terminals]
        return FleetStatistics(
            terminals=len(each),
            connected=sum(one.connected for one in each),
            attempts=sum(one.attempts for one in each),
            connections=sum(one.connections for one in each),
            refused=sum(one.refused for one in each),
            opened=sum(one.opened for one in each),
            rebooted=sum(one.rebooted for one in each),
            persons=sum(one.persons for one in each),
            requests=sum(one.requests for one in each),
            unreadable=sum(one.unreadable for one in each),
            pongs=sum(one.pongs for one in each),
        )

    def failures(self) -> dict[str, list[str]]:
        """Return why terminals could not connect: by reason, the terminals whose last attempt failed for it."""
        found: dict[str, list[str]] = {}
        for terminal in self.terminals:
            if terminal.failure is not None:
                found.setdefault(terminal.failure, []).append(terminal.sn)
        return found

    async def run(self) -> None:
        """Run until cancelled.

        Raises the process's limit of open files, if that is allowed: the usual 1024 is too low for a fleet.
        """
        _allow_open_files(len(self.terminals) + _SPARE_FILES)
        # No limit of connections, because a WebSocket does not return its connection to the pool.
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as group,
        ):
            for terminal in self.terminals:
                group.create_task(terminal.run(session), name=f"simulated terminal {terminal.sn}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run during the `async with` block; an unexpected error of the simulator ends the block."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.run(), name="simulated fleet")
            try:
                yield self
            finally:
                running.cancel()

    async def wait_connected(self) -> None:
        """Wait until each terminal has been connected."""
        for terminal in self.terminals:
            await terminal.wait_connected()


def simulated_sn(number: int) -> str:
    """Return the serial number of a simulated terminal: `SIM0000000001` for 1."""
    return f"SIM{number:010}"


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
