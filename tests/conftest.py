"""Fixtures for all tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import PostgreSQL, postgresql_server

# The time that an example takes depends on the load of the machine, so it must not fail a test.
settings.register_profile("facebridge", deadline=None)
settings.load_profile("facebridge")


@pytest.fixture
async def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    """A Mosquitto without options."""
    folder: Path = tmp_path_factory.mktemp("mosquitto")
    async with Mosquitto(folder) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server; each test creates a database of its own in it."""
    with postgresql_server() as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of long tests, because pytest shows the output of a test only if it fails."""
    for report in terminalreporter.getreports("passed"):
        for name, counts in report.user_properties:
            if name == "counts":
                terminalreporter.write_line(f"{report.nodeid}: {counts}")
