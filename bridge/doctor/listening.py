"""Hears what lies on the broker and what goes over it for a while."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from bridge.doctor.probe import ReceivedMessage
from bridge.doctor.trials import BrokerAccess
from bridge.mqtt.topics import Topics

_QUIET = 0.5
"""Seconds without a message after which all that was retained has come; brokers send it at once."""
_LONGEST_ARRIVAL = 10.0
"""Seconds that it may take all the same: 10,000 states take one."""

_MAXIMUM = 100_000
"""Topics that are remembered: some for each of ten thousand terminals, and a bound to what others can cost."""
_MAXIMUM_EVENTS = 1_000
"""Events that are remembered; what is told of them are counts and the first few."""

_SYS = (
    "version",
    "uptime",
    "messages/stored",
    "store/messages/count",
    "publish/messages/dropped",
    "clients/connected",
    "clients/disconnected",
)
"""Of Mosquitto's `$SYS/broker/…`; mosquitto.conf(5) and mosquitto(8)."""


@dataclass(slots=True)
class Observations:
    """What was heard.

    Attributes:
        seconds: for how long was listened.
        values: the last payload of each topic that is not a command's.
        retained: those of them that were retained when listening began.
        commands: how often something was retained on which command topic.
        refused: why which subscription was refused.
        heartbeats: how many were heard.
        flaps: how often the bridge's availability changed after listening began.
        started: every `started_at` that `bridge/info` had.
        connected: every `connected_at` that each terminal's state had.
        came_online: how often each terminal's availability turned `online` after listening began.
        events: those of the bridge.
        sys: Mosquitto's figures by name.
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
    sys: dict[str, str] = field(default_factory=dict)

    def json(self, topic: str) -> dict[str, Any]:
        """Return a topic's last payload as an object; empty for what is none."""
        return _object(self.values.get(topic, b""))


async def listen(
    access: BrokerAccess, birth_topics: Sequence[str], discovery_topic: str, seconds: float
) -> Observations:
    """Listen.

    Args:
        access: to the broker.
        birth_topics: where Home Assistant says that it is there.
        discovery_topic: where the bridge's own device is retained.
        seconds: for how long.

    Raises:
        NotConnectedError: the broker went.
    """
    topics = Topics(access.settings.base_topic)
    heard = Observations(seconds=seconds)
    await _hear_commands(access, topics, heard)
    states = [topics.terminal_availability("+"), topics.terminal_state("+")]
    of_bridge = [topics.bridge_availability, topics.bridge_info, topics.bridge_event, topics.bridge_heartbeat]
    ear = _Ear(topics, heard)
    async with access.probing("ear", on_message=ear.take) as probe:
        wanted = [*states, *of_bridge, *birth_topics, discovery_topic]
        _note_refused(heard, wanted, await probe.subscribe(wanted))
        # Refused or not there, they are only a pity.
        await probe.subscribe([f"$SYS/broker/{name}" for name in _SYS], qos=0)
        await asyncio.sleep(seconds)
    return heard


async def _hear_commands(access: BrokerAccess, topics: Topics, heard: Observations) -> None:
    """Hear what lies on command topics; what is only passing by is nobody's business here."""
    arrived = asyncio.Event()

    def take(seen: ReceivedMessage) -> None:
        arrived.set()
        if seen.retain and seen.payload and len(heard.commands) < _MAXIMUM:
            heard.commands[seen.topic] += 1

    loop = asyncio.get_running_loop()
    end = loop.time() + _LONGEST_ARRIVAL
    async with access.probing("commands", on_message=take) as probe:
        wanted = [*topics.urgent_commands, *topics.lasting_commands]
        _note_refused(heard, wanted, await probe.subscribe(wanted))
        with suppress(TimeoutError):
            while loop.time() < end:
                arrived.clear()
                async with asyncio.timeout(_QUIET):
                    await arrived.wait()


def _note_refused(heard: Observations, topics: Sequence[str], answers: Sequence[str | None]) -> None:
    heard.refused |= {topic: why for topic, why in zip(topics, answers, strict=False) if why is not None}


class _Ear:
    """Sorts what comes in."""

    def __init__(self, topics: Topics, heard: Observations) -> None:
        self._topics = topics
        self._heard = heard
        self._terminals = f"{topics.base}/terminal/"

    def take(self, seen: ReceivedMessage) -> None:
        heard, topic = self._heard, seen.topic
        if topic.startswith("$SYS/broker/"):
            heard.sys[topic.removeprefix("$SYS/broker/")] = seen.payload.decode(errors="replace")[:100]
        elif topic == self._topics.bridge_heartbeat:
            heard.heartbeats += 1
        elif topic == self._topics.bridge_event:
            if len(heard.events) < _MAXIMUM_EVENTS:
                heard.events.append(_object(seen.payload))
        elif len(heard.values) < _MAXIMUM or topic in heard.values:
            self._keep(seen)

    def _keep(self, seen: ReceivedMessage) -> None:
        heard, topic = self._heard, seen.topic
        is_new = topic not in heard.values
        before, heard.values[topic] = heard.values.get(topic), seen.payload
        if is_new and seen.retain:
            heard.retained.add(topic)
        if topic == self._topics.bridge_availability:
            heard.flaps += before not in (None, seen.payload)
        elif topic == self._topics.bridge_info:
            heard.started.add(str(_object(seen.payload).get("started_at")))
        elif topic.startswith(self._terminals):
            sn, _, what = topic.removeprefix(self._terminals).partition("/")
            if what == "state":
                connected_at = _object(seen.payload).get("connected_at")
                if connected_at is not None:
                    heard.connected.setdefault(sn, set()).add(str(connected_at))
            elif seen.payload == b"online" and before == b"offline":
                heard.came_online[sn] += 1


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
