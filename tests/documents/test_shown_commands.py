"""The commands that the pages of the site show run as they are shown."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.environment import program_environment
from tests.support.logged_process import LoggedProcess
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS, until

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("concepts", "faq", "first-door", "index", "recipes", "security", "trouble", "upgrade")
SN = "FEDCBA9876543210"
TERMINAL_PASSWORD = "a password that you choose"

NOT_RUN = {
    r"uvx |pipx ": "needs the package index: tests/release/test_wheel_installs.py",
    r"/opt/facebridge/|systemctl |rm -rf /|rm -f /": "needs root and systemd: tests/machine/test_systemd.py",
    r"docker |mkdir data": "needs a container engine",
    r"git |scripts/run$|mkdir facebridge": "needs a fresh checkout or folder",
}
"""Commands that these tests do not run, and the reason."""

EXPECTED = {
    r"check --connect": "the configuration is valid",
    r"terminals list --pending": SN,
    r"/open$": '"outcome":"ok"',
    r"persons/1001$": "accepted",
    r"persons list": "Ada",
    r"log --terminal": "open",
    r"hash-password": "argon2",
    r"acl --user": "topic",
}
"""Texts in the output of commands."""

TYPED = {r"hash-password|--password$": "secret-of-front\nsecret-of-front\n", r"facebridge restore": "y\n"}
"""What a user types."""


def commands(page: str) -> Iterator[str]:
    """Yield the commands in the `sh` blocks of a page."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if line.strip():
                yield line.strip()


def block(page: str, language: str, number: int = 0) -> str:
    """Return a block of code of a page."""
    text = (DOCS / f"{page}.md").read_text()
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return blocks[number]


def is_run(command: str) -> bool:
    return not any(re.match(pattern, command) for pattern in NOT_RUN)


class ShownBridge(LoggedProcess):
    """A user's folder, in which the shown commands run."""

    def __init__(self, folder: Path, mqtt_port: int) -> None:
        super().__init__()
        self._folder = folder
        self._ports = {"8765": free_port(), "8099": free_port()}
        self._mqtt_port = mqtt_port
        self.environment = {
            **program_environment(),
            "PATH": f"{Path(sys.executable).parent}:{program_environment()['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "FACEBRIDGE_MQTT__HOST": "127.0.0.1",
            "FACEBRIDGE_MQTT__PORT": str(mqtt_port),
            "FACEBRIDGE_TERMINALS__PORT": str(self._ports["8765"]),
            "FACEBRIDGE_WEB__PORT": str(self._ports["8099"]),
        }

    @property
    def terminal_url(self) -> str:
        return f"ws://dev:{TERMINAL_PASSWORD.replace(' ', '%20')}@127.0.0.1:{self._ports['8765']}/devs/"

    async def start(self) -> None:
        await self._start("bash", "-c", f"cd {self._folder} && exec facebridge run", environment=self.environment)
        await self.wait_log("ready: ")

    def real(self, command: str) -> str:
        """Return a command with the addresses and the passwords of the test in place of the shown ones."""
        command = command.replace("-h 192.0.2.7", f"-h 127.0.0.1 -p {self._mqtt_port}")
        command = command.replace("dev:PASSWORD@", f"dev:{TERMINAL_PASSWORD.replace(' ', '%20')}@")
        for shown, port in self._ports.items():
            command = command.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
        return command

    async def run(self, command: str) -> str:
        """Run a command in the folder, as a user who repeats `verify` until all terminals have confirmed."""
        typed = next((text for pattern, text in TYPED.items() if re.search(pattern, command)), "")
        async with asyncio.timeout(TIMEOUT_SECONDS * 3):
            while True:
                process = await asyncio.create_subprocess_exec(
                    "bash", "-euo", "pipefail", "-c", self.real(command), cwd=self._folder, env=self.environment,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
                output, _ = await process.communicate(typed.encode())
                if process.returncode == 0:
                    return output.decode()
                assert "persons verify" in command, f"{command}\n{output.decode()}"
                await asyncio.sleep(0.2)


@pytest_asyncio.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[ShownBridge]:
    """The folder after step 2 of the first door, and the pictures that the pages name."""
    folder = tmp_path / "facebridge"
    (folder / "faces").mkdir(parents=True)
    (tmp_path / "broker").mkdir()
    (folder / "config.yaml").write_text(block("first-door", "yaml", 0))
    (folder / "secrets.yaml").write_text(block("first-door", "yaml", 1))
    (folder / "staff.csv").write_text(block("recipes", "csv"))
    for number, name in enumerate(("ada.jpg", "guest.jpg", "faces/1001.jpg", "faces/1002.jpg")):
        (folder / name).write_bytes(sample_photo(number, (96, 128)))
    async with Mosquitto(tmp_path / "broker") as broker:
        yield ShownBridge(folder, broker.port)


@pytest.mark.timeout(900)  # thirty programs, each a second of processor time
async def test_the_shown_commands_do_what_the_pages_say(bridge: ShownBridge) -> None:
    left = {page: [one for one in commands(page) if is_run(one)] for page in PAGES}

    async def run_until(page: str, last: str) -> None:
        """Run the next commands of a page up to one that contains a text."""
        while True:
            command = left[page].pop(0)
            output = await bridge.run(command)
            for pattern, text in EXPECTED.items():
                if re.search(pattern, command):
                    assert text in output, f"{command}\n{output}"
            if last in command:
                return

    await run_until("first-door", "facebridge check --connect")
    assert left["first-door"].pop(0) == "facebridge run"
    async with bridge.running():
        shown = left["first-door"].pop(0)
        assert shown.startswith("facebridge simulate ")
        assert shown.endswith(f" --sn {SN}")
        simulated = await asyncio.create_subprocess_shell(f"exec {bridge.real(shown)}", env=bridge.environment)
        await bridge.wait_log(SN)
        simulated.terminate()
        await simulated.wait()
        async with (
            SimulatedTerminal(bridge.terminal_url, SN).running() as terminal,
            SimulatedTerminal(bridge.terminal_url, "NEW").running() as new,
        ):
            await run_until("first-door", "terminals approve")
            await terminal.wait_connected()
            await run_until("first-door", "persons list")
            await until(lambda: terminal.opened == 2)
            await bridge.run(f"facebridge terminals approve {SN} --group staff")
            await run_until("recipes", "persons verify --group staff")
            assert {"1001", "1002"} <= set(terminal.persons)
            await run_until("recipes", "persons/1001")
            await run_until("recipes", "persons purge")
            assert "1001" not in terminal.persons
            await run_until("recipes", "terminals approve NEW")
            await new.wait_connected()
            await run_until("recipes", "terminals forget")
            assert {"1002", "9001"} == set(new.persons)
            await run_until("recipes", "backup")
            await bridge.run(f"facebridge terminals approve {SN}")
            await terminal.wait_connected()
            await run_until("upgrade", "backup")
            restore = left["upgrade"].pop(0)
            await run_until("upgrade", "terminals forget")
            assert not terminal.persons
        await run_until("security", "hash-password")
    await bridge.run(restore)
    assert not any(left.values()), left


def test_a_simulated_terminal_says_how_it_is_started() -> None:
    assert [one for one in commands("first-door") if one.startswith("facebridge simulate")]


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_each_exception_is_needed(pattern: str) -> None:
    assert any(re.match(pattern, command) for page in PAGES for command in commands(page))
