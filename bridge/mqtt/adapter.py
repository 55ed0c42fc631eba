"""The MQTT face: two connections to the broker, and what goes over each.

The live connection (clean start) carries presses, which must not be late, and everything the bridge publishes. The
intake connection (a session that the broker keeps) carries what must not get lost. Availability follows the live one:
doors open without the intake, and what is asked of it meanwhile waits at the broker in its session.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from bridge.config.settings import HomeAssistantSettings, MqttSettings
from bridge.core.admission import Admission
from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import PersonsPort
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.mqtt.bridge_info import BridgeInfo
from bridge.mqtt.client.connection import (
    ConnectionHandlers,
    ConnectionStatus,
    Message,
    MqttConnection,
    NotConnectedError,
    SessionOptions,
    SubscriptionRefusedError,
    Will,
)
from bridge.mqtt.command_reader import CommandReader
from bridge.mqtt.discovery.entities import Installation
from bridge.mqtt.discovery.names import node_of
from bridge.mqtt.discovery.publisher import Discovery
from bridge.mqtt.final_replies import OutboxPublisher
from bridge.mqtt.heartbeat import Heartbeat
from bridge.mqtt.intake import Intake
from bridge.mqtt.lease import Lease
from bridge.mqtt.live_commands import LiveCommands
from bridge.mqtt.publisher import Publisher
from bridge.mqtt.retained import RetainedTopics
from bridge.mqtt.terminal_states import OFFLINE, ONLINE, TerminalStates
from bridge.mqtt.topics import Topics
from bridge.persons.outbox import Outbox

_LOGGER = logging.getLogger(__name__)

_WAIT_FOR_INTAKE = 5.0
"""Seconds that `online` waits for the intake. Before its very first subscription the broker keeps nothing for it, and
whoever sees `online` may send persons; but a broker that refuses the intake must not keep doors shut."""

_WAIT_TO_BE_HEARD = 5.0
"""Seconds that the intake waits for the live connection, which carries its answers: at a start or after an outage both
come within that, and nobody's `accepted` falls between them. Longer than that, taking is more than telling."""

_GRACE_FOR_PRESSES = 1.0
_GRACE_FOR_TERMINALS = 2.5
_GRACE_FOR_BRIDGE = 0.5
"""Seconds at most, of the 5 within which the process ends (CONTRACT, section 2), that a clean stop gives presses that
wait for an answer, these and the terminals' `offline` together (ten thousand take 2 to 3), and then the bridge's."""

_REFUSED_PAUSE = 30.0
"""Seconds before a refused subscription is tried again: somebody has to change the broker's access rules first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreServices:
    """What the face calls and listens to."""

    registry: TerminalRegistry
    presses: Presses
    persons: PersonCommands
    admission: Admission
    person_service: PersonsPort
    outbox: Outbox
    events: EventBus


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttStatistics:
    """How much waits where, for metrics.

    Attributes:
        presses_running: presses that have yet to end.
        intake_waiting: messages that have arrived and are not taken up.
        intake_waiting_bytes: the bytes of their payloads.
        retained_unsent: retained topics that the broker does not hold as they should be.
        outbox_under_way: last words that the broker has yet to acknowledge.
    """

    presses_running: int
    intake_waiting: int
    intake_waiting_bytes: int
    retained_unsent: int
    outbox_under_way: int


class MqttAdapter:
    """Serves the hub over MQTT while `run` runs."""

    def __init__(
        self,
        settings: MqttSettings,
        homeassistant: HomeAssistantSettings,
        core: CoreServices,
        clock: Clock,
        random: Random,
        new_nonce: Callable[[], str],
        *,
        deadline: float,
        maximum_photo_bytes: int,
        page_url: str | None,
        version: str,
        warnings: Sequence[str] = (),
    ) -> None:
        """Build the face.

        Args:
            settings: of the broker, its `host` and `port` those of an embedded one where there is one.
            homeassistant: whether and where to publish discovery.
            core: what to serve.
            clock: that ages are read from.
            random: spreads attempts.
            new_nonce: makes the heartbeat's nonces, never the same twice.
            deadline: `commands.deadline`, in seconds.
            maximum_photo_bytes: `photos.max_bytes`.
            page_url: `web.url`.
            version: of the bridge.
            warnings: promises that do not hold as long as the process runs (an embedded broker, …).
        """
        topics = Topics(settings.base_topic, homeassistant.prefix)
        self._topics = topics
        self._lasting_warnings = tuple(warnings)
        self._live = MqttConnection(
            settings,
            SessionOptions(
                client_id=f"{settings.client_id}-live",
                will=Will(topic=topics.bridge_availability, payload=OFFLINE.decode()),
            ),
            ConnectionHandlers(
                on_message=self._live_received,
                on_connect=self._live_connected,
                on_disconnect=self._live_disconnected,
            ),
            clock,
            random,
        )
        self._intake_connection = MqttConnection(
            settings,
            SessionOptions(client_id=f"{settings.client_id}-intake", persistent=True),
            ConnectionHandlers(
                on_message=self._intake_received,
                on_connect=self._intake_connected,
                on_disconnect=self._intake_disconnected,
            ),
            clock,
            random,
        )
        lease = Lease(clock, deadline, new_nonce)
        gateway = CommandReader(topics, core.events, clock)
        self._heartbeat = Heartbeat(self._live, lease, topics.bridge_heartbeat)
        self._live_commands = LiveCommands(topics, gateway, core.presses, lease)
        self._intake = Intake(
            topics,
            gateway,
            core.persons,
            core.admission,
            self._intake_connection.acknowledge,
            self._wait_to_be_heard,
            random,
            maximum_photo_bytes,
        )
        self._outbox = OutboxPublisher(topics, self._live, core.outbox)
        self._retained = RetainedTopics(self._live)
        # Before the states: the entities of a forgotten terminal go before the topics they read.
        self._discovery: Discovery | None = None
        if homeassistant.discovery:
            installation = Installation(
                topics=topics, node=node_of(settings.base_topic), version=version, page_url=page_url
            )
            self._discovery = Discovery(
                installation, homeassistant.prefix, self._retained, core.registry, core.events, random
            )
        self._birth_topics = frozenset(self._discovery.birth_topics if self._discovery is not None else ())
        self._states = TerminalStates(topics, self._retained, core.registry, core.person_service, core.events, clock)
        self._info = BridgeInfo(
            topics,
            self._retained,
            core.registry,
            core.admission,
            core.person_service,
            core.events,
            clock,
            version,
            settings.protocol,
            self._warnings,
        )
        self._publisher = Publisher(topics, self._live, core.events, clock)
        self._can_be_heard = asyncio.Event()
        self._intake_ready = asyncio.Event()
        self._online = asyncio.Event()

    @property
    def is_online(self) -> bool:
        """Whether the broker holds `online` for the bridge, which then serves whoever presses."""
        return self._online.is_set()

    async def wait_online(self) -> None:
        """Wait until the broker holds `online` for the bridge."""
        await self._online.wait()

    @property
    def statuses(self) -> Mapping[str, ConnectionStatus]:
        """How each connection is, by its name."""
        return {"live": self._live.status, "intake": self._intake_connection.status}

    def statistics(self) -> MqttStatistics:
        """Return how much waits where, now."""
        return MqttStatistics(
            presses_running=self._live_commands.running,
            intake_waiting=self._intake.waiting,
            intake_waiting_bytes=self._intake.waiting_bytes,
            retained_unsent=self._retained.unsent,
            outbox_under_way=self._outbox.under_way,
        )

    async def run(self) -> None:
        """Serve until cancelled; then say goodbye and disconnect, within three seconds."""
        if self._discovery is not None:
            await self._discovery.start()
        await self._states.start()
        self._info.publish()
        async with asyncio.TaskGroup() as connections:
            running = [
                connections.create_task(self._live.run(), name="MQTT live connection"),
                connections.create_task(self._intake_connection.run(), name="MQTT intake connection"),
                connections.create_task(self._retained.run(), name="MQTT retained topics"),
            ]
            try:
                async with asyncio.TaskGroup() as work:
                    work.create_task(self._heartbeat.run(), name="MQTT heartbeat")
                    work.create_task(self._intake.run(), name="MQTT intake")
                    work.create_task(self._outbox.run(), name="MQTT outbox")
                    work.create_task(self._states.run(), name="MQTT terminal states")
                    work.create_task(self._info.run(), name="MQTT bridge info")
                    if self._discovery is not None:
                        work.create_task(self._discovery.run(), name="Home Assistant discovery")
            finally:
                await self._say_goodbye()
                for task in running:
                    task.cancel()

    async def _say_goodbye(self) -> None:
        give_up_at = asyncio.get_running_loop().time() + _GRACE_FOR_TERMINALS
        await self._live_commands.stop(_GRACE_FOR_PRESSES)
        self._online.clear()
        self._states.stop()
        if not self._live.status.connected:
            return
        try:
            async with asyncio.timeout_at(give_up_at):
                await self._retained.wait_settled()
        except TimeoutError:
            _LOGGER.warning("stopping before the broker has taken every terminal's offline")
        try:
            async with asyncio.timeout(_GRACE_FOR_BRIDGE):
                await self._live.publish(self._topics.bridge_availability, OFFLINE, retain=True)
        except (TimeoutError, NotConnectedError):
            _LOGGER.warning("stopping before the broker has taken the bridge's offline")

    def _live_received(self, message: Message) -> None:
        if message.topic == self._topics.bridge_heartbeat:
            self._heartbeat.received(message)
        elif self._discovery is not None and message.topic in self._birth_topics:
            self._discovery.received(message)
        else:
            self._live_commands.received(message, protocol5=self._live.protocol5)

    async def _wait_to_be_heard(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_TO_BE_HEARD):
                await self._can_be_heard.wait()

    async def _live_connected(self) -> None:
        self._can_be_heard.set()
        await self._subscribe(self._live, [self._topics.bridge_heartbeat, *self._topics.urgent_commands])
        if self._birth_topics:
            try:
                await self._live.subscribe(sorted(self._birth_topics))
            except SubscriptionRefusedError as error:
                _LOGGER.warning("the broker refuses %s: Home Assistant's start goes unnoticed", error.topic)
        await self._heartbeat.wait_ready()
        self._outbox.connected()
        self._info.publish()
        self._retained.connected()
        await self._retained.wait_settled()
        try:
            async with asyncio.timeout(_WAIT_FOR_INTAKE):
                await self._intake_ready.wait()
        except TimeoutError:
            _LOGGER.warning("serving presses without the intake: person changes wait at the broker")
        await self._live.publish(self._topics.bridge_availability, ONLINE, retain=True)
        self._online.set()
        self._info.refresh()

    def _live_disconnected(self) -> None:
        self._online.clear()
        self._can_be_heard.clear()
        self._outbox.disconnected()
        self._retained.disconnected()

    def _intake_received(self, message: Message) -> None:
        self._intake.received(message)

    async def _intake_connected(self) -> None:
        await self._subscribe(self._intake_connection, self._topics.lasting_commands)
        self._intake_ready.set()
        self._info.refresh()

    def _intake_disconnected(self) -> None:
        self._intake_ready.clear()
        self._intake.disconnected()
        self._info.refresh()

    async def _subscribe(self, connection: MqttConnection, filters: Sequence[str]) -> None:
        while True:
            try:
                return await connection.subscribe(filters)
            except SubscriptionRefusedError as error:
                _LOGGER.warning(
                    "the broker refuses the subscription to %s: its access rules must allow it", error.topic
                )
                await asyncio.sleep(_REFUSED_PAUSE)

    def _warnings(self) -> Sequence[str]:
        warnings = list(self._lasting_warnings)
        if not self._intake_ready.is_set():
            problem = self._intake_connection.status.problem or "not subscribed yet"
            warnings.append(f"person changes are not taken now (intake connection: {problem})")
        return warnings
