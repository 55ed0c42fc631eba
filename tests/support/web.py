"""The HTTP server with a real core, for tests from the outside."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any, Literal

import aiohttp

from bridge.config.settings import WebSettings
from bridge.core.admission import Admission, AdmissionServices
from bridge.core.bridge_warnings import BridgeWarnings
from bridge.core.clock import Clock, StallDetector
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import DesiredPersons
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.core.services import CoreServices
from bridge.core.tasks import BackgroundTasks
from bridge.model.audit import AuditFilter, AuditRecord
from bridge.model.bridge_summary import BridgeSummary
from bridge.model.secret import Secret
from bridge.net.passwords import PasswordVerifier, Verify
from bridge.persons.reading import PersonReader
from bridge.store.database import Database
from bridge.store.photos import PLAIN
from bridge.store.web_sessions import StoredSessions
from bridge.web.context import BridgeStatus, ReadAudit, WebLimits, WebServices
from bridge.web.page.context import PageServices, TerminalAccess
from bridge.web.server import WebServer
from tests.persons.person_system import PersonSystem
from tests.support.core import RecordingConnection, known_terminal, msgids
from tests.support.http_contract import HttpContractWatch
from tests.support.persons import NoPersons
from tests.support.terminals import InMemoryTerminals
from tests.support.waiting import TIMEOUT_SECONDS


class _NoDatabase(Database):
    """No store, for tests that need none: opening one for each takes longer than the test."""

    def __init__(self) -> None:
        pass

    async def read(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing was expected to be read from the store")


async def _no_audit(_wanted: AuditFilter, _before_id: int | None, _limit: int) -> tuple[Sequence[AuditRecord], int]:
    return [], 0


def _page_of_terminals(core: CoreServices, person_reader: PersonReader) -> PageServices:
    """Return the services of a page whose tests change no persons."""

    def unused(*_: Any) -> Any:
        raise AssertionError("the test was not expected to use this")

    access = TerminalAccess(port=lambda: 8765, path="/devs", is_encrypted=False, username="dev", password=None)
    return PageServices(
        core=core,
        terminal_access=access,
        person_reader=person_reader,
        prepare_photo=unused,
        max_photo_bytes=1_000_000,
        timezone=UTC,
        open_import_tools=unused,
        find_problems=unused,
        spool_folder=None,
        sessions=StoredSessions(_NoDatabase()),
    )


class WebServerUnderTest:
    """An HTTP server on a free port, and the parts of the core behind it: T1 and T2 are known, in the group lobby.

    T1 is connected, unless a running persons' service is given.

    Attributes:
        statuses: the problem of each connection to the broker.
        store_reachable: the check of the store for `/readyz`.
        verify: the verification of passwords and tokens.
        read_audit: the log.
        warnings: the warnings about the bridge.
        persons: the counts of persons.
    """

    def __init__(
        self,
        admit: Literal["known", "any"] = "known",
        deadline: float = 5,
        clock: Clock | None = None,
        limits: WebLimits | None = None,
        persons: PersonSystem | None = None,
        *,
        has_page: bool = False,
        **settings: Any,
    ) -> None:
        """Build the server.

        Args:
            admit: `terminals.admit`.
            deadline: `commands.deadline`.
            clock: the time.
            limits: of the server.
            persons: a running persons' service with its registry, events and clock; None: there are no persons.
            has_page: whether it also serves the pages of terminals.
            settings: the section `web` of the configuration.
        """
        values: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "url": None,
            "username": None,
            "password": None,
            "tokens": {},
        }
        self.events = EventBus() if persons is None else persons.events
        self.clock = clock or (Clock() if persons is None else persons.clock)
        self.registry = TerminalRegistry(self.events, self.clock) if persons is None else persons.registry
        self.registry.put(known_terminal("T1", name="Front door", groups=("lobby",)))
        self.registry.put(known_terminal("T2", groups=("lobby",)))
        self.connection = RecordingConnection(self.registry, "T1")
        if persons is None:
            self.registry.connected(self.connection)
        self.verifier = PasswordVerifier()
        self.persons = NoPersons()
        desired_persons: DesiredPersons = self.persons if persons is None else persons.person_service
        self.admission = Admission(
            self.registry,
            self.events,
            self.clock,
            AdmissionServices(terminals=InMemoryTerminals(), persons=desired_persons, hasher=self.verifier),
            admit,
        )
        self.stall = StallDetector(self.clock)
        self._tasks = BackgroundTasks()
        self.statuses: dict[str, str | None] = {"live": None, "intake": None}
        self.store_answers = True
        self.store_reachable: Callable[[], Awaitable[bool]] = self._store_answers
        self.warnings: list[str] = []
        self.verify: Verify = self.verifier.verify
        self.read_audit: ReadAudit = _no_audit
        core = CoreServices(
            clock=self.clock,
            events=self.events,
            registry=self.registry,
            presses=Presses(self.registry, self.events, self.clock, msgids(), deadline),
            persons=PersonCommands(self.registry, self.events, self.clock, desired_persons),
            desired_persons=desired_persons,
            admission=self.admission,
            warnings=BridgeWarnings(self.events, self.clock),
        )
        person_reader = PersonReader(_NoDatabase() if persons is None else persons.database, PLAIN)
        self.server = WebServer(
            WebSettings(**{**values, **settings}),
            WebServices(
                registry=self.registry,
                presses=core.presses,
                admission=self.admission,
                person_commands=core.persons,
                person_service=desired_persons,
                events=self.events,
                verify=self._verify,
                person_reader=person_reader,
                read_audit=self._read_audit,
                page=_page_of_terminals(core, person_reader) if has_page else None,
            ),
            BridgeStatus(
                broker_statuses=lambda: self.statuses,
                store_reachable=self._store_reachable,
                queue_lengths=lambda: {"presses": 3},
                summary=self._summary,
            ),
            self.clock,
            self.stall,
            limits,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[aiohttp.ClientSession]:
        self._tasks.start(self.stall.run(), name="stall detector")
        await self.server.start()
        try:
            watch = HttpContractWatch()
            async with aiohttp.ClientSession(self.url, middlewares=(watch,)) as session:
                yield session
            watch.check()
        finally:
            await self.server.stop()
            await self._tasks.stop()
            self.verifier.close()

    async def send(self, *parts: bytes) -> bytes:
        """Send bytes on a new connection, part by part; return all bytes of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.02)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await reader.read()
        finally:
            writer.close()

    async def _verify(self, stored: Secret, given: str) -> bool:
        return await self.verify(stored, given)

    def _summary(self) -> BridgeSummary:
        return BridgeSummary(
            version="1",
            started_at=self.clock.now(),
            protocol="5",
            known=len(self.registry),
            online=sum(known.connection is not None for known in self.registry),
            waiting=[(one.sn, one.address) for one in self.admission.pending],
            pending=0,
            refused=0,
            warnings=self.warnings,
        )

    async def _read_audit(
        self, wanted: AuditFilter, before_id: int | None, limit: int
    ) -> tuple[Sequence[AuditRecord], int]:
        return await self.read_audit(wanted, before_id, limit)

    async def _store_reachable(self) -> bool:
        return await self.store_reachable()

    async def _store_answers(self) -> bool:
        return self.store_answers
