"""The app as its container runs it, and a stand-in for the Supervisor."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.logged_process import LoggedProcess
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS

TOKEN = "f00d" * 16


class SupervisorStandIn:
    """Answers `/services/mqtt` as the Supervisor does (supervisor/api/services.py and its security middleware).

    Args:
        address: to listen on.
        port: None for a free one.

    Attributes:
        service: the MQTT service that an app provides; None for none.
        not_ready: the number of requests that are answered like those to a starting Supervisor.
        broken: the number of connections that are reset instead of an answer.
        requests: the number of requests so far.
    """

    def __init__(self, address: str = "127.0.0.1", port: int | None = None) -> None:
        self.address = address
        self.port = port or free_port()
        self.service: dict[str, Any] | None = None
        self.not_ready = 0
        self.broken = 0
        self.requests = 0
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SupervisorStandIn"]:
        application = web.Application()
        application.router.add_get("/services/mqtt", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.address, self.port).start()
            yield self
        finally:
            await runner.cleanup()

    async def wait_requests(self, times: int) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while self.requests < times:
                self._changed.clear()
                await self._changed.wait()

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        self._changed.set()
        if self.broken:
            self.broken -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.not_ready:
            self.not_ready -= 1
            return _error(400, "System is not ready with state: startup")
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPForbidden
        if self.service is None:
            return _error(400, "Service not enabled")
        return web.json_response({"result": "ok", "data": self.service})


def mqtt_service(
    port: int, username: str = "addons", password: str = "from-the-supervisor", host: str = "127.0.0.1"
) -> dict[str, Any]:
    """Return the service of the Mosquitto broker app."""
    return {
        "host": host, "port": port, "ssl": False, "protocol": "3.1.1", "username": username,
        "password": password, "addon": "core_mosquitto",
    }  # fmt: skip


def shown_password(log: str) -> str:
    """Return the password for terminals that an app's log shows."""
    found = re.search(r"^    password  (\S+)$", log, re.MULTILINE)
    assert found is not None, log
    return found[1]


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"result": "error", "message": message}, status=status)


class AppProcess(LoggedProcess):
    """`python -m bridge.home_assistant_app run` with a temporary `/data`."""

    def __init__(self, data: Path, supervisor: str, options: Any, token: str | None = TOKEN) -> None:
        super().__init__()
        self.data = data
        self.terminals_port, self.web_port = free_port(), free_port()
        self._supervisor = supervisor
        self._token = token
        data.mkdir(exist_ok=True)
        self.write_options(options)

    def write_options(self, options: Any) -> None:
        (self.data / "options.json").write_text(options if isinstance(options, str) else json.dumps(options))
        (self.data / "options.json").chmod(0o600)

    async def start(self, *prefix: str) -> None:
        """Start the app; the arguments are a command that runs it."""
        await self._start(
            *prefix, *self._arguments("run", "--supervisor", self._supervisor), environment=self._environment()
        )

    async def command(self, word: str) -> tuple[int, str]:
        """Run a command in the container as Home Assistant does; return its exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *self._arguments(word),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=self._environment(),
        )  # fmt: skip
        async with asyncio.timeout(TIMEOUT_SECONDS):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    def shown_password(self) -> str:
        """Return the password for terminals that the log shows."""
        return shown_password(self.log)

    def _arguments(self, *command: str) -> list[str]:
        return [
            sys.executable, "-m", "bridge.home_assistant_app", "--data", str(self.data),
            "--own-files", str(self.data), "--terminals-port", str(self.terminals_port),
            "--web-port", str(self.web_port), *command,
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        token = {} if self._token is None else {"SUPERVISOR_TOKEN": self._token}
        return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path), **token}
