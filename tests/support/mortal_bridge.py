"""A bridge that is killed at any moment of its life, its start among them, and started again on the same port."""

import asyncio
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.waiting import PATIENCE


class MortalBridge(BridgeProcess):
    """The bridge as a process; `said` is what all its lives wrote to the log."""

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        super().__init__(folder, configuration)
        self.said = ""
        self.kills = 0

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        code = await super().stop(number)
        self.said += self.log
        return code

    async def kill(self) -> None:
        """End it as a power cut would."""
        assert await self.stop(signal.SIGKILL) == -signal.SIGKILL, self.log
        self.kills += 1

    def limit_files(self, size: int | None) -> None:
        """Let it write no file beyond so many bytes, as a full disk would; None for no limit."""
        limit = resource.RLIM_INFINITY if size is None else size
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    async def start_in_vain(self) -> str:
        """Start it where it cannot run, and return what it says when it gives up."""
        command = (sys.executable, "-m", "bridge", "run", "-c", str(self.folder / "config.yaml"))
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(PATIENCE):
            _, said = await process.communicate()
        assert process.returncode == 1, said
        return said.decode()

    async def start_and_kill(self, after: float) -> None:
        """Start it, and kill it so many seconds after, ready or not."""
        starting = asyncio.get_running_loop().create_task(self.start())
        await asyncio.sleep(after)
        await self.kill()
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting


def steady_configuration(mqtt_port: int, sns: list[str], *, store_url: str, **sections: Any) -> dict[str, Any]:
    """Return a configuration whose terminals' port stays the same over restarts; all terminals are in a group."""
    known = {sn: {"groups": ["lobby"]} for sn in sns}
    return configuration(
        mqtt_port,
        terminals={"port": lasting_port(), "known": known},
        store={"url": store_url},
        homeassistant={"discovery": False},
        **sections,
    )


def lasting_port() -> int:
    """Return a free port that no outgoing connection takes while nobody listens on it."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    dice = SystemRandom()
    while True:
        port = dice.randrange(first_ephemeral - 15_000, first_ephemeral)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def seed_from_environment(default: int | None = None) -> int:
    """Return `FACEBRIDGE_SEED`, to repeat a failure with the same dice; else the default, else any."""
    given = os.environ.get("FACEBRIDGE_SEED")
    if given is not None:
        return int(given)
    return SystemRandom().randrange(1_000_000) if default is None else default
