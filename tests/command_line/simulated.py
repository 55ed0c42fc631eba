"""Simulated terminals at a bridge process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_process import BridgeProcess


@asynccontextmanager
async def connected_terminals(bridge: BridgeProcess, *sns: str) -> AsyncIterator[list[SimulatedTerminal]]:
    """Run simulated terminals as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        simulated = [SimulatedTerminal(bridge.terminal_url, sn) for sn in sns]
        running = [group.create_task(one.run()) for one in simulated]
        yield simulated
        for task in running:
            task.cancel()
