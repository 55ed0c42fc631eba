"""Fixtures of every test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import PostgreSQL, postgresql_server

# How long an example takes says more about the machine than about the code.
settings.register_profile("facebridge", deadline=None)
settings.load_profile("facebridge")


@pytest.fixture
async def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    """A real broker, as it comes."""
    folder: Path = tmp_path_factory.mktemp("mosquitto")
    async with Mosquitto(folder) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A real PostgreSQL; every test asks it for a database of its own."""
    with postgresql_server() as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what long tests have counted: their own output is shown only where they fail."""
    for report in terminalreporter.getreports("passed"):
        for name, counts in report.user_properties:
            if name == "counts":
                terminalreporter.write_line(f"{report.nodeid}: {counts}")
