"""The commands that the pages of the site show run as they are shown."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click
import pytest
import pytest_asyncio

from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.documents.shown import (
    ELSEWHERE,
    NOT_RUN,
    ROOT,
    WALKED_PAGES,
    check_calls,
    commands,
    commands_in_sentences,
    documents,
    run_elsewhere,
)  # fmt: skip
from tests.support.environment import program_environment
from tests.support.logged_process import LoggedProcess
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS, until

SN = "FEDCBA9876543210"
TERMINAL_PASSWORD = "a password that you choose"

EXPECTED = {
    r"check --connect": "the configuration is valid",
    r"terminals list --pending": SN,
    r"/open$": '"outcome":"ok"',
    r"persons/1001$": "accepted",
    r"persons list": "Ada",
    r"log --terminal|log --since": "open",
    r"log --person 1001": '"person_id":"1001"',
    r"hash-password": "argon2",
    r"acl --user \w+ --role \w+$": "topic",
    r"doctor$": "ok",
    r"doctor --json": '"findings":',
}
"""Texts in the output of commands."""

TYPED = {r"hash-password|--password$": "secret-of-front\nsecret-of-front\n", r"facebridge restore": "y\n"}
"""What a user types."""

SUBSTITUTES = {
    "/backups/": "./",
    "/etc/mosquitto/acl": "./acl",
    "--listen 600": "--listen 1",
    "facebridge log --follow": "(timeout 3 facebridge log --follow",
    "--outcome timeout": "--outcome timeout || test $? = 124)",
}
"""Parts of commands that are different in a test: folders of the machine, and times."""


def block(page: str, language: str, number: int = 0) -> str:
    """Return a block of code of a page."""
    text = (ROOT / page).read_text()
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return blocks[number]


class ShownBridge(LoggedProcess):
    """A user's folder, in which the shown commands run."""

    def __init__(self, folder: Path, mqtt_port: int) -> None:
        super().__init__()
        self.folder = folder
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
        await self._start("bash", "-c", f"cd {self.folder} && exec facebridge run", environment=self.environment)
        await self.wait_log("ready: ")

    def real(self, command: str) -> str:
        """Return a command with the addresses and the passwords of the test in place of the shown ones."""
        command = command.replace("-h 192.0.2.7", f"-h 127.0.0.1 -p {self._mqtt_port}")
        command = command.replace("dev:PASSWORD@", f"dev:{TERMINAL_PASSWORD.replace(' ', '%20')}@")
        for shown, port in self._ports.items():
            command = command.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
        for shown, real in SUBSTITUTES.items():
            command = command.replace(shown, real)
        return command

    async def run(self, command: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command in the folder, as a user who repeats `verify` until all terminals have confirmed."""
        typed = next((text for pattern, text in TYPED.items() if re.search(pattern, command)), "")
        async with asyncio.timeout(TIMEOUT_SECONDS * 3):
            while True:
                process = await asyncio.create_subprocess_exec(
                    "bash", "-euo", "pipefail", "-c", self.real(command),
                    cwd=self.folder, env={**self.environment, **(environment or {})},
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
    (folder / "config.yaml").write_text(block("docs/first-door.md", "yaml", 0))
    (folder / "secrets.yaml").write_text(block("docs/first-door.md", "yaml", 1))
    (folder / "staff.csv").write_text(block("docs/recipes.md", "csv"))
    for number, name in enumerate(("ada.jpg", "guest.jpg", "faces/1001.jpg", "faces/1002.jpg")):
        (folder / name).write_bytes(sample_photo(number, (96, 128)))
    async with Mosquitto(tmp_path / "broker") as broker:
        yield ShownBridge(folder, broker.port)


class Reader:
    """A user who follows pages: runs their commands in order and checks what they print.

    Attributes:
        left: the commands that have not run, by page.
    """

    def __init__(self, bridge: ShownBridge, *pages: str) -> None:
        self.left = {
            page: [one for one in commands(documents()[page]) if not run_elsewhere(page, one)] for page in pages
        }
        self._bridge = bridge

    async def run_until(self, page: str, last: str) -> None:
        """Run the next commands of a page up to one that contains a text."""
        while True:
            command = self.left[page].pop(0)
            output = await self._bridge.run(command)
            for pattern, text in EXPECTED.items():
                if re.search(pattern, command):
                    assert text in output, f"{command}\n{output}"
            if last in command:
                return


@pytest.mark.timeout(900)  # thirty programs, each a second of processor time
async def test_the_pages_from_the_first_door_to_the_upgrade_work_as_they_are_written(bridge: ShownBridge) -> None:
    door, recipes, upgrade, security = WALKED_PAGES[:4]
    reader = Reader(bridge, door, recipes, upgrade, security)
    run_until, left = reader.run_until, reader.left
    await run_until(door, "facebridge check --connect")
    assert left[door].pop(0) == "facebridge run"
    async with bridge.running():
        shown = left[door].pop(0)
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
            await run_until(door, "terminals approve")
            await terminal.wait_connected()
            await run_until(door, "persons list")
            await until(lambda: terminal.opened == 2)
            await bridge.run(f"facebridge terminals approve {SN} --group staff")
            await run_until(recipes, "persons verify --group staff")
            assert {"1001", "1002"} <= set(terminal.persons)
            await run_until(recipes, "persons/1001")
            await run_until(recipes, "persons purge")
            assert "1001" not in terminal.persons
            await run_until(recipes, "terminals approve NEW")
            await new.wait_connected()
            await run_until(recipes, "terminals forget")
            assert {"1002", "9001"} == set(new.persons)
            await run_until(recipes, "backup")
            await bridge.run(f"facebridge terminals approve {SN}")
            await terminal.wait_connected()
            await run_until(upgrade, "backup")
            restore = left[upgrade].pop(0)
            await run_until(upgrade, "terminals forget")
            assert not terminal.persons
        await run_until(security, "hash-password")
    await bridge.run(restore)
    assert not any(left.values()), left


@pytest.mark.timeout(600)
async def test_the_pages_about_operation_and_persons_work_as_they_are_written(bridge: ShownBridge) -> None:
    operation, persons, privacy, palette = WALKED_PAGES[4:]
    reader = Reader(bridge, operation, persons, privacy, palette)
    (bridge.folder / "persons.csv").write_text(block(persons, "csv"))
    async with bridge.running(), SimulatedTerminal(bridge.terminal_url, SN).running() as terminal:
        await bridge.wait_log("waits for approval")
        await reader.run_until(operation, "terminals approve")
        await terminal.wait_connected()
        await reader.run_until(persons, "--photos faces/")
        await reader.run_until(persons, "--photos faces/")
        await until(lambda: {"1001", "1002"} <= set(terminal.persons))
        await bridge.run(f"curl -sS -X POST http://127.0.0.1:8099/api/terminals/{SN}/open")
        await reader.run_until(persons, "log --follow")
        await reader.run_until(operation, "doctor --listen")
        await reader.run_until(operation, "acl")
        await reader.run_until(palette, "acl")
        key = await bridge.run(reader.left[privacy].pop(0))
        encrypted = {"FACEBRIDGE_STORE__PHOTO_KEY": key.strip(), "FACEBRIDGE_STORE__URL": "sqlite:///encrypted.db"}
        await bridge.run("facebridge check", encrypted)
    assert not any(reader.left.values()), reader.left


def test_every_shown_command_is_run_or_has_a_reason() -> None:
    shown = [f"{page}: {command}" for page, path in documents().items() for command in commands(path)]
    assert len(shown) > 150
    english = [one for one in shown if ".zh" not in one.partition(":")[0]]
    left = [one for one in english if not run_elsewhere(*one.split(": ", 1)) and not one.startswith(WALKED_PAGES)]
    assert not left, "run them here, or say in ELSEWHERE which test runs them, or in NOT_RUN why none can"


@pytest.mark.parametrize("pattern", [*ELSEWHERE, *NOT_RUN])
def test_each_exception_is_needed(pattern: str) -> None:
    assert any(
        re.match(pattern, f"{page}: {command}") for page, path in documents().items() for command in commands(path)
    )


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_the_tests_that_run_commands_elsewhere_exist(test: str) -> None:
    assert (ROOT / test).is_file()


@pytest.mark.parametrize("page", documents())
def test_shown_calls_of_our_programs_have_commands_and_options_that_exist(page: str) -> None:
    path = documents()[page]
    for command in commands(path) + (commands_in_sentences(path) if "CHANGELOG" not in page else []):
        try:
            check_calls(command)
        except click.UsageError as error:
            pytest.fail(f"{command}: {error.message}")


@pytest.mark.parametrize(
    "wrong",
    [
        "facebridge open", "facebridge persons list --everywhere", "docker exec x facebridge log --sn 1",
        "scripts/run acl --user x --role guest", "scripts/bench nothing", "cat x | facebridge check -q",
    ],
)  # fmt: skip
def test_wrong_calls_are_noticed(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        check_calls(wrong)
