"""The composition of the running bridge: build all parts, start them in order and stop them in reverse order.

It imports what the connection to the broker needs, and `bridge/servers.py` after that connection has begun.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from random import SystemRandom
from typing import TYPE_CHECKING

from bridge import __version__
from bridge.config.settings import MqttSettings, Settings
from bridge.core.admission import Admission, AdmissionServices
from bridge.core.audit import AuditRecorder
from bridge.core.bridge_warnings import BridgeWarnings
from bridge.core.clock import Clock, StallDetector, read_boot_id
from bridge.core.door_names import named_doors
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.core.reply_log import ReplyLog
from bridge.core.services import CoreServices
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import PhotoDamaged, StorePartDamaged
from bridge.model.faults import UnavailableError
from bridge.mqtt.adapter import MqttAdapter, MqttOptions
from bridge.mqtt.bridge_info import BridgeDescription
from bridge.net.listening import ListenError, require_free_port
from bridge.net.passwords import PasswordVerifier
from bridge.net.service_manager import notify_service_manager
from bridge.persons.outbox import Outbox
from bridge.persons.preparation import PhotoPreparer
from bridge.persons.service import PersonOptions, PersonService
from bridge.persons.timestamps import LocalTimezone
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.store.audit import StoredAudit
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.instance_lock import instance_lock
from bridge.store.integrity import IntegrityCheck
from bridge.store.mqtt_client import stored_client_suffix
from bridge.store.photos import PhotoCipher, PhotoRotation
from bridge.store.terminals import StoredTerminals

if TYPE_CHECKING:
    from bridge.servers import Servers

_LOGGER = logging.getLogger(__name__)

_BROKER_TIMEOUT_SECONDS = 5.0
"""The ready line waits for the broker this long; a reachable broker answers in a fraction of a second."""

_EMBEDDED_BROKER_WARNING = "embedded broker: for trying out only; person changes are lost when it stops"
"""Published in `B/bridge/info` as a promise that does not hold."""

_PROTOCOL_3_WARNING = (
    "mqtt.protocol is 3.1.1: a retained press without asked_at that another broker forwards looks new, and opens the "
    'door each time the brokers reconnect; use mqtt.protocol "5"'
)
"""Published in the same place. Over 3.1.1 a broker clears the retain flag of a message that it forwards at once."""

_GARBAGE_THRESHOLDS = (20_000, 50, 100)
"""The cyclic garbage collector runs rarely after the start: with 5,000 terminals this halved the p99 of an open."""

_SWITCH_SECONDS = 0.0005
"""The event loop gets the interpreter back from the threads of the store and of photos within this time. With Python's
5 ms, an open that met them at each of its system calls took up to 79 ms while photos came in."""


class StartError(Exception):
    """The bridge cannot start; the message names the cause and the remedy."""


class Bridge:
    """A running bridge, as `running_bridge` yields it."""

    def __init__(self, settings: Settings, servers: "Servers", mqtt: MqttAdapter) -> None:
        self.settings = settings
        self.terminals = servers.terminals
        self.web = servers.web
        self.mqtt = mqtt

    def describe(self) -> str:
        """Return the ready line: the addresses of the servers and the broker."""
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
        announce: prints a line at any log level.

    Raises:
        StartError: the bridge cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        warnings: dict[str, str] = {}
        if settings.mqtt.host is None:
            settings = replace(settings, mqtt=await stack.enter_async_context(embedded_broker(settings.mqtt)))
            announce(f"using an embedded broker on 127.0.0.1:{settings.mqtt.port}, for trying out only: set mqtt.host")
            warnings["embedded broker"] = _EMBEDDED_BROKER_WARNING
        elif settings.mqtt.protocol == "3.1.1":
            warnings["protocol 3.1.1"] = _PROTOCOL_3_WARNING
        bridge = await stack.enter_async_context(running_bridge(settings, warnings))
        await _wait_for_broker(bridge.mqtt, stop)
        announce(bridge.describe())
        notify_service_manager("READY=1")
        tune_interpreter()
        await stop.wait()
        notify_service_manager("STOPPING=1")
        _LOGGER.info("stopping")


def tune_interpreter() -> None:
    """Set the garbage collector and thread switches for a bridge that has started."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)


async def _wait_for_broker(mqtt: MqttAdapter, stop: asyncio.Event) -> None:
    """Wait until the bridge is online or must stop, but not longer than the timeout."""
    loop = asyncio.get_running_loop()
    tasks = (loop.create_task(stop.wait()), loop.create_task(mqtt.wait_online()))
    try:
        await asyncio.wait(tasks, timeout=_BROKER_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def embedded_broker(settings: MqttSettings) -> AsyncIterator[MqttSettings]:
    """Run an embedded broker; yield the settings that connect to it. Raises StartError."""
    from bridge.simulator.broker import EmbeddedBroker, EmbeddedBrokerError

    broker = EmbeddedBroker(settings.port)
    try:
        await broker.start()
    except EmbeddedBrokerError as error:
        raise StartError(f"{error}; set mqtt.host to use a broker of your own") from None
    try:
        yield replace(
            settings,
            host="127.0.0.1",
            port=broker.port,
            protocol="3.1.1",
            username=None,
            password=None,
            tls=None,
            is_embedded=True,
        )
    finally:
        await broker.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Basis:
    """What every step of the composition uses.

    Attributes:
        settings: the configuration.
        stack: stops the parts in reverse order of their start.
        clock: the machine's clock.
        random: the system's random numbers.
        events: publishes the events of all parts.
        registry: the known terminals.
        verifier: verifies and hashes passwords.
        photos: converts incoming pictures.
        warnings: the promises that do not hold now.
    """

    settings: Settings
    stack: AsyncExitStack
    clock: Clock
    random: SystemRandom
    events: EventBus
    registry: TerminalRegistry
    verifier: PasswordVerifier
    photos: PhotoPreparer
    warnings: BridgeWarnings


@dataclass(frozen=True, slots=True)
class _Store:
    database: Database
    cipher: PhotoCipher
    rotation: PhotoRotation
    client_suffix: str
    integrity: IntegrityCheck


@asynccontextmanager
async def running_bridge(settings: Settings, warnings: Mapping[str, str] | None = None) -> AsyncIterator[Bridge]:
    """Run every part; the broker of `settings.mqtt` may be down.

    Args:
        settings: the configuration, with a broker's host.
        warnings: promises that do not hold from the start, by name, for `B/bridge/info`.

    Raises:
        StartError: a part cannot start.
    """
    _raise_open_files_limit()
    async with AsyncExitStack() as stack:
        basis = _build_basis(settings, stack)
        for name, text in (warnings or {}).items():
            basis.warnings.set(name, text)
        stack.enter_context(named_doors(basis.registry))
        try:
            store = await _open_store(basis)
            # It stops after the persons, whose last final replies it still records.
            _start_audit(basis, store)
            person_service = _build_persons(basis, store)
            core = _build_core(basis, store, person_service)
            await core.admission.load(settings.terminals.known)
            await person_service.start()
        except (StoreError, UnavailableError) as error:
            raise StartError(settings.store.named(str(error))) from None
        stack.callback(ReplyLog(core.events, core.registry).flush)
        stack.push_async_callback(_stop_persons, person_service)
        mqtt = _build_mqtt(basis, store, core, person_service.outbox)
        tasks = BackgroundTasks()
        stack.push_async_callback(tasks.stop)
        tasks.start(store.rotation.run(), name="encryption of photos")
        tasks.start(store.integrity.run(), name="integrity check of the store")
        try:
            # A bridge that cannot start must not connect to the broker: another one may use the same topics.
            await require_free_port(settings.terminals.host, settings.terminals.port, key="terminals.port")
            await require_free_port(settings.web.host, settings.web.port, key="web.port")
            # It stops after the terminals' server, because it publishes the last `offline` of that server's terminals.
            tasks.start(mqtt.run(), name="MQTT")
            # In a thread, because heartbeats must not wait for the import.
            await asyncio.to_thread(import_module, "bridge.servers")
            # The import makes the event loop stall, but no request can have arrived before the servers listen.
            stall_detector = StallDetector(basis.clock)
            tasks.start(stall_detector.run(), name="event-loop stall detector")
            servers = _build_servers(basis, store, core, stall_detector, mqtt)
            await servers.start(stack)
        except (ListenError, OSError, UnavailableError) as error:
            raise StartError(str(error)) from None
        yield Bridge(settings, servers, mqtt)


def _build_basis(settings: Settings, stack: AsyncExitStack) -> _Basis:
    clock, events = Clock(), EventBus()
    verifier = PasswordVerifier()
    stack.callback(verifier.close)
    photos = PhotoPreparer(settings.photos.folders, settings.photos.max_bytes, settings.photos.size)
    stack.callback(photos.close)
    return _Basis(
        settings=settings,
        stack=stack,
        clock=clock,
        random=SystemRandom(),
        events=events,
        registry=TerminalRegistry(events, clock),
        verifier=verifier,
        photos=photos,
        warnings=BridgeWarnings(events, clock),
    )


async def _open_store(basis: _Basis) -> _Store:
    """Lock and open the store. Raises StoreError and UnavailableError."""
    settings = basis.settings.store
    cipher = PhotoCipher(settings.photo_key)
    await basis.stack.enter_async_context(instance_lock(settings.url.reveal()))
    database = await Database.open(settings.url.reveal())
    basis.stack.push_async_callback(database.close)
    database.watch_writes(partial(_report_store_writes, basis.warnings))
    integrity = IntegrityCheck(database, cipher, basis.clock.now, partial(basis.warnings.set, "damaged store"))
    basis.events.subscribe(PhotoDamaged, lambda event: integrity.photo_damaged(event.sha256), name="integrity check")
    basis.events.subscribe(StorePartDamaged, lambda _: integrity.part_damaged(), name="integrity check")
    await integrity.begin()
    basis.stack.push_async_callback(integrity.end)
    rotation = PhotoRotation(database, cipher)
    await rotation.require_keys()
    client_suffix = await stored_client_suffix(database, f"{basis.random.getrandbits(64):016x}")
    return _Store(database, cipher, rotation, client_suffix, integrity)


def _report_store_writes(warnings: BridgeWarnings, problem: str | None) -> None:
    """Log, and publish as a warning, that the store cannot be written to, or that it can be again."""
    if problem is None:
        _LOGGER.info("the store can be written to again")
        warnings.set("store writes", None)
    else:
        _LOGGER.error("changes cannot be stored now: %s", problem)
        warnings.set("store writes", f"changes cannot be stored now: {problem}")


def _start_audit(basis: _Basis, store: _Store) -> None:
    audit = AuditRecorder(StoredAudit(store.database), basis.events, basis.clock, basis.settings.audit.keep_days)
    audit.start()
    basis.stack.push_async_callback(audit.stop)


def _build_persons(basis: _Basis, store: _Store) -> PersonService:
    settings = basis.settings
    context = PersonContext(
        database=store.database, cipher=store.cipher, events=basis.events, clock=basis.clock, boot_id=read_boot_id()
    )
    options = PersonOptions(timezone=LocalTimezone(), remove_expired_days=settings.persons.remove_expired)
    transactions = TransactionRunner(context)
    return PersonService(basis.registry, transactions, basis.photos, options, new_msgid, basis.random.random)


def _build_core(basis: _Basis, store: _Store, person_service: PersonService) -> CoreServices:
    settings, registry, events, clock = basis.settings, basis.registry, basis.events, basis.clock
    services = AdmissionServices(
        terminals=StoredTerminals(store.database, clock.now), persons=person_service, hasher=basis.verifier
    )
    return CoreServices(
        clock=clock,
        events=events,
        registry=registry,
        presses=Presses(registry, events, clock, new_msgid, settings.commands.deadline),
        persons=PersonCommands(registry, events, clock, person_service),
        desired_persons=person_service,
        admission=Admission(registry, events, clock, services, settings.terminals.admit),
        warnings=basis.warnings,
    )


def _build_mqtt(basis: _Basis, store: _Store, core: CoreServices, outbox: Outbox) -> MqttAdapter:
    settings = basis.settings
    options = MqttOptions(
        mqtt=settings.mqtt,
        homeassistant=settings.homeassistant,
        deadline=settings.commands.deadline,
        max_photo_bytes=settings.photos.max_bytes,
        client_suffix=store.client_suffix,
        forward_messages=settings.terminals.forward_messages,
    )
    description = BridgeDescription(version=__version__, page_url=settings.web.url)
    return MqttAdapter(options, description, core, outbox, basis.random)


def _build_servers(
    basis: _Basis, store: _Store, core: CoreServices, stall_detector: StallDetector, mqtt: MqttAdapter
) -> "Servers":
    from bridge.servers import ServerContext, Servers

    context = ServerContext(
        settings=basis.settings,
        core=core,
        database=store.database,
        cipher=store.cipher,
        client_suffix=store.client_suffix,
        verifier=basis.verifier,
        photos=basis.photos,
        stall_detector=stall_detector,
        mqtt=mqtt,
    )
    return Servers(context)


_IDS_AT_ONCE = 256
"""Message ids whose random bytes are read together: a system call for each id takes 25 microseconds (measured)."""


def _message_ids() -> Iterator[str]:
    """Yield random UUIDs (RFC 9562, version 4). `uuid.UUID` takes five times as long."""
    while True:
        random = os.urandom(16 * _IDS_AT_ONCE).hex()
        for start in range(0, len(random), 32):
            one = random[start : start + 32]
            variant = "89ab"[int(one[16], 16) & 0b11]
            yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{variant}{one[17:20]}-{one[20:]}"


_MESSAGE_IDS = _message_ids()


def new_msgid() -> str:
    """Return a new message id, in the form of the examples in docs/protocol.md. No terminal can guess another's."""
    return next(_MESSAGE_IDS)


async def _stop_persons(person_service: PersonService) -> None:
    try:
        await person_service.stop()
    except UnavailableError as error:
        _LOGGER.warning("the terminals' last answers could not be stored (%s): the changes are sent again", error)


def _raise_open_files_limit() -> None:
    """Raise the limit of open files to the machine's maximum; a shell's 1,024 would limit the terminals."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
