"""Starts subjects: the product of this checkout or of another one, and the bridges that it is compared with."""

import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.bridge_process import configuration
from tests.support.logged_process import LoggedProcess

FLOOR, SCRIPT, NODE_RED, PRODUCT = "floor", "script", "node-red", "product"
OTHERS = (FLOOR, SCRIPT, NODE_RED)
"""The subjects that are not Facebridge."""

ROOT = Path(__file__).parents[2]

_READY = re.compile(r"ready: terminals (?:ws://[^ ]+:)?(\d+)(?:.*web http://[^ ]+:(\d+))?")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a subject is started with.

    Attributes:
        folder: an empty folder on a real disk.
        broker_port: the broker of the measurement.
        base_topic: the first level of the subject's topics.
        terminals: the number of terminals `T1`, `T2`, … that will connect.
        known: whether the configuration of the product lists the terminals; otherwise it admits unknown ones.
    """

    folder: Path
    broker_port: int
    base_topic: str
    terminals: int
    known: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """A running bridge.

    Attributes:
        pid: its process.
        port: where terminals connect.
        base_topic: the first level of its topics.
        web_url: the product's HTTP server.
    """

    pid: int
    port: int
    base_topic: str
    web_url: str | None = None


SubjectKind = Callable[[Setting], AbstractAsyncContextManager[Subject]]
"""Runs a subject as long as the block lasts."""


class SubjectProcess(LoggedProcess):
    """A program that prints a line with its ports when it is ready."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        super().__init__()
        self.port = 0
        self.web_port = ""
        self._command = command
        self._environment = environment

    async def start(self) -> None:
        """Start it, and wait for its line."""
        await self._start(*self._command, environment={**os.environ, **(self._environment or {})})
        await self.wait_log("ready: ")
        ready = _READY.search(self.log)
        assert ready is not None, self.log
        self.port, self.web_port = int(ready[1]), ready[2]


def product(checkout: Path = ROOT) -> SubjectKind:
    """Return the product of a checkout; another checkout needs a `.venv` of its own, as scripts/run makes it."""
    python = sys.executable if checkout == ROOT else str(checkout / ".venv" / "bin" / "python")

    @asynccontextmanager
    async def running(setting: Setting) -> AsyncIterator[Subject]:
        file = product_configuration(setting)
        # Without PYTHONSAFEPATH, the package of the current folder would be imported.
        environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(checkout)}
        command = [python, "-m", "bridge", "run", "-c", str(file)]
        async with SubjectProcess(command, environment).running() as process:
            web_url = f"http://127.0.0.1:{process.web_port}"
            yield Subject(process.pid, process.port, setting.base_topic, web_url)

    return running


def product_configuration(setting: Setting) -> Path:
    """Write the configuration: the defaults, except free ports and names that let several run beside each other."""
    sns = [f"T{number}" for number in range(1, setting.terminals + 1)] if setting.known else []
    values: dict[str, Any] = configuration(
        setting.broker_port,
        mqtt={"base_topic": setting.base_topic, "client_id": setting.base_topic},
        homeassistant={"prefix": f"{setting.base_topic}-discovery"},
        terminals={"admit": "known" if setting.known else "any", "known": {sn: {} for sn in sns}},
        commands={"deadline": 5},
    )
    file = setting.folder / "config.yaml"
    file.write_text(yaml.dump(values, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
    return file


@asynccontextmanager
async def floor(setting: Setting) -> AsyncIterator[Subject]:
    """Run the floor."""
    command = [sys.executable, "-m", "benchmarks.subjects.floor", str(setting.broker_port), setting.base_topic]
    async with SubjectProcess(command).running() as process:
        yield Subject(process.pid, process.port, setting.base_topic)


def subject_kinds(checkouts: dict[str, Path]) -> dict[str, SubjectKind]:
    """Return all subjects by name, with the product of other checkouts under the given names."""
    return {
        FLOOR: floor,
        PRODUCT: product(),
        **{name: product(folder.resolve()) for name, folder in checkouts.items()},
    }
