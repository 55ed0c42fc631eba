"""The HTTP server with a hub behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp

from bridge.config.settings import WebSettings
from bridge.core.admission import Admission
from bridge.core.clock import Clock, StallDetector
from bridge.core.event_bus import EventBus
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.core.tasks import BackgroundTasks
from bridge.net.passwords import PasswordVerifier
from bridge.web.server import WebServer
from tests.support.core import WrittenConnection, known_terminal, msgids
from tests.support.persons import NoPersons
from tests.support.terminals import KeptTerminals
from tests.support.waiting import PATIENCE


class Site:
    """T1 is connected, T2 is known."""

    def __init__(
        self,
        admit: Literal["known", "any"] = "known",
        deadline: float = 5,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        values: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "url": None,
            "username": None,
            "password": None,
            "tokens": {},
        }
        self.events = EventBus()
        self.clock = clock or Clock()
        self.registry = TerminalRegistry(self.events, self.clock)
        self.registry.put(known_terminal("T1", name="Front door", groups=("lobby",)))
        self.registry.put(known_terminal("T2", groups=("lobby",)))
        self.connection = WrittenConnection(self.registry, "T1")
        self.registry.connected(self.connection)
        self.verifier = PasswordVerifier()
        self.admission = Admission(
            self.registry, self.events, self.clock, KeptTerminals(), NoPersons(), self.verifier, admit
        )
        self.stall = StallDetector(self.clock)
        self._tasks = BackgroundTasks()
        self.statuses: dict[str, str | None] = {"live": None, "intake": None}
        self.store_answers = True
        self.server = WebServer(
            WebSettings(**{**values, **settings}),
            registry=self.registry,
            presses=Presses(self.registry, self.events, self.clock, msgids(), deadline),
            admission=self.admission,
            person_service=NoPersons(),
            events=self.events,
            clock=self.clock,
            stall=self.stall,
            verify=self.verifier.verify,
            store_reachable=self._store_reachable,
            broker_statuses=lambda: self.statuses,
            queue_lengths=lambda: {"presses": 3},
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[aiohttp.ClientSession]:
        self._tasks.start(self.stall.run(), name="stall watch")
        await self.server.start()
        try:
            async with aiohttp.ClientSession(self.url) as session:
                yield session
        finally:
            await self.server.stop()
            await self._tasks.stop()
            self.verifier.close()

    async def send(self, *parts: bytes) -> bytes:
        """Send bytes over a connection of their own, part after part; return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.02)
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()

    async def _store_reachable(self) -> bool:
        return self.store_answers
