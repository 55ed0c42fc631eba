"""`facebridge run` of a release, on the configuration and the store that a user of an earlier release has."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.environment import program_environment
from tests.support.logged_process import LoggedProcess

KEPT = Path(__file__).parent / "kept"
"""One folder for each kept release: `config.yaml` and `store.sql`."""

SECRETS = "terminal_password: secret-of-the-terminals\n"
_READY = re.compile(r"ready: terminals ws://[^ ]+:(\d+)/devs/")


def facebridge_command() -> Sequence[str]:
    """Return the command to test: `scripts/release` names that of the wheel it has built; else this checkout's."""
    return shlex.split(os.environ.get("RELEASED_FACEBRIDGE", "")) or [sys.executable, "-m", "bridge"]


class ReleasedBridge(LoggedProcess):
    """A bridge in a folder with `config.yaml`; only addresses and ports come from the test.

    Args:
        folder: has the configuration and, after a first run, the store.
        mqtt_port: the port of the broker.
    """

    def __init__(self, folder: Path, mqtt_port: int) -> None:
        super().__init__()
        self._folder = folder
        self._environment = {
            **{name: value for name, value in program_environment().items() if name != "RELEASED_FACEBRIDGE"},
            "PYTHONUNBUFFERED": "1",
            "FACEBRIDGE_MQTT__HOST": "127.0.0.1",
            "FACEBRIDGE_MQTT__PORT": str(mqtt_port),
            "FACEBRIDGE_TERMINALS__HOST": "127.0.0.1",
            "FACEBRIDGE_TERMINALS__PORT": "0",
            "FACEBRIDGE_WEB__PORT": "0",
        }
        (folder / "secrets.yaml").write_text(SECRETS)

    @property
    def terminal_url(self) -> str:
        """The base URL for terminals."""
        found = _READY.search(self.log)
        assert found is not None, self.log
        return f"ws://dev:secret-of-the-terminals@127.0.0.1:{found[1]}/devs/"

    async def start(self) -> None:
        """Start it, and wait for its ready line."""
        command = [*facebridge_command(), "run", "-c", str(self._folder / "config.yaml")]
        await self._start(*command, environment=self._environment)
        await self.wait_log("ready: ")

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run another command of `facebridge` on the same configuration; return its exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *facebridge_command(), *arguments, "-c", str(self._folder / "config.yaml"),
            env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()
