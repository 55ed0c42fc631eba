"""The terminals' door with a hub behind it, for tests from the outside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Literal
from uuid import uuid4

from bridge.config.settings import ServerTlsSettings, TerminalsSettings
from bridge.core.admission import Admission
from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal
from bridge.net.passwords import PasswordVerifier
from bridge.terminals.server import TerminalServer
from tests.support.persons import NoPersons
from tests.support.terminals import KeptTerminals

USERNAME, PASSWORD = "dev", "123"


class House:
    """What the tests look at."""

    def __init__(
        self,
        *known: Terminal,
        admit: Literal["known", "any"] = "known",
        password: str | None = PASSWORD,
        idle_timeout: float = 90,
        deadline: float = 5,
        tls: ServerTlsSettings | None = None,
        trusted_proxies: tuple[str, ...] = (),
        host: str = "127.0.0.1",
    ) -> None:
        settings = TerminalsSettings(
            host=host,
            port=0,
            path="/devs",
            tls=tls,
            username=USERNAME if password else None,
            password=Secret(password) if password else None,
            admit=admit,
            idle_timeout=idle_timeout,
            trusted_proxies=tuple(ip_network(one) for one in trusted_proxies),
            known=known,
        )
        clock = Clock()
        self.clock = clock
        self.events = EventBus()
        self.registry = TerminalRegistry(self.events, clock)
        self.verifier = PasswordVerifier()
        self.store = KeptTerminals()
        self.admission = Admission(
            self.registry, self.events, clock, self.store, NoPersons(), self.verifier, settings.admit
        )
        for terminal in known:
            self.registry.put(terminal)
        self.presses = Presses(self.registry, self.events, clock, lambda: uuid4().hex, deadline)
        self.server = TerminalServer(settings, self.registry, self.admission, self.verifier, clock, deadline)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/devs"

    @property
    def terminal_url(self) -> str:
        return f"ws://{USERNAME}:{PASSWORD}@127.0.0.1:{self.server.port}/devs/"

    @asynccontextmanager
    async def open(self) -> AsyncIterator["House"]:
        await self.server.start()
        try:
            yield self
        finally:
            await self.server.stop()
            self.verifier.close()
