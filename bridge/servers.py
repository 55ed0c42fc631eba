"""The servers of the running bridge: for terminals, for HTTP, and for the command line.

`bridge/app.py` imports this module while the broker is being connected. It imports aiohttp and the page, which takes a
third of the processor time of a start.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from bridge.cli.store_session import open_store
from bridge.config.settings import Settings
from bridge.control.server import ControlServer
from bridge.core.clock import StallDetector
from bridge.core.replies import ReplyDispatcher
from bridge.core.services import CoreServices
from bridge.model.faults import UnavailableError
from bridge.mqtt.adapter import MqttAdapter
from bridge.net.passwords import PasswordVerifier
from bridge.persons.preparation import PhotoPreparer
from bridge.persons.reading import PersonReader
from bridge.persons.timestamps import LocalTimezone
from bridge.store.audit import StoredAudit
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.photos import PhotoCipher
from bridge.store.web_sessions import StoredSessions
from bridge.terminals.server import TerminalServer, TerminalServerLimits
from bridge.web.context import BridgeStatus, WebLimits, WebServices
from bridge.web.page.checks import HealthFinding
from bridge.web.page.context import PageServices, TerminalAccess
from bridge.web.page.import_jobs import ImportTools
from bridge.web.server import WebServer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """The parts of the bridge that its servers use.

    Attributes:
        settings: the configuration.
        core: the core.
        database: the store.
        cipher: encrypts photos.
        client_suffix: the random suffix in the store.
        verifier: verifies passwords.
        photos: converts incoming pictures.
        stall_detector: bounds the age of HTTP requests.
        mqtt: the connections to the broker.
    """

    settings: Settings
    core: CoreServices
    database: Database
    cipher: PhotoCipher
    client_suffix: str
    verifier: PasswordVerifier
    photos: PhotoPreparer
    stall_detector: StallDetector
    mqtt: MqttAdapter


class Servers:
    """The servers of a bridge."""

    def __init__(self, context: ServerContext) -> None:
        core, settings = context.core, context.settings
        limits = TerminalServerLimits(deadline_seconds=settings.commands.deadline)
        self.terminals = TerminalServer(
            settings.terminals, core.registry, core.admission, context.verifier, core.clock, limits
        )
        self.web = _build_web(context, self.terminals)
        replies = ReplyDispatcher(core.events, core.clock)
        self._control = ControlServer(context.client_suffix, core.registry, core.admission, replies)

    async def start(self, stack: AsyncExitStack) -> None:
        """Start the servers; the stack stops them in reverse order.

        Raises:
            ListenError: an address, the certificate or a password cannot be used.
            UnavailableError: the store cannot be used.
        """
        for server in (self.terminals, self.web, self._control):
            await server.start()
            stack.push_async_callback(server.stop)


def _build_web(context: ServerContext, terminals: TerminalServer) -> WebServer:
    core, mqtt, database = context.core, context.mqtt, context.database
    services = WebServices(
        registry=core.registry,
        presses=core.presses,
        admission=core.admission,
        person_commands=core.persons,
        person_service=core.desired_persons,
        events=core.events,
        verify=context.verifier.verify,
        person_reader=PersonReader(database, context.cipher),
        read_audit=StoredAudit(database).page,
        page=_build_page(context, terminals),
    )
    status = BridgeStatus(
        broker_statuses=lambda: {name: one.problem for name, one in mqtt.statuses.items()},
        store_reachable=database.reachable,
        queue_lengths=lambda: _queue_lengths(mqtt, terminals),
        summary=mqtt.summary,
    )
    limits = WebLimits(max_photo_bytes=context.settings.photos.max_bytes)
    return WebServer(context.settings.web, services, status, core.clock, context.stall_detector, limits)


def _build_page(context: ServerContext, terminals: TerminalServer) -> PageServices:
    settings = context.settings.terminals
    access = TerminalAccess(
        port=lambda: terminals.port,
        path=settings.path,
        is_encrypted=settings.tls is not None,
        username=settings.username,
        password=settings.password,
    )
    return PageServices(
        core=context.core,
        terminal_access=access,
        person_reader=PersonReader(context.database, context.cipher),
        prepare_photo=context.photos.prepare,
        max_photo_bytes=context.settings.photos.max_bytes,
        timezone=LocalTimezone(),
        sessions=StoredSessions(context.database),
        open_import_tools=lambda: _import_tools(context.settings),
        find_problems=lambda: _find_problems(context.settings, terminals.port),
        spool_folder=context.settings.store.folder,
    )


async def _find_problems(settings: Settings, terminals_port: int) -> list[HealthFinding]:
    """Return what the doctor finds. Raises UnavailableError."""
    from bridge.doctor.separate import find_in_process

    settings = replace(settings, terminals=replace(settings.terminals, port=terminals_port))
    return [HealthFinding(**finding.as_json()) for finding in await find_in_process(settings)]


@asynccontextmanager
async def _import_tools(settings: Settings) -> AsyncIterator[ImportTools]:
    """Open the tools of an import. It works beside the bridge, as the command line does. Raises UnavailableError."""
    photos = PhotoPreparer(settings.photos.folders, settings.photos.max_bytes, settings.photos.size)
    try:
        async with open_store(settings, "page") as store:
            yield ImportTools(context=store.context, photos=photos)
    except StoreError as error:
        raise UnavailableError(str(error)) from None
    finally:
        photos.close()


def _queue_lengths(mqtt: MqttAdapter, terminals: TerminalServer) -> dict[str, int]:
    statistics = mqtt.statistics()
    return {
        "presses": statistics.presses_running,
        "intake": statistics.intake_waiting,
        "outbox": statistics.outbox_in_flight,
        "retained": statistics.retained_unsent,
        "handshakes": terminals.statistics().half_open,
    }
