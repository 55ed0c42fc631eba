"""Starts subjects: the product of this checkout or of another one, and the bridges that it is compared with."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.subjects.node_red_flow import write_flow
from benchmarks.subjects.setting import Setting, Subject, SubjectKind
from tests.support.bridge_process import configuration
from tests.support.logged_process import LoggedProcess
from tests.support.node_red import NodeRed

FLOOR, SCRIPT, NODE_RED, PRODUCT = "floor", "script", "node-red", "product"
OTHERS = (FLOOR, SCRIPT, NODE_RED)
"""The subjects that are not Facebridge."""

MAX_TERMINALS = {NODE_RED: 1000}
"""The flow has eight nodes for each terminal: Node-RED does not start with those of 10,000 within a minute."""

START_SECONDS = 300.0
"""Time for a start on a busy machine, with 10,000 terminals in the configuration."""

STOP_SECONDS = 120.0
"""Time to stop with 10,000 connections on a busy machine."""

ROOT = Path(__file__).parents[2]

_LOG_POLL_SECONDS = 0.002
"""Interval of the search for the line that says that a subject is ready."""

_READY = re.compile(r"ready: terminals (?:ws://[^ ]+:)?(\d+)(?:.*web http://[^ ]+:(\d+))?")


class SubjectProcess(LoggedProcess):
    """A program that prints a line with its ports when it is ready.

    It logs into a file: if the load generator read each line, the replies that it measures would wait for that.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._log_file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this object
        self.port = 0
        self.web_port = ""
        self._command = command
        self._environment = environment

    async def start(self) -> None:
        """Start it, and wait for its line."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stderr=self._log_file, env=self._environment
        )
        async with asyncio.timeout(START_SECONDS):
            while (ready := _READY.search(self.read_log().rpartition("\n")[0])) is None:
                assert self._process.returncode is None, self.read_log()
                await asyncio.sleep(_LOG_POLL_SECONDS)
        self.port, self.web_port = int(ready[1]), ready[2]

    def read_log(self) -> str:
        """Return the log since the start."""
        descriptor = self._log_file.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it ends; return its exit code."""
        return await super().ended(seconds)


@dataclass(frozen=True, slots=True)
class CommandUsage:
    """What a command has used: processor seconds, and its largest memory in MB."""

    processor_seconds: float
    memory_mb: float


class Product:
    """The product of a checkout; another checkout needs a `.venv` of its own, as scripts/run makes it."""

    def __init__(self, checkout: Path = ROOT, module: str = "bridge") -> None:
        python = sys.executable if checkout == ROOT else str(checkout / ".venv" / "bin" / "python")
        self._command = (python, "-m", module)
        # Without PYTHONSAFEPATH, the package of the current folder would be imported.
        self._environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(checkout)}

    @asynccontextmanager
    async def __call__(self, setting: Setting) -> AsyncIterator[Subject]:
        """Run the bridge as long as the block lasts."""
        command = [*self._command, "run", "-c", str(product_configuration(setting))]
        async with SubjectProcess(command, self._environment).running() as process:
            web_url = f"http://127.0.0.1:{process.web_port}"
            yield Subject(process.pid, process.port, setting.base_topic, web_url, process.read_log)

    def command_line(self, setting: Setting, *words: str) -> CommandUsage:
        """Run a command of the command line to its end, and return what it has used."""
        command = [*self._command, *words, "-c", str(product_configuration(setting))]
        with (setting.folder / "command.log").open("wb") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
            _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(words)}: {(setting.folder / 'command.log').read_text()}")
        return CommandUsage(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


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


@asynccontextmanager
async def script(setting: Setting) -> AsyncIterator[Subject]:
    """Run the script of aiohttp and aiomqtt."""
    command = [sys.executable, "-m", "benchmarks.subjects.plain_script", str(setting.broker_port), setting.base_topic]
    async with SubjectProcess(command).running() as process:
        yield Subject(process.pid, process.port, setting.base_topic)


@asynccontextmanager
async def node_red(setting: Setting) -> AsyncIterator[Subject]:
    """Run the flow of Node-RED."""
    write_flow(setting)
    process = NodeRed("5", setting.folder)
    try:
        await process.start()
        await process.wait_logged("Connected to broker", 0)
        yield Subject(process.pid, process.port, setting.base_topic)
    finally:
        await process.stop()


def subject_kinds(checkouts: dict[str, Path]) -> dict[str, SubjectKind]:
    """Return all subjects by name, with the product of other checkouts under the given names."""
    return {
        FLOOR: floor,
        SCRIPT: script,
        NODE_RED: node_red,
        PRODUCT: Product(),
        **{name: Product(folder.resolve()) for name, folder in checkouts.items()},
    }
