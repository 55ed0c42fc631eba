from collections.abc import AsyncIterator

import pytest

from tests.simulator.counterpart import Counterpart, listening


@pytest.fixture
async def counterpart() -> AsyncIterator[Counterpart]:
    async with listening() as server:
        yield server
