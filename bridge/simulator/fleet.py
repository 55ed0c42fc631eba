"""Many simulated terminals in one process, for load."""

import asyncio
import random
import resource
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import aiohttp

from bridge.simulator.behaviour import Behaviour
from bridge.simulator.terminal import SimulatedTerminal

_SPARE_FILES = 100
"""Open files that a process needs besides one a terminal: the event loop's own, logs, the listening side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatistics:
    """A snapshot of a fleet; the counts are sums of `TerminalStatistics`.

    Attributes:
        terminals: how many there are.
        connected: how many of them are connected now.
        attempts: how often any tried to connect.
        connections: how often any was connected.
        refused: how often any was refused.
        opened: how often any door was opened.
        rebooted: how often any was restarted.
        persons: how many all hold together.
        requests: how many came.
        unreadable: how many frames came that were no requests.
        pongs: how many pings were answered.
    """

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
        sns: their serial numbers.
        connect_concurrency: how many handshakes go on at a time.
        username: as for `SimulatedTerminal`, the same for all.
        password: likewise.
        behaviour: likewise.
        subprotocol: likewise.
        ping_interval: likewise.
        tls: likewise.
        randomness: likewise.
    """

    def __init__(
        self,
        url: str,
        sns: Iterable[str],
        *,
        connect_concurrency: int = 200,
        username: str | None = None,
        password: str | None = None,
        behaviour: Behaviour | None = None,
        subprotocol: str | None = None,
        ping_interval: float = 30.0,
        tls: ssl.SSLContext | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        gate = asyncio.Semaphore(connect_concurrency)
        randomness = randomness or random.Random()  # noqa: S311 - jitter, not a secret
        self.terminals = tuple(
            SimulatedTerminal(
                url,
                sn,
                username=username,
                password=password,
                behaviour=behaviour,
                subprotocol=subprotocol,
                ping_interval=ping_interval,
                tls=tls,
                gate=gate,
                randomness=randomness,
            )
            for sn in sns
        )

    def set_behaviour(self, behaviour: Behaviour) -> None:
        """Give all of them these manners."""
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

    async def run(self) -> None:
        """Live until cancelled.

        Raises the process's limit of open files as far as it may: the usual 1024 is too few for a fleet.
        """
        _allow_open_files(len(self.terminals) + _SPARE_FILES)
        # No limit of connections: a WebSocket never gives its connection back.
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as group,
        ):
            for terminal in self.terminals:
                group.create_task(terminal.run(session), name=f"simulated terminal {terminal.sn}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Live as long as the `async with` block; a defect of the simulator itself ends the block."""
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self.run(), name="simulated fleet")
            try:
                yield self
            finally:
                life.cancel()

    async def wait_connected(self) -> None:
        """Wait until each has been seen connected."""
        for terminal in self.terminals:
            await terminal.wait_connected()


def simulated_sn(number: int) -> str:
    """Return the serial number of a simulated terminal: `SIM0000000001` for 1."""
    return f"SIM{number:010}"


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
