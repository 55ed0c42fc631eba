"""A program as people run it: a process of its own, known by what it logs and by its exit code."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from tests.support.waiting import PATIENCE


class LoggedProcess:
    """Starts it, follows its log (stderr), and ends it.

    Attributes:
        log: what it has logged since it was started last.
    """

    def __init__(self) -> None:
        self.log = ""
        self._more = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, as its kind is started."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start it, and end what still runs at the end, frozen or not."""
        try:
            await self.start()
            yield self
        finally:
            if self._process is not None and self._process.returncode is None:
                self._send_signal(signal.SIGCONT)
                await self.stop()

    def first_child_or_none(self) -> int | None:
        """Return the process that it has started, once there is one."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def first_child(self) -> int:
        """Return that process."""
        child = self.first_child_or_none()
        assert child is not None
        return child

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        process, self._process = self._process, None
        assert process is not None
        async with asyncio.timeout(PATIENCE):
            code = await process.wait()
        if self._reading is not None:
            await self._reading
        return code

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        self._send_signal(number)
        return await self.ended()

    async def wait_log(self, text: str) -> None:
        """Wait until its log holds a text."""
        try:
            async with asyncio.timeout(PATIENCE):
                while text not in self.log:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} in the log:\n{self.log}") from None

    def _send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _start(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.log = ""
        self._process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE, env=environment)
        assert self._process.stderr is not None
        self._reading = asyncio.get_running_loop().create_task(self._read(self._process.stderr))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.log += line.decode()
            self._more.set()
