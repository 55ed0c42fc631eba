"""A Node-RED process for tests, with its admin API and the messages that its debug nodes show."""

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

from tests.support.ports import free_port

_TIMEOUT_SECONDS = 120.0
"""Node-RED starts in about three seconds on an idle machine."""

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
_WARNING_LINE = re.compile(r"^\d+ \S+ \d\d:\d\d:\d\d - \[(warn|error|fatal)\]", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """A message that a debug node has shown.

    Attributes:
        node_id: the debug node.
        text: the message as text.
    """

    node_id: str
    text: str


class NodeRed:
    """A Node-RED process with a user directory of its own.

    The object is bound to no event loop: one process can serve many tests, each with its own loop.

    Args:
        version: the major version, 4 or 5.
        folder: the user directory.

    Attributes:
        shown: the messages of debug nodes since `watched` was entered.
    """

    def __init__(self, version: str, folder: Path) -> None:
        self.port = free_port()
        self.shown: list[Shown] = []
        self.version = version
        self._folder = folder
        self._console = folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._changed = asyncio.Event()
        (folder / "settings.js").write_text(f"module.exports = {json.dumps(_SETTINGS | {'uiPort': self.port})}")

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """The log since the start."""
        return self._console.read_text(errors="replace")

    def warnings(self, since: int = 0) -> Sequence[str]:
        """Return the lines with warnings and errors after the first `since` characters of the log."""
        return [line for line in self.log[since:].splitlines() if _WARNING_LINE.match(line)]

    async def start(self) -> None:
        """Start the process and wait until its flows run."""
        name = f"NODE_RED_{self.version}"
        command = os.environ.get(name)
        assert command, f"{name} is not set: run scripts/test --all, which installs a Node-RED and sets it"
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                [command, "-u", str(self._folder)], stdout=console, stderr=console, start_new_session=True
            )
        await self._wait_logged_often(_STARTED, 1)

    async def stop(self) -> None:
        """Stop the process."""
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
        """Suspend the process; its sockets stay open."""
        assert self._process is not None
        self._signal(self._process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        assert self._process is not None
        self._signal(self._process, signal.SIGCONT)

    async def deploy(self, nodes: Sequence[dict[str, Any]]) -> None:
        """Replace all flows by these nodes and wait until they run."""
        before = self.log.count(_STARTED)
        headers = {"Node-RED-Deployment-Type": "full"}
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=True) as http,
            http.post("/flows", json=nodes, headers=headers),
        ):
            pass
        await self._wait_logged_often(_STARTED, before + 1)

    async def flows(self) -> list[dict[str, Any]]:
        """Return the nodes that are deployed."""
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=True) as http,
            http.get("/flows") as answer,
        ):
            nodes: list[dict[str, Any]] = await answer.json()
            return nodes

    async def press(self, node_id: str) -> None:
        """Press the button of an inject node, as the editor does."""
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=True) as http,
            http.post(f"/inject/{node_id}"),
        ):
            pass

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Receive the messages of debug nodes, as the editor does, and keep them in `shown`."""
        self.shown.clear()
        self._changed = asyncio.Event()
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

    async def wait_shown(self, matches: Callable[[Shown], object], description: str, *, number: int = 1) -> Shown:
        """Wait for the `number`-th message of a debug node that matches, and return it."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS / 2):
                while True:
                    self._changed.clear()
                    found = [shown for shown in self.shown if matches(shown)]
                    if len(found) >= number:
                        return found[number - 1]
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"timeout while waiting for {description}; shown: {self.shown}\n{self.log[-3000:]}"
            ) from None

    async def _listen(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in websocket:
            received = json.loads(message.data)
            for one in received if isinstance(received, list) else [received]:
                if one.get("topic") == "debug":
                    self.shown.append(Shown(one["data"]["id"], str(one["data"].get("msg"))))
                    self._changed.set()

    async def wait_logged(self, text: str, since: int) -> None:
        """Wait until the log after its first `since` characters contains a text."""
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            while text not in self.log[since:]:
                await asyncio.sleep(0.05)

    async def _wait_logged_often(self, text: str, number: int) -> None:
        assert self._process is not None
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            while self.log.count(text) < number:
                assert self._process.poll() is None, self.log
                await asyncio.sleep(0.05)

    def _signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        os.killpg(process.pid, number)
