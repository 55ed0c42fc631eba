"""The soak's terminals: each a process on a host of its own, which can be stopped, disconnected and cut off."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import orjson

from tests.support.network import Host
from tests.support.soak.clock import now
from tests.support.soak.wire_tap import wire_tap
from tests.support.waiting import TIMEOUT_SECONDS

_WRONG_ADDRESS = "02:00:00:00:00:01"
"""A hardware address that no host has. Packets to it are lost on the way without an error at the sender."""

_SLOW_LINK = ("tbf", "rate", "8mbit", "burst", "32kb", "latency", "400ms")
"""A photo of 0.5 MB takes half a second."""


class TerminalHost:
    """A terminal's process and its host.

    Attributes:
        sn: the serial number.
        stopped: for each time that the process was stopped, when it was stopped and when it continued.
        cut_off: likewise for faults of the cable.

    Args:
        sn: the serial number.
        is_slow: whether its link has the speed of a bad radio link.
        carried_out: is called with serial number, msgid and time of each press that the terminal has carried out.
        arrived: likewise for each press that its host has received.
    """

    def __init__(
        self,
        sn: str,
        *,
        is_slow: bool,
        carried_out: Callable[[str, str, float], None],
        arrived: Callable[[str, str, float], None],
    ) -> None:
        self.sn = sn
        self.stopped: list[tuple[float, float]] = []
        self.cut_off: list[tuple[float, float]] = []
        self._host = Host()
        self._is_slow = is_slow
        self._carried_out = carried_out
        self._arrived = arrived
        self._process: asyncio.subprocess.Process | None = None
        self._reports: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._report_numbers = count()

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator["TerminalHost"]:
        """Create the host, and run the terminal against the bridge on this port."""
        async with self._host.linked() as host:
            if self._is_slow:
                _run("tc", "qdisc", "add", "dev", f"v{host.name}", "root", *_SLOW_LINK)
            with wire_tap(host.name, self._arrived):
                self._process = process = await asyncio.create_subprocess_exec(
                    "ip", "netns", "exec", host.name, sys.executable, "-m", "tests.support.soak.terminal_program",
                    f"ws://dev:123@{host.outside}:{port}/devs/", self.sn,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**20,
                )  # fmt: skip
                reading = asyncio.get_running_loop().create_task(self._read())
                try:
                    yield self
                finally:
                    assert process.stdin is not None
                    process.stdin.close()
                    try:
                        async with asyncio.timeout(TIMEOUT_SECONDS):
                            await process.wait()
                    except TimeoutError:
                        process.kill()
                        await process.wait()
                    await reading

    def send(self, **command: object) -> None:
        """Send the program a command; a stopped one reads it later."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(command) + b"\n")

    async def report(self) -> dict[str, Any]:
        """Return what the terminal holds and has counted."""
        number = next(self._report_numbers)
        report: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._reports[number] = report
        self.send(report=number)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await report

    async def stop_for(self, seconds: float) -> None:
        """Stop the program; its kernel continues to receive."""
        assert self._process is not None
        since = now()
        self._process.send_signal(signal.SIGSTOP)
        self.stopped.append((since, float("inf")))
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)
            self.stopped[-1] = since, now()

    async def pull_cable_for(self, seconds: float) -> None:
        """Lose packets in both directions, with the interfaces down."""
        since = now()
        self.cut_off.append((since, float("inf")))
        self._host.pull()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._host.plug()
            self.cut_off[-1] = since, now()

    async def lose_packets_for(self, seconds: float, *, to_terminal: bool) -> None:
        """Lose packets in one direction."""
        host = self._host
        if to_terminal:
            neighbour = ["ip", "neigh", "replace", host.inside, "dev", f"v{host.name}"]
            remove = ["ip", "neigh", "del", host.inside, "dev", f"v{host.name}"]
        else:
            neighbour = ["ip", "-n", host.name, "neigh", "replace", host.outside, "dev", "eth0"]
            remove = ["ip", "-n", host.name, "neigh", "del", host.outside, "dev", "eth0"]
        since = now()
        self.cut_off.append((since, float("inf")))
        _run(*neighbour, "lladdr", _WRONG_ADDRESS, "nud", "permanent")
        try:
            await asyncio.sleep(seconds)
        finally:
            _run(*remove)
            self.cut_off[-1] = since, now()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = orjson.loads(line)
            if "request" in message:
                request = message["request"]
                if request["cmd"] in ("open", "reboot"):
                    self._carried_out(self.sn, request["msgid"], request["at"])
            else:
                self._reports.pop(message["report"]).set_result(message)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
