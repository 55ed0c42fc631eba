"""A real Node-RED of the tests' own, its admin API, and what its editor is told of debug nodes."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.mosquitto import free_port

_PATIENCE = 120.0
"""Seconds; it starts in some three on an idle machine."""

_SETTINGS = {
    "uiHost": "127.0.0.1",
    "flowFile": "flows.json",
    "credentialSecret": "of the tests",
    "mqttReconnectTime": 300,
    "logging": {"console": {"level": "info", "metrics": False, "audit": False}},
    "editorTheme": {"tours": False},
    "telemetry": {"enabled": False, "updateNotification": False},
}
_STARTED = "Started flows"
_COMPLAINT = re.compile(r"^\d+ \S+ \d\d:\d\d:\d\d - \[(warn|error|fatal)\]", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """What a debug node has shown.

    Attributes:
        node_id: which one.
        text: what it showed.
    """

    node_id: str
    text: str


class NodeRed:
    """The process, on a folder of its own.

    It takes no part in the event loop: one may serve many tests, each with a loop of its own.

    Args:
        version: 4 or 5.
        folder: its user directory.
    """

    def __init__(self, version: str, folder: Path) -> None:
        self.port = free_port()
        self.shown: list[Shown] = []
        self.version = version
        self._folder = folder
        self._console = folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._more = asyncio.Event()
        (folder / "settings.js").write_text(f"module.exports = {json.dumps(_SETTINGS | {'uiPort': self.port})}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged since its start."""
        return self._console.read_text(errors="replace")

    def complaints(self, since: int = 0) -> Sequence[str]:
        """Return the warnings and errors it has logged, from a length of the log on."""
        return [line for line in self.log[since:].splitlines() if _COMPLAINT.match(line)]

    async def start(self) -> None:
        """Start it, and wait until it has."""
        name = f"NODE_RED_{self.version}"
        command = os.environ.get(name)
        assert command, f"{name} is not set; scripts/test --all makes a Node-RED and sets it"
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                [command, "-u", str(self._folder)], stdout=console, stderr=console, start_new_session=True
            )
        await self._until_logged(_STARTED, 1)

    async def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        self._signal(process, signal.SIGTERM)
        self._signal(process, signal.SIGCONT)
        try:
            await asyncio.to_thread(process.wait, 30)
        except subprocess.TimeoutExpired:
            self._signal(process, signal.SIGKILL)
            process.wait()

    def freeze(self) -> None:
        """Stop it where it is; its sockets stay open."""
        assert self._process is not None
        self._signal(self._process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._signal(self._process, signal.SIGCONT)

    async def deploy(self, nodes: Sequence[dict[str, Any]]) -> None:
        """Import these flows, and no others, and wait until they run."""
        before = self.log.count(_STARTED)
        headers = {"Node-RED-Deployment-Type": "full"}
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=True) as http,
            http.post("/flows", json=nodes, headers=headers),
        ):
            pass
        await self._until_logged(_STARTED, before + 1)

    async def flows(self) -> list[dict[str, Any]]:
        """Return what it says that it runs."""
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=True) as http,
            http.get("/flows") as answer,
        ):
            nodes: list[dict[str, Any]] = await answer.json()
            return nodes

    async def press(self, node_id: str) -> None:
        """Press the button of an inject node, as its editor does."""
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=True) as http,
            http.post(f"/inject/{node_id}"),
        ):
            pass

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Hear what debug nodes show, as its editor does; it is kept in `shown`."""
        self.shown.clear()
        self._more = asyncio.Event()
        async with (
            aiohttp.ClientSession(self.url) as http,
            http.ws_connect("/comms", max_msg_size=0) as websocket,
            asyncio.TaskGroup() as group,
        ):
            await websocket.send_json({"subscribe": "debug"})
            listening = group.create_task(self._listen(websocket))
            try:
                yield
            finally:
                listening.cancel()

    async def until_shown(self, matches: Callable[[Shown], object], what: str, *, number: int = 1) -> Shown:
        """Wait until debug nodes have shown something that matches, so many times, and return the last of it."""
        try:
            async with asyncio.timeout(_PATIENCE / 2):
                while True:
                    self._more.clear()
                    found = [shown for shown in self.shown if matches(shown)]
                    if len(found) >= number:
                        return found[number - 1]
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}, saw {self.shown}\n{self.log[-3000:]}") from None

    async def _listen(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in websocket:
            said = json.loads(message.data)
            for one in said if isinstance(said, list) else [said]:
                if one.get("topic") == "debug":
                    self.shown.append(Shown(one["data"]["id"], str(one["data"].get("msg"))))
                    self._more.set()

    async def until_logged_since(self, text: str, since: int) -> None:
        """Wait until the log, from a length of it on, holds a text."""
        async with asyncio.timeout(_PATIENCE):
            while text not in self.log[since:]:
                await asyncio.sleep(0.05)

    async def _until_logged(self, text: str, number: int) -> None:
        assert self._process is not None
        async with asyncio.timeout(_PATIENCE):
            while self.log.count(text) < number:
                assert self._process.poll() is None, self.log
                await asyncio.sleep(0.05)

    def _signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        os.killpg(process.pid, number)
