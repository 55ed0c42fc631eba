"""The MQTT adapter: two connections to the broker, and the parts that use them.

The live connection (clean start) carries presses, which must not be late, and everything that the bridge publishes.
The intake connection (persistent session) carries the commands that must not get lost. Only the live connection sets
the bridge's availability: presses work without the intake, whose commands meanwhile wait in its session at the broker.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from bridge.config.settings import HomeAssistantSettings, MqttSettings
from bridge.core.repeated_presses import RepeatedPresses
from bridge.core.replies import ReplyDispatcher
from bridge.core.services import CoreServices
from bridge.model.bridge_summary import BridgeSummary
from bridge.mqtt.bridge_info import BridgeDescription, BridgeInfo
from bridge.mqtt.client.connection import (
    ConnectionHandlers,
    ConnectionStatus,
    Message,
    MqttConnection,
    NotConnectedError,
    Publication,
    SessionOptions,
    SubscriptionRefusedError,
    Will,
)
from bridge.mqtt.command_reader import CommandReader
from bridge.mqtt.discovery.devices import Installation
from bridge.mqtt.discovery.names import node_of
from bridge.mqtt.discovery.publisher import Discovery
from bridge.mqtt.intake import Intake, intake_rules
from bridge.mqtt.lease import Heartbeat, Lease
from bridge.mqtt.live_commands import LiveCommands, press_rules
from bridge.mqtt.message_forwarding import MessageForwarder
from bridge.mqtt.publisher import OutboxPublisher, Publisher
from bridge.mqtt.retained import RetainedTopics
from bridge.mqtt.terminal_states import OFFLINE, ONLINE, TerminalStates
from bridge.mqtt.topics import Topics
from bridge.persons.outbox import Outbox

_LOGGER = logging.getLogger(__name__)

_INTAKE_TIMEOUT_SECONDS = 5.0
"""`online` waits for the intake this long. Before the intake's very first subscription the broker keeps nothing for it,
and clients that see `online` may send persons. But a broker that refuses the intake must not keep doors shut."""

_LIVE_TIMEOUT_SECONDS = 5.0
"""The intake waits for the live connection this long, because the live connection carries its replies: at a start or
after an outage both connect within this time, and no `accepted` gets lost in between. After that, accept commands now,
although their replies cannot be published yet."""

_PRESSES_GRACE_SECONDS = 1.0
_TERMINALS_GRACE_SECONDS = 2.5
_BRIDGE_GRACE_SECONDS = 0.5
"""The limits of a clean stop, within the 5 seconds in which the process ends (docs/operation.md): for presses that wait
for an answer; for these and the terminals' `offline` together (ten thousand take 2 to 3 seconds); for the bridge's
`offline`."""

_REFUSED_PAUSE_SECONDS = 30.0
"""Before a refused subscription is tried again: an administrator must change the broker's access rules first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOptions:
    """The parts of the configuration that the adapter uses.

    Attributes:
        mqtt: the broker; `host` and `port` are those of the embedded broker if there is one.
        homeassistant: whether and where to publish discovery.
        deadline: `commands.deadline`, in seconds.
        max_photo_bytes: `photos.max_bytes`.
        forward_messages: `terminals.forward_messages`.
        client_suffix: end of the client ids; random, so that no other user of the broker can take a session over.
    """

    mqtt: MqttSettings
    homeassistant: HomeAssistantSettings
    deadline: float
    max_photo_bytes: int
    client_suffix: str
    forward_messages: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttStatistics:
    """The lengths of the adapter's queues, for metrics.

    Attributes:
        presses_running: presses in progress.
        intake_waiting: messages that have arrived and are not being handled.
        intake_waiting_bytes: the size of their payloads.
        retained_unsent: retained topics whose payload is not published yet.
        outbox_in_flight: final replies that the broker has not acknowledged.
    """

    presses_running: int
    intake_waiting: int
    intake_waiting_bytes: int
    retained_unsent: int
    outbox_in_flight: int


class MqttAdapter:
    """Connects the core to an MQTT broker while `run` runs."""

    def __init__(
        self,
        options: MqttOptions,
        description: BridgeDescription,
        core: CoreServices,
        outbox: Outbox,
        random: Random,
    ) -> None:
        """Build the adapter.

        Args:
            options: the configuration.
            description: what it publishes about the bridge.
            core: the core.
            outbox: the final replies to publish.
            random: makes the heartbeat's nonces, which others must not guess, and spreads attempts.
        """
        self._topics = topics = Topics(options.mqtt.base_topic, options.homeassistant.prefix)
        self._bridge_warnings = core.warnings
        # QoS 2, so that the bridge notices a press that was published with it. The embedded broker delivers with the
        # QoS of the subscription, so every press would look like that.
        self._press_qos = 1 if options.mqtt.is_embedded else 2
        self._live = MqttConnection(
            options.mqtt,
            SessionOptions(
                client_id=f"{options.mqtt.client_id}-live-{options.client_suffix}",
                will=Will(topic=topics.bridge_availability, payload=OFFLINE.decode()),
            ),
            ConnectionHandlers(
                on_message=self._live_received,
                on_connect=self._live_connected,
                on_disconnect=self._live_disconnected,
            ),
            core.clock,
            random,
        )
        self._intake_connection = MqttConnection(
            options.mqtt,
            SessionOptions(
                client_id=f"{options.mqtt.client_id}-intake-{options.client_suffix}",
                persistent=True,
            ),
            ConnectionHandlers(
                on_message=self._intake_received,
                on_connect=self._intake_connected,
                on_disconnect=self._intake_disconnected,
            ),
            core.clock,
            random,
        )
        replies = ReplyDispatcher(core.events, core.clock)
        lease = Lease(core.clock, options.deadline, lambda: f"{random.getrandbits(128):032x}")
        self._heartbeat = Heartbeat(self._live, lease, topics.bridge_heartbeat)
        press_reader = CommandReader(topics, replies, press_rules(options.mqtt.protocol), urgent=True)
        self._live_commands = LiveCommands(press_reader, core.presses, lease, RepeatedPresses(core.clock))
        self._intake = Intake(
            CommandReader(topics, replies, intake_rules(options.max_photo_bytes), urgent=False),
            core.persons,
            core.admission,
            self._intake_connection.acknowledge,
            self._wait_for_live,
            random,
        )
        self._outbox = OutboxPublisher(topics, self._live, outbox)
        self._retained = RetainedTopics(self._live)
        # Before the states: the entities of a forgotten terminal are removed before the topics that they read.
        self._discovery: Discovery | None = None
        if options.homeassistant.discovery:
            installation = Installation(
                topics=topics,
                node=node_of(options.mqtt.base_topic),
                version=description.version,
                page_url=description.page_url,
                send_time=options.homeassistant.send_time,
            )
            self._discovery = Discovery(
                installation, options.homeassistant.prefix, self._retained, core.registry, core.events, random
            )
        self._birth_topics = frozenset(self._discovery.birth_topics if self._discovery is not None else ())
        self._states = TerminalStates(
            topics, self._retained, core.registry, core.desired_persons, core.events, core.clock
        )
        self._info = BridgeInfo(
            topics, self._retained, core, description.version, options.mqtt.protocol, self._warnings
        )
        self._publisher = Publisher(topics, self._live, core.events, core.clock)
        if options.forward_messages:
            MessageForwarder(topics, self._live, core.events, core.clock)
        self._live_is_connected = asyncio.Event()
        self._intake_ready = asyncio.Event()
        self._online = asyncio.Event()

    def summary(self) -> BridgeSummary:
        """Return what `B/bridge/info` contains."""
        return self._info.summary()

    @property
    def is_online(self) -> bool:
        """Whether the broker holds `online` for the bridge, which then carries out presses."""
        return self._online.is_set()

    async def wait_online(self) -> None:
        """Wait until the broker holds `online` for the bridge."""
        await self._online.wait()

    @property
    def statuses(self) -> Mapping[str, ConnectionStatus]:
        """The status of each connection, by its name."""
        return {"live": self._live.status, "intake": self._intake_connection.status}

    def statistics(self) -> MqttStatistics:
        """Return the present lengths of the queues."""
        return MqttStatistics(
            presses_running=self._live_commands.running,
            intake_waiting=self._intake.waiting,
            intake_waiting_bytes=self._intake.waiting_bytes,
            retained_unsent=self._retained.unsent,
            outbox_in_flight=self._outbox.in_flight,
        )

    async def run(self) -> None:
        """Serve until cancelled; then publish `offline` and disconnect, within three seconds."""
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
                await self._publish_offline()
                for task in running:
                    task.cancel()

    async def _publish_offline(self) -> None:
        give_up_at = asyncio.get_running_loop().time() + _TERMINALS_GRACE_SECONDS
        await self._live_commands.stop(_PRESSES_GRACE_SECONDS)
        self._online.clear()
        self._states.stop()
        if not self._live.status.connected:
            return
        try:
            async with asyncio.timeout_at(give_up_at):
                await self._retained.wait_settled()
        except TimeoutError:
            _LOGGER.warning("stopping before the broker has acknowledged every terminal's offline")
        try:
            async with asyncio.timeout(_BRIDGE_GRACE_SECONDS):
                await self._live.publish(Publication(self._topics.bridge_availability, OFFLINE, retain=True))
        except (TimeoutError, NotConnectedError):
            _LOGGER.warning("stopping before the broker has acknowledged the bridge's offline")

    def _live_received(self, message: Message) -> None:
        if message.topic == self._topics.bridge_heartbeat:
            self._heartbeat.received(message)
        elif self._discovery is not None and message.topic in self._birth_topics:
            self._discovery.received(message)
        else:
            self._live_commands.received(message)

    async def _wait_for_live(self) -> None:
        if self._live_is_connected.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LIVE_TIMEOUT_SECONDS):
                await self._live_is_connected.wait()

    async def _live_connected(self) -> None:
        self._live_is_connected.set()
        self._publisher.connected()
        await self._subscribe(self._live, [self._topics.bridge_heartbeat])
        await self._subscribe(self._live, self._topics.urgent_commands, qos=self._press_qos)
        with suppress(SubscriptionRefusedError):
            # Older access rules do not allow it; then such a press has no reply.
            await self._live.subscribe(self._topics.incomplete_commands)
        if self._birth_topics:
            try:
                await self._live.subscribe(sorted(self._birth_topics))
            except SubscriptionRefusedError as error:
                _LOGGER.warning(
                    "the broker refuses the subscription to %s: the bridge does not notice a start of Home Assistant",
                    error.topic,
                )
        await self._heartbeat.wait_ready()
        self._outbox.connected()
        self._info.publish()
        self._retained.connected()
        await self._retained.wait_settled()
        try:
            async with asyncio.timeout(_INTAKE_TIMEOUT_SECONDS):
                await self._intake_ready.wait()
        except TimeoutError:
            _LOGGER.warning("accepting presses without the intake: person changes wait at the broker")
        await self._live.publish(Publication(self._topics.bridge_availability, ONLINE, retain=True))
        self._online.set()
        self._info.refresh()

    def _live_disconnected(self) -> None:
        self._online.clear()
        self._live_is_connected.clear()
        self._heartbeat.disconnected()
        self._outbox.disconnected()
        self._retained.disconnected()

    def _intake_received(self, message: Message) -> None:
        self._intake.received(message)

    async def _intake_connected(self) -> None:
        if not self._intake_connection.session_present:
            await self._intake.session_began()
        await self._subscribe(self._intake_connection, self._topics.lasting_commands)
        self._intake_ready.set()
        self._info.refresh()

    def _intake_disconnected(self) -> None:
        self._intake_ready.clear()
        self._intake.disconnected()
        self._info.refresh()

    async def _subscribe(self, connection: MqttConnection, filters: Sequence[str], qos: int = 1) -> None:
        while True:
            try:
                return await connection.subscribe(filters, qos)
            except SubscriptionRefusedError as error:
                _LOGGER.warning(
                    "the broker refuses the subscription to %s: its access rules must allow it", error.topic
                )
                await asyncio.sleep(_REFUSED_PAUSE_SECONDS)

    def _warnings(self) -> Sequence[str]:
        warnings = list(self._bridge_warnings.texts)
        if not self._intake_ready.is_set():
            problem = self._intake_connection.status.problem or "not subscribed yet"
            warnings.append(f"person changes are not accepted now (intake connection: {problem})")
        return warnings
