"""Fixtures for the tests of the doctor."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.doctor.doctor_system import broker_without_delay
from tests.support.mosquitto import Mosquitto


@pytest.fixture
async def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    """A Mosquitto without Nagle's algorithm, so that the doctor's 55 round trips do not take 44 ms each."""
    folder: Path = tmp_path_factory.mktemp("mosquitto")
    async with broker_without_delay(folder) as broker:
        yield broker


@pytest.fixture
async def stock_mosquitto(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    """A Mosquitto without options."""
    folder: Path = tmp_path_factory.mktemp("mosquitto")
    async with Mosquitto(folder) as broker:
        yield broker
