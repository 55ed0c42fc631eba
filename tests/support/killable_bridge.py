"""A bridge process that a test kills and starts again on the same port."""

import asyncio
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.environment import program_environment
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS


class KillableBridge(BridgeProcess):
    """A bridge process that can be killed at any moment, also while it starts.

    Attributes:
        full_log: the log of all earlier runs of the process.
        kills: how often the process was killed.
    """

    def __init__(self, folder: Path, configuration: dict[str, Any], *, module: str = "bridge") -> None:
        super().__init__(folder, configuration, module=module)
        self.full_log = ""
        self.kills = 0

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the process with a signal and return its exit code."""
        code = await super().stop(number)
        self.full_log += self.log
        return code

    async def kill(self) -> None:
        """Kill the process with SIGKILL, as a power cut would."""
        assert await self.stop(signal.SIGKILL) == -signal.SIGKILL, self.log
        self.kills += 1

    def limit_file_size(self, max_bytes: int | None) -> None:
        """Let the process write no file beyond this size, as a full disk would; None removes the limit."""
        limit = resource.RLIM_INFINITY if max_bytes is None else max_bytes
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    async def start_and_fail(self) -> str:
        """Start the process where it cannot run, and return its log after it has exited with code 1."""
        command = (sys.executable, "-m", "bridge", "run", "-c", str(self.folder / "config.yaml"))
        process = await asyncio.create_subprocess_exec(
            *command, stderr=asyncio.subprocess.PIPE, env=program_environment()
        )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, log = await process.communicate()
        assert process.returncode == 1, log
        return log.decode()

    async def start_and_kill(self, after_seconds: float) -> None:
        """Start the process and kill it after this time, ready or not."""
        starting = asyncio.get_running_loop().create_task(self.start())
        await asyncio.sleep(after_seconds)
        await self.kill()
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting


def fixed_port_configuration(mqtt_port: int, sns: list[str], *, store_url: str, **sections: Any) -> dict[str, Any]:
    """Return a configuration in which the terminals' port stays the same over restarts of the bridge.

    Args:
        mqtt_port: the broker's port.
        sns: serial numbers of the known terminals; all are in the group `lobby`.
        store_url: `store.url`.
        sections: more sections of the configuration.
    """
    known = {sn: {"groups": ["lobby"]} for sn in sns}
    return configuration(
        mqtt_port,
        terminals={"port": free_port(), "known": known},
        store={"url": store_url},
        homeassistant={"discovery": False},
        **sections,
    )


def seed_from_environment(default: int | None = None) -> int:
    """Return `FACEBRIDGE_SEED`, which repeats a failed run, or the default, or a random seed."""
    given = os.environ.get("FACEBRIDGE_SEED")
    if given is not None:
        return int(given)
    return SystemRandom().randrange(1_000_000) if default is None else default
