from collections.abc import AsyncIterator

import pytest

from tests.simulator.web_socket_server import WebSocketServer, listening


@pytest.fixture
async def server() -> AsyncIterator[WebSocketServer]:
    async with listening() as server:
        yield server
