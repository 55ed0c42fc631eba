"""A program in a process of its own, observed through its log and its exit code."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from tests.support.waiting import TIMEOUT_SECONDS


class LoggedProcess:
    """Starts a program, reads its log (stderr), and stops it.

    Attributes:
        log: the log since the last start.
    """

    def __init__(self) -> None:
        self.log = ""
        self._more = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the program; subclasses know how."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start it; at the end of the block stop it if it still runs, even if it is frozen."""
        try:
            await self.start()
            yield self
        finally:
            if self._process is not None and self._process.returncode is None:
                self._send_signal(signal.SIGCONT)
                await self.stop()

    def first_child_or_none(self) -> int | None:
        """Return the id of its first child process, or None."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def first_child(self) -> int:
        """Return the id of its first child process."""
        child = self.first_child_or_none()
        assert child is not None
        return child

    async def ended(self, seconds: float = TIMEOUT_SECONDS) -> int:
        """Wait until it ends; return its exit code."""
        process, self._process = self._process, None
        assert process is not None
        async with asyncio.timeout(seconds):
            code = await process.wait()
        if self._reading is not None:
            await self._reading
        return code

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait until it ends; return its exit code."""
        self._send_signal(number)
        return await self.ended()

    async def wait_log(self, text: str, seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait until the log contains a text."""
        try:
            async with asyncio.timeout(seconds):
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
