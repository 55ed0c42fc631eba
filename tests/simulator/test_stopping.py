"""A simulated terminal ends when it is stopped, also while its connection is ending."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.waiting import TIMEOUT_SECONDS

QUICK = ConnectionOptions(first_retry_seconds=0.001, max_retry_seconds=0.001)


async def end_at_once(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    await websocket.close()
    return websocket


@pytest.mark.parametrize("iterations", range(12))
async def test_it_ends_in_each_iteration_of_the_loop_around_the_end_of_its_connection(iterations: int) -> None:
    application = web.Application()
    application.router.add_get("/devs/{sn}", end_at_once)
    async with TestServer(application) as server, asyncio.timeout(TIMEOUT_SECONDS):
        terminal = SimulatedTerminal(str(server.make_url("/devs/")).replace("http", "ws"), "T1", options=QUICK)
        running = asyncio.get_running_loop().create_task(terminal.run())
        await terminal.wait_connected()
        while terminal.connected:
            await asyncio.sleep(0)
            if iterations == 0:
                break
            iterations -= 1
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
