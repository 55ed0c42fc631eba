"""The composition: builds every part and runs them together; with the command line the only place to know all faces."""

import asyncio
import gc
import logging
import resource
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from random import SystemRandom
from uuid import uuid4

from bridge import __version__
from bridge.config.settings import MqttSettings, Settings
from bridge.core.admission import Admission
from bridge.core.audit import AuditRecorder
from bridge.core.clock import Clock, StallDetector, read_boot_id
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.core.tasks import BackgroundTasks
from bridge.model.faults import UnavailableError
from bridge.mqtt.adapter import CoreServices, MqttAdapter
from bridge.net.listening import ListenError
from bridge.net.passwords import PasswordVerifier
from bridge.net.service_manager import notify_service_manager
from bridge.persons.outbox import Outbox
from bridge.persons.photos.preparation import PhotoPreparer
from bridge.persons.service import PersonService
from bridge.persons.timestamps import LocalTimezone
from bridge.store.audit import StoredAudit
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.instance_lock import instance_lock
from bridge.store.persons import StoredPersons
from bridge.store.photo_cipher import PhotoCipher
from bridge.store.photo_rotation import PhotoRotation
from bridge.store.terminals import StoredTerminals
from bridge.terminals.server import TerminalServer, TerminalServerLimits
from bridge.web.context import BridgeStatus, WebServices
from bridge.web.server import WebServer

_LOGGER = logging.getLogger(__name__)

_FIRST_BROKER = 5.0
"""Seconds that the ready line waits for the broker; one that is there answers in a fraction of one."""

_EMBEDDED = "embedded broker: for trying out only; person changes are lost when it stops"
"""The promise that does not hold with it (`B/bridge/info`, `warnings`)."""

_GARBAGE_THRESHOLDS = (20_000, 50, 100)
"""How rarely the cyclic collector runs once everything is built: with 5,000 terminals it halved the p99 of an open."""


class StartError(Exception):
    """The bridge cannot start; the message says why and what to do."""


class Bridge:
    """A running bridge, as `running_bridge` gives it."""

    def __init__(self, settings: Settings, terminals: TerminalServer, web: WebServer, mqtt: MqttAdapter) -> None:
        self.settings = settings
        self.terminals = terminals
        self.web = web
        self.mqtt = mqtt

    def describe(self) -> str:
        """Return the ready line: what listens where."""
        terminals, mqtt, web = self.settings.terminals, self.settings.mqtt, self.settings.web
        scheme = "ws" if terminals.tls is None else "wss"
        broker = f"MQTT {mqtt.host}:{mqtt.port}"
        if not self.mqtt.is_online:
            problems = [status.problem for status in self.mqtt.statuses.values() if status.problem]
            broker += f" not connected ({problems[0] if problems else 'still connecting'})"
        return (
            f"ready: terminals {scheme}://{_bracketed(terminals.host)}:{self.terminals.port}{terminals.path}/, "
            f"{broker}, web http://{_bracketed(web.host)}:{self.web.port}"
        )


async def run_bridge(settings: Settings, announce: Callable[[str], None]) -> None:
    """Run the bridge until SIGTERM or SIGINT.

    Args:
        settings: the configuration.
        announce: takes the lines that must be seen whatever the log's level.

    Raises:
        StartError: it cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        if settings.mqtt.host is None:
            settings = replace(settings, mqtt=await stack.enter_async_context(embedded_broker(settings.mqtt)))
            announce(f"using an embedded broker on 127.0.0.1:{settings.mqtt.port}, for trying out only: set mqtt.host")
            warnings: Sequence[str] = [_EMBEDDED]
        else:
            warnings = []
        bridge = await stack.enter_async_context(running_bridge(settings, warnings))
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_BROKER):
                stopping = loop.create_task(stop.wait())
                online = loop.create_task(bridge.mqtt.wait_online())
                await asyncio.wait((stopping, online), return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, online):
            task.cancel()
        announce(bridge.describe())
        notify_service_manager("READY=1")
        gc.freeze()
        gc.set_threshold(*_GARBAGE_THRESHOLDS)
        await stop.wait()
        notify_service_manager("STOPPING=1")
        _LOGGER.info("stopping")


@asynccontextmanager
async def embedded_broker(settings: MqttSettings) -> AsyncIterator[MqttSettings]:
    """Run an embedded broker; gives the settings that lead to it. Raises StartError."""
    from bridge.simulator.broker import EmbeddedBroker, EmbeddedBrokerError

    broker = EmbeddedBroker(settings.port)
    try:
        await broker.start()
    except EmbeddedBrokerError as error:
        raise StartError(f"{error}; set mqtt.host to use a broker of your own") from None
    try:
        yield replace(
            settings, host="127.0.0.1", port=broker.port, protocol="3.1.1", username=None, password=None, tls=None
        )
    finally:
        await broker.stop()


@asynccontextmanager
async def running_bridge(settings: Settings, warnings: Sequence[str] = ()) -> AsyncIterator[Bridge]:
    """Run every part; the broker of `settings.mqtt` may be away.

    Args:
        settings: the configuration, with a broker's host.
        warnings: promises that do not hold, for `B/bridge/info`.

    Raises:
        StartError: a part cannot start.
    """
    _allow_open_files()
    clock, events, random = Clock(), EventBus(), SystemRandom()
    registry = TerminalRegistry(events, clock)
    async with AsyncExitStack() as stack:
        cipher = PhotoCipher(settings.store.photo_key)
        try:
            await stack.enter_async_context(instance_lock(settings.store.url.reveal()))
            database = await Database.open(settings.store.url.reveal())
            stack.push_async_callback(database.close)
            rotation = PhotoRotation(database, cipher)
            await rotation.require_keys()
        except (StoreError, UnavailableError) as error:
            raise StartError(str(error)) from None
        # Ends after the roster, which may still tell last words.
        audit = AuditRecorder(StoredAudit(database), events, clock, settings.audit.keep_days)
        audit.start()
        stack.push_async_callback(audit.stop)
        verifier = PasswordVerifier()
        stack.callback(verifier.close)
        photos = PhotoPreparer(settings.photos.folders, settings.photos.max_bytes, settings.photos.size)
        stack.callback(photos.close)
        person_service = PersonService(
            registry,
            events,
            clock,
            StoredPersons(database, cipher),
            Outbox(database),
            photos,
            new_msgid,
            read_boot_id(),
            LocalTimezone(),
            random.random,
            remove_expired=settings.persons.remove_expired,
        )
        admission = Admission(
            registry,
            events,
            clock,
            StoredTerminals(database, clock.now),
            person_service,
            verifier,
            settings.terminals.admit,
        )
        presses = Presses(registry, events, clock, new_msgid, settings.commands.deadline)
        persons = PersonCommands(registry, events, clock, person_service)
        try:
            await admission.load(settings.terminals.known)
            await person_service.start()
        except UnavailableError as error:
            raise StartError(str(error)) from None
        stack.push_async_callback(_stop_roster, person_service)
        limits = TerminalServerLimits(deadline_seconds=settings.commands.deadline)
        terminals = TerminalServer(settings.terminals, registry, admission, verifier, clock, limits)
        core = CoreServices(
            registry=registry,
            presses=presses,
            persons=persons,
            admission=admission,
            person_service=person_service,
            outbox=person_service.outbox,
            events=events,
        )
        mqtt = MqttAdapter(
            settings.mqtt,
            settings.homeassistant,
            core,
            clock,
            random,
            lambda: secrets.token_hex(16),
            deadline=settings.commands.deadline,
            maximum_photo_bytes=settings.photos.max_bytes,
            page_url=settings.web.url,
            version=__version__,
            warnings=warnings,
        )
        stall = StallDetector(clock)
        web = WebServer(
            settings.web,
            WebServices(
                registry=registry,
                presses=presses,
                admission=admission,
                person_service=person_service,
                events=events,
                verify=verifier.verify,
            ),
            BridgeStatus(
                broker_statuses=lambda: {name: one.problem for name, one in mqtt.statuses.items()},
                store_reachable=database.reachable,
                queue_lengths=lambda: _queue_lengths(mqtt, terminals),
            ),
            clock,
            stall,
        )
        tasks = BackgroundTasks()
        stack.push_async_callback(tasks.stop)
        tasks.start(rotation.run(), name="encryption of photos")
        tasks.start(stall.run(), name="stall watch")
        # MQTT ends after the terminals' door, whose last `offline` it publishes.
        tasks.start(mqtt.run(), name="MQTT")
        try:
            await terminals.start()
            stack.push_async_callback(terminals.stop)
            await web.start()
            stack.push_async_callback(web.stop)
        except (ListenError, OSError) as error:
            raise StartError(str(error)) from None
        yield Bridge(settings, terminals, web, mqtt)


def new_msgid() -> str:
    """Make a message id, as the terminals' document shows them."""
    return str(uuid4())


async def _stop_roster(person_service: PersonService) -> None:
    try:
        await person_service.stop()
    except UnavailableError as error:
        _LOGGER.warning("the terminals' last answers could not be stored (%s); they are asked again", error)


def _queue_lengths(mqtt: MqttAdapter, terminals: TerminalServer) -> dict[str, int]:
    statistics = mqtt.statistics()
    return {
        "presses": statistics.presses_running,
        "intake": statistics.intake_waiting,
        "outbox": statistics.outbox_under_way,
        "retained": statistics.retained_unsent,
        "handshakes": terminals.statistics().half_open,
    }


def _allow_open_files() -> None:
    """Let as many terminals connect as the machine allows, not the 1,024 that a shell does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
