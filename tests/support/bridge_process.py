"""The bridge as people run it: a process of its own, to be frozen, killed and asked over its real ports."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.waiting import PATIENCE

_READY = re.compile(r"ready: terminals wss?://[^ ]+:(\d+)/devs/, .*web http://[^ ]+:(\d+)")


class BridgeProcess:
    """`facebridge run` on a configuration of the test's."""

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        self.folder = folder
        self.log = ""
        self.terminals_port = 0
        self.web_port = 0
        self._more = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration))

    @property
    def terminal_url(self) -> str:
        return f"ws://dev:123@127.0.0.1:{self.terminals_port}/devs/"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BridgeProcess"]:
        try:
            await self.start()
            yield self
        finally:
            if self._process is not None:
                self.thaw()
                await self.stop()

    async def start(self) -> None:
        """Start it, and wait for its ready line."""
        self.log = ""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "run", "-c", str(self.folder / "config.yaml"),
            stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self._process.stderr is not None
        self._reading = asyncio.get_running_loop().create_task(self._read(self._process.stderr))
        await self.wait_log("ready: ")
        ready = _READY.search(self.log)
        assert ready is not None, self.log
        self.terminals_port, self.web_port = int(ready[1]), int(ready[2])

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            code = await process.wait()
        if self._reading is not None:
            await self._reading
        return code

    def freeze(self) -> None:
        """Stop it where it is; its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def wait_log(self, text: str) -> None:
        """Wait until its log holds a text."""
        try:
            async with asyncio.timeout(PATIENCE):
                while text not in self.log:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} in the log:\n{self.log}") from None

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.log += line.decode()
            self._more.set()


def configuration(mqtt_port: int, **sections: Any) -> dict[str, Any]:
    """Return a configuration with two known terminals, free ports and a deadline of two seconds."""
    basis: dict[str, Any] = {
        "mqtt": {"host": "127.0.0.1", "port": mqtt_port},
        "terminals": {
            "port": 0,
            "username": "dev",
            "password": "123",
            "known": {"T1": {"name": "Front door", "groups": ["lobby"]}, "T2": {"groups": ["lobby"]}},
        },
        "web": {"port": 0},
        "commands": {"deadline": 2},
    }
    for name, section in sections.items():
        basis[name] = {**basis.get(name, {}), **section}
    return basis
