"""Runs commands of `facebridge`, and writes the files that they read."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from bridge.cli.main import main
from bridge.simulator.faces import sample_photo
from tests.support.environment import program_environment
from tests.support.waiting import TIMEOUT_SECONDS


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    stdout: str
    stderr: str


async def facebridge(folder: Path, *words: str, stdin: str = "") -> CommandResult:
    """Run a command in this process, in a folder; ten times as quick as in a process of its own.

    It runs in a new thread, because it starts an event loop, and because `persons import` lowers the priority of its
    thread. The working directory of the whole process changes meanwhile.
    """

    def invoke() -> CommandResult:
        with chdir(folder):
            result = CliRunner().invoke(main, words, input=stdin, prog_name="facebridge")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    with ThreadPoolExecutor(1) as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, invoke)


async def audit_records(
    folder: Path, *filters: str, complete: Callable[[list[dict[str, Any]]], object] = bool
) -> list[dict[str, Any]]:
    """Return what `facebridge log` shows, as soon as it is complete: by default, as soon as there is a record.

    The bridge writes the audit four times a second, so a record can follow the reply to its command.
    """
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            shown = await facebridge(folder, "log", *filters, "--json")
            assert shown.code == 0, shown.stderr
            records = [json.loads(line) for line in shown.stdout.splitlines()]
            if complete(records):
                return records


async def facebridge_process(
    folder: Path, *words: str, stdin: str = "", environment: dict[str, str] | None = None
) -> CommandResult:
    """Run a command in a process of its own, as people do."""
    return await python_process(folder, "-m", "bridge", *words, stdin=stdin, environment=environment)


async def python_process(
    folder: Path, *words: str, stdin: str = "", environment: dict[str, str] | None = None
) -> CommandResult:
    """Run Python in a folder, with this process's environment and the modules it can import."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=folder,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**command_environment(), **(environment or {})},
    )  # fmt: skip
    async with asyncio.timeout(2 * TIMEOUT_SECONDS):
        stdout, stderr = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return CommandResult(process.returncode, stdout.decode(), stderr.decode())


def command_environment() -> dict[str, str]:
    """Return the environment for a process that imports `bridge` from outside the checkout."""
    return {**program_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}


def write(folder: Path, text: str, name: str = "persons.csv") -> str:
    """Write a file; return its name."""
    (folder / name).write_text(text)
    return name


def pictures(folder: Path, *person_ids: str) -> str:
    """Write a small picture for each person; return the name of their folder."""
    (folder / "faces").mkdir(exist_ok=True)
    for number, person_id in enumerate(person_ids):
        (folder / "faces" / f"{person_id}.jpg").write_bytes(sample_photo(number, (64, 80)))
    return "faces"
