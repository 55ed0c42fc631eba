"""The commands for Docker in README.md, docs/first-door.md and docs/upgrade.md, run as they are shown.

Different from a user's machine: the engine is Podman, the base image is a Debian like it (`scripts/app-base`), and Git
clones this checkout.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.simulator.terminal import SimulatedTerminal
from tests.documents.shown import ROOT, commands
from tests.support.containers import ContainerEngine
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS, until

ADDRESS = "https://github.com/facebridge/facebridge"
SN = "FEDCBA9876543210"
AUTHOR = ("-c", "user.name=clone", "-c", "user.email=clone@localhost")


class DockerUser:
    """A user's folder, and what the user has entered in the configuration."""

    def __init__(self, engine: ContainerEngine, folder: Path, broker: Mosquitto) -> None:
        self.folder = folder
        self.ports = {1883: broker.port, 8765: free_port(), 8099: free_port()}
        self._engine = engine

    async def run(self, command: str) -> str:
        return await self._engine.run(command, self.folder)

    async def run_all(self, shown: list[str], last: str) -> str:
        """Run the next commands up to one that begins with a text; return its output."""
        while True:
            command = shown.pop(0)
            output = await self.run(command)
            if command.endswith("cd facebridge"):
                self.folder /= "facebridge"
            if command.startswith(last):
                return output

    def enter(self, before: str, after: str) -> None:
        file = self.folder / "data" / "config.yaml"
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after, 1))

    async def open_a_door(self, password: str) -> None:
        """Connect a terminal, approve it and open the door."""
        url = f"ws://dev:{password}@127.0.0.1:{self.ports[8765]}/devs/"
        async with SimulatedTerminal(url, SN).running() as terminal:
            await self.run_until_shown("docker exec facebridge facebridge terminals list", SN)
            await self.run(f"docker exec facebridge facebridge terminals approve {SN}")
            await terminal.wait_connected()
            await self.run(f"curl -sSf -X POST http://127.0.0.1:{self.ports[8099]}/api/terminals/{SN}/open")
            await until(lambda: terminal.opened)

    async def run_until_shown(self, command: str, text: str) -> None:
        """Repeat a command until it prints a text."""
        output = ""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while text not in output:
                    output = await self.run(command)
        except TimeoutError:
            raise AssertionError(f"{command}: no {text!r} in\n{output}") from None

    async def wait_ready(self) -> None:
        await self.run_until_shown("docker logs facebridge 2>&1", "ready: ")


@pytest_asyncio.fixture
async def user(tmp_path: Path) -> AsyncIterator[DockerUser]:
    """A user with an empty folder, a broker, and a repository to clone."""
    source = tmp_path / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, tracked.split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    for command in (["init", "-q"], ["add", "-A"], [*AUTHOR, "commit", "-qm", "release"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{source}.insteadOf", "GIT_CONFIG_VALUE_0": ADDRESS}
    for folder in ("broker", "home"):
        (tmp_path / folder).mkdir()
    base = os.environ.get("APP_BASE")
    assert base, "APP_BASE is not set; scripts/test --all makes a base and sets it"
    named = re.search(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert named is not None
    broker = Mosquitto(tmp_path / "broker", anonymous=False)
    broker.set_passwords({"facebridge": "secret"})
    engine = ContainerEngine(tmp_path / "engine", git)
    async with broker, engine.running(Path(base), named[1]):
        yield DockerUser(engine, tmp_path / "home", broker)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_commands_for_docker_in_the_readme_lead_to_an_opened_door(user: DockerUser) -> None:
    block = (ROOT / "README.md").read_text().partition("### Docker")[2].partition("###")[0]
    shown = [one for one in commands(ROOT / "README.md") if one in block]
    await user.run_all(shown, "git clone")
    await user.run_all(shown, "mkdir data")
    user.enter("host: null", "host: 127.0.0.1")
    user.enter("username: null", "username: facebridge")
    user.enter("password: null", "password: secret")
    for shown_port, port in user.ports.items():
        user.enter(f"port: {shown_port}", f"port: {port}")
    await user.run_all(shown, "docker run")
    await user.wait_ready()
    assert shown.pop(0) == "docker logs -f facebridge"
    assert "ready: " in await user.run("timeout 3 docker logs -f facebridge 2>&1 || test $? = 124")
    await user.run_all(shown, "docker exec")
    password = re.search('"(.*)"', await user.run_all(shown, "sudo cat"))
    assert password is not None
    await user.open_a_door(password[1])
    await user.run_all(shown, "docker restart")
    assert not shown
    await user.wait_ready()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_docker_from_the_first_door_to_the_uninstallation(user: DockerUser) -> None:
    door = [one for one in commands(ROOT / "docs" / "first-door.md") if re.match("git clone|mkdir data|docker ", one)]
    await user.run_all(door, "mkdir data")
    page = (ROOT / "docs" / "first-door.md").read_text()
    configuration, secrets = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (user.folder / "data" / "config.yaml").write_text(configuration)
    (user.folder / "data" / "secrets.yaml").write_text(
        secrets.replace("the password of the broker's user", "secret").replace("a password that you choose", "lobby-17")
    )
    user.enter("host: 192.0.2.7", "host: 127.0.0.1")
    user.enter("terminals:\n", f"terminals:\n  port: {user.ports[8765]}\n")
    user.enter("mqtt:\n", f"web:\n  port: {user.ports[8099]}\nmqtt:\n  port: {user.ports[1883]}\n")
    in_text = re.search(r"`(sudo chown 1500 data/\*)`", page)
    assert in_text is not None
    await user.run("chmod 600 data/secrets.yaml")
    await user.run(in_text[1])
    assert "the configuration is valid" in await user.run_all(door, "docker run --rm")
    await user.run_all(door, "docker run -d")
    assert not door
    await user.wait_ready()
    await user.open_a_door("lobby-17")

    upgrade = [one for one in commands(ROOT / "docs" / "upgrade.md") if re.match("git -C|docker ", one)]
    source = user.folder.parent / "source"
    (source / "bridge" / "__init__.py").write_text('"""Facebridge."""\n\n__version__ = "9.9.9"\n')
    subprocess.run(["git", *AUTHOR, "commit", "-qam", "new version"], cwd=source, check=True)
    await user.run_all(upgrade, "docker run -d")
    await user.wait_ready()
    assert "9.9.9" in await user.run("docker exec facebridge facebridge --version")
    assert SN in await user.run("docker exec facebridge facebridge terminals list")
    await user.run_all(upgrade, "docker image rm")
    assert not upgrade
    assert "facebridge" not in await user.run("docker images --format '{{.Repository}}'")
