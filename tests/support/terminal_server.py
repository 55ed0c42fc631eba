"""The terminal server with a real core, for tests from the outside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import trustme
from argon2 import PasswordHasher as Argon2

from bridge.config.settings import ServerTlsSettings, TerminalsSettings
from bridge.core.admission import Admission, AdmissionServices
from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal
from bridge.net.passwords import PasswordVerifier
from bridge.terminals.server import TerminalServer, TerminalServerLimits
from tests.support.persons import NoPersons
from tests.support.terminals import InMemoryTerminals

USERNAME, PASSWORD = "dev", "123"
PASSWORD_HASH = Argon2(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
"""A hash that is verified in less than a millisecond, also on a busy machine."""
AUTHORIZATION = aiohttp.encode_basic_auth(USERNAME, PASSWORD)


def issue_certificate(folder: Path, authority: trustme.CA, host: str = "127.0.0.1") -> ServerTlsSettings:
    """Write a certificate and its key into a folder."""
    issued = authority.issue_cert(host)
    issued.private_key_pem.write_to_path(folder / "server.key")
    issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
    return ServerTlsSettings(certificate=folder / "server.pem", key=folder / "server.key")


class TerminalServerUnderTest:
    """A terminal server on a free port, and the parts of the core behind it.

    Args:
        known: the known terminals.
        password: of the terminals' common login; None for no common login.
        deadline: `commands.deadline` in seconds.
        trusted_proxies: addresses or networks.
        limits: of the server, by name.
        settings: other values of `TerminalsSettings`, by name.
    """

    def __init__(
        self,
        *known: Terminal,
        password: str | None = PASSWORD,
        deadline: float = 5,
        trusted_proxies: tuple[str, ...] = (),
        limits: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        defaults: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "path": "/devs",
            "tls": None,
            "username": USERNAME if password else None,
            "password": Secret(password) if password else None,
            "admit": "known",
            "idle_timeout": 90.0,
            "trusted_proxies": tuple(ip_network(one) for one in trusted_proxies),
            "forward_messages": False,
            "known": known,
        }
        values = TerminalsSettings(**{**defaults, **settings})
        clock = Clock()
        self.clock = clock
        self.events = EventBus()
        self.registry = TerminalRegistry(self.events, clock)
        self.verifier = PasswordVerifier()
        self.store = InMemoryTerminals()
        self.persons = NoPersons()
        self.admission = Admission(
            self.registry,
            self.events,
            clock,
            AdmissionServices(terminals=self.store, persons=self.persons, hasher=self.verifier),
            values.admit,
        )
        for terminal in known:
            self.registry.put(terminal)
        self.presses = Presses(self.registry, self.events, clock, lambda: uuid4().hex, deadline)
        server_limits = TerminalServerLimits(deadline_seconds=deadline, **(limits or {}))
        self.server = TerminalServer(values, self.registry, self.admission, self.verifier, clock, server_limits)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/devs"

    @property
    def terminal_url(self) -> str:
        return f"ws://{USERNAME}:{PASSWORD}@127.0.0.1:{self.server.port}/devs/"

    @asynccontextmanager
    async def open(self) -> AsyncIterator["TerminalServerUnderTest"]:
        await self.server.start()
        try:
            yield self
        finally:
            await self.server.stop()
            self.verifier.close()
