"""Fixtures for the tests with a Node-RED."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.node_red.node_red_system import NodeRedSystem, SystemFactory, node_red_system
from tests.support.node_red import NodeRed


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["5", "4"])
async def node_red(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeRed]:
    """A Node-RED of each supported major version."""
    process = NodeRed(request.param, tmp_path_factory.mktemp("node-red"))
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


@pytest.fixture
def language(node_red: NodeRed) -> str:
    """The language of the flows: each version runs them in one of the two languages."""
    return {"5": "en", "4": "zh-CN"}[node_red.version]


@pytest.fixture
def run_flow(node_red: NodeRed, language: str, tmp_path: Path) -> SystemFactory:
    """Run a flow: `async with run_flow("open-door", SN="T1") as system`."""

    def make(name: str, **settings: Any) -> AbstractAsyncContextManager[NodeRedSystem]:
        return node_red_system(node_red, language, tmp_path, name, **settings)

    return make
