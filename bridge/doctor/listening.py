"""Observation of the broker: its retained messages, and the messages of some seconds."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from bridge.doctor.probe import BrokerAccess
from bridge.mqtt.client.messages import Message
from bridge.mqtt.topics import Topics

_QUIET_SECONDS = 0.5
"""After this time without a retained message all of them have arrived; brokers send them at once."""
_MAX_ARRIVAL_SECONDS = 10.0
"""Limit of that wait: 10,000 states take one second."""

_MAX_TOPICS = 100_000
"""Topics that are remembered: some for each of ten thousand terminals, and a bound on what others can cost."""
_MAX_EVENTS = 1_000
"""Events that are remembered. Findings contain only counts and the first few."""

_STATISTICS = (
    "version",
    "uptime",
    "messages/stored",
    "store/messages/count",
    "publish/messages/dropped",
    "clients/connected",
    "clients/disconnected",
)
"""Topics below Mosquitto's `$SYS/broker/` (mosquitto(8))."""


@dataclass(slots=True)
class Observations:
    """What was observed at the broker.

    Attributes:
        seconds: the length of the observation.
        values: the last payload of each topic, commands excepted.
        retained: those topics of `values` that held a retained message at the beginning.
        commands: for each command topic the number of retained messages.
        refused: for each refused subscription the broker's reason.
        heartbeats: number of heartbeats.
        flaps: number of changes of the bridge's availability, the first value excepted.
        started: all values of `started_at` in `bridge/info`.
        connected: for each terminal all values of `connected_at` in its state.
        came_online: for each terminal how often its availability changed to `online`.
        events: the bridge's events.
        statistics: Mosquitto's statistics by name.
    """

    seconds: float = 0.0
    values: dict[str, bytes] = field(default_factory=dict)
    retained: set[str] = field(default_factory=set)
    commands: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    heartbeats: int = 0
    flaps: int = 0
    started: set[str] = field(default_factory=set)
    connected: dict[str, set[str]] = field(default_factory=dict)
    came_online: Counter[str] = field(default_factory=Counter)
    events: list[dict[str, Any]] = field(default_factory=list)
    statistics: dict[str, str] = field(default_factory=dict)

    def json(self, topic: str) -> dict[str, Any]:
        """Return a topic's last payload as an object; empty if it is not one."""
        return _object(self.values.get(topic, b""))


async def listen(
    access: BrokerAccess, birth_topics: Sequence[str], discovery_topic: str, seconds: float
) -> Observations:
    """Observe the broker.

    Args:
        access: the broker.
        birth_topics: the topics of Home Assistant's birth message.
        discovery_topic: the topic of the bridge's own device in Home Assistant's discovery.
        seconds: the length of the observation.

    Raises:
        NotConnectedError: the connection ended.
    """
    topics = Topics(access.settings.base_topic)
    observed = Observations(seconds=seconds)
    await _read_retained_commands(access, topics, observed)
    states = [topics.terminal_availability("+"), topics.terminal_state("+")]
    of_bridge = [topics.bridge_availability, topics.bridge_info, topics.bridge_event, topics.bridge_heartbeat]
    collector = _Collector(topics, observed)
    async with access.probe("ear", on_message=collector.add) as probe:
        wanted = [*states, *of_bridge, *birth_topics, discovery_topic]
        _note_refused(observed, wanted, await probe.subscribe(wanted))
        # The statistics are optional: a refusal is not noted.
        await probe.subscribe([f"$SYS/broker/{name}" for name in _STATISTICS], qos=0)
        await asyncio.sleep(seconds)
    return observed


async def _read_retained_commands(access: BrokerAccess, topics: Topics, observed: Observations) -> None:
    """Count the retained messages on command topics. Commands that are published meanwhile are ignored."""
    arrived = asyncio.Event()

    def add(message: Message) -> None:
        if not message.retain:
            # A command that is published now. It must not prolong the wait for the retained ones.
            return
        arrived.set()
        if message.payload and len(observed.commands) < _MAX_TOPICS:
            observed.commands[message.topic] += 1

    loop = asyncio.get_running_loop()
    end = loop.time() + _MAX_ARRIVAL_SECONDS
    async with access.probe("commands", on_message=add) as probe:
        wanted = [*topics.urgent_commands, *topics.lasting_commands]
        _note_refused(observed, wanted, await probe.subscribe(wanted))
        with suppress(TimeoutError):
            while loop.time() < end:
                arrived.clear()
                async with asyncio.timeout(_QUIET_SECONDS):
                    await arrived.wait()


def _note_refused(observed: Observations, topics: Sequence[str], refusals: Sequence[str | None]) -> None:
    observed.refused |= {topic: why for topic, why in zip(topics, refusals, strict=False) if why is not None}


class _Collector:
    """Adds received messages to the observations."""

    def __init__(self, topics: Topics, observed: Observations) -> None:
        self._topics = topics
        self._observed = observed
        self._terminals = f"{topics.base}/terminal/"

    def add(self, message: Message) -> None:
        observed, topic = self._observed, message.topic
        if topic.startswith("$SYS/broker/"):
            observed.statistics[topic.removeprefix("$SYS/broker/")] = message.payload.decode(errors="replace")[:100]
        elif topic == self._topics.bridge_heartbeat:
            observed.heartbeats += 1
        elif topic == self._topics.bridge_event:
            if len(observed.events) < _MAX_EVENTS:
                observed.events.append(_object(message.payload))
        elif len(observed.values) < _MAX_TOPICS or topic in observed.values:
            self._add_value(message)

    def _add_value(self, message: Message) -> None:
        observed, topic = self._observed, message.topic
        is_new = topic not in observed.values
        before, observed.values[topic] = observed.values.get(topic), message.payload
        if is_new and message.retain:
            observed.retained.add(topic)
        if topic == self._topics.bridge_availability:
            observed.flaps += before not in (None, message.payload)
        elif topic == self._topics.bridge_info:
            observed.started.add(str(_object(message.payload).get("started_at")))
        elif topic.startswith(self._terminals):
            sn, _, name = topic.removeprefix(self._terminals).partition("/")
            if name == "state":
                connected_at = _object(message.payload).get("connected_at")
                if connected_at is not None:
                    observed.connected.setdefault(sn, set()).add(str(connected_at))
            elif message.payload == b"online" and before == b"offline":
                observed.came_online[sn] += 1


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
