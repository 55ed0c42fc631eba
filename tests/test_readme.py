"""The first steps of README.md, followed in a fresh clone with the commands exactly as they are written."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest

from bridge.simulator.faces import sample_photo
from tests.support.environment import program_environment
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[1]

_ENVIRONMENT_READY = """
. scripts/lib.sh
locks='requirements-build.lock requirements.lock'
printf '%s' "$(cat pyproject.toml $locks | cksum) $PWD" >.venv/ready-
"""
"""What `python_environment` of scripts/lib.sh compares: the clone uses the packages of this checkout."""


class Clone:
    """A fresh clone, and the values that a user enters in place of the words in capitals."""

    def __init__(self, folder: Path, broker: Mosquitto, readme: str) -> None:
        self.folder = folder
        self.terminals_port = free_port()
        self._login = f"-h 127.0.0.1 -p {broker.port} -u bridge -P secret"
        steps = (ROOT / readme).read_text().partition("### Home Assistant")[0]
        self._blocks = [
            "\n".join(line.removeprefix("   ") for line in block.splitlines())
            for block in re.findall(r"```sh\n(.*?)```", steps, re.DOTALL)
        ]

    def block(self, beginning: str) -> str:
        """Return the first block of commands that begins with a text, with a user's values."""
        block = next(one for one in self._blocks if one.startswith(beginning))
        block = block.replace("-h BROKER -u USER -P PASSWORD", self._login)
        if "dev:PASSWORD@" in block:
            password = re.search(r'terminal_password: "(.*)"', (self.folder / "secrets.yaml").read_text())
            assert password is not None
            block = block.replace("PASSWORD", password[1])
        return block.replace(":8765/", f":{self.terminals_port}/")

    def environment(self) -> dict[str, str]:
        return {**program_environment(), "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}

    async def run(self, commands: str) -> str:
        """Run commands to their end, and return their output."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", commands, cwd=self.folder, env=self.environment(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(2 * TIMEOUT_SECONDS):
            output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    @asynccontextmanager
    async def running(self, commands: str, until: str) -> AsyncIterator[str]:
        """Run commands in a second window during the block, and wait until they print a text; yield the output."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", f"exec stdbuf -oL {commands.strip()}", cwd=self.folder, env=self.environment(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        shown = b""
        try:
            async with asyncio.timeout(2 * TIMEOUT_SECONDS):
                while until.encode() not in shown:
                    part = await process.stdout.read(4096)
                    assert part, shown.decode()
                    shown += part
            async with asyncio.TaskGroup() as group:
                # A full pipe would hold up the program.
                group.create_task(process.stdout.read())
                yield shown.decode()
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.fixture
def clone_folder(tmp_path: Path) -> Path:
    """A copy of the tracked files, with an environment whose packages are those of this checkout."""
    folder = tmp_path / "facebridge"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, tracked.split("\0")):
        if name.startswith(("scripts/", "config", "pyproject", "requirements", ".gitignore")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name, command in (("python", ""), ("facebridge", "-m bridge ")):
        program = folder / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {command}"$@"\n')
        program.chmod(0o755)
    subprocess.run(["sh", "-c", _ENVIRONMENT_READY], cwd=folder, check=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    author = ("-c", "user.name=clone", "-c", "user.email=clone@localhost")
    subprocess.run(["git", *author, "commit", "-qm", "clone"], cwd=folder, check=True)
    return folder


@pytest.mark.timeout(240)
@pytest.mark.parametrize("readme", ["README.md", pytest.param("README.zh-CN.md", marks=pytest.mark.slow)])
async def test_the_first_steps_lead_to_an_opened_door(clone_folder: Path, tmp_path: Path, readme: str) -> None:
    (tmp_path / "broker").mkdir()
    broker = Mosquitto(tmp_path / "broker", anonymous=False)
    broker.set_passwords({"bridge": "secret"})
    async with broker:
        clone = Clone(clone_folder, broker, readme)
        await clone.run(clone.block("cp config.yaml"))
        local = clone.folder / "config.local.yaml"
        text = local.read_text()
        for before, after in (
            ("host: null", "host: 127.0.0.1"),
            ("port: 1883", f"port: {broker.port}"),
            ("username: null", "username: bridge"),
            ("password: null", "password: secret"),
            ("port: 8765", f"port: {clone.terminals_port}"),
            ("port: 8099", f"port: {free_port()}"),
        ):
            text = text.replace(before, after, 1)
        local.write_text(text)
        (clone.folder / "ada.jpg").write_bytes(sample_photo(1))

        async with clone.running(clone.block("scripts/run"), "ready: ") as started:
            assert "Enter on each terminal:" in started
            assert f"MQTT 127.0.0.1:{broker.port}, web" in started
            async with clone.running(clone.block("scripts/run simulate"), "waits for approval"):
                listed = await clone.run(clone.block("scripts/run terminals list"))
                assert "FEDCBA9876543210" in listed
                assert "is approved" in listed
                while "online" not in await clone.run("scripts/run terminals list"):
                    pass
                block = clone.block("sudo apt install mosquitto-clients")
                _, listen, publish = block.splitlines()
                async with clone.running(f"{listen.removesuffix(' &')} -d -C 1", "Subscribed"):
                    await clone.run(publish)
                opened = await clone.run("scripts/run log --command open --json")
                assert orjson.loads(opened)["outcome"] == "ok"
                await clone.run(clone.block("printf"))
                while "confirmed" not in await clone.run("scripts/run persons list"):
                    pass
        changed = await clone.run("git status --short --untracked-files=all | grep -v .jpg || true")
        assert changed == "", "git would see these files"
