"""Fixtures for the tests with a Home Assistant."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.home_assistant.home_assistant_system import (
    HomeAssistantSystem,
    Installation,
    Protocol,
    SystemFactory,
    home_assistant_system,
)
from tests.support.blueprints import add_visitors_package
from tests.support.home_assistant import HomeAssistant
from tests.support.mosquitto import Mosquitto
from tests.support.person_stream import PHOTOS
from tests.support.phone import Phone, phone_of


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """A Home Assistant with a broker; the parameter is the version of MQTT between the two, 5 by default."""
    protocol: Protocol = getattr(request, "param", "5")
    folder = tmp_path_factory.mktemp("home-assistant")
    home_assistant = HomeAssistant(folder, add_visitors_package(folder))
    async with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        try:
            await home_assistant.start()
            await home_assistant.onboard()
            await home_assistant.add_mqtt(broker.port, protocol)
            yield Installation(home_assistant, broker, protocol)
        finally:
            await home_assistant.stop()


@pytest.fixture
def make_system(installation: Installation, tmp_path: Path) -> SystemFactory:
    """Start a bridge: `async with make_system({"T1": {"name": "Front door"}}) as system`."""

    def make(
        known: Mapping[str, Mapping[str, Any]], **details: Any
    ) -> AbstractAsyncContextManager[HomeAssistantSystem]:
        return home_assistant_system(installation, tmp_path, known, **details)

    return make


@pytest.fixture
async def phone(installation: Installation) -> AsyncIterator[Phone]:
    """A phone with Home Assistant's companion app."""
    async with phone_of(installation.home_assistant, "Ada's phone") as phone:
        yield phone


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder with a photo, for the bridge's `photos.folders`."""
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "ada.jpg").write_bytes(PHOTOS[0])
    return folder
