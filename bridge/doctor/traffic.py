"""Findings from the observed messages: retained commands, other bridges, Home Assistant, the broker's statistics."""

from collections.abc import Iterable, Iterator, Sequence

from bridge.config.settings import HomeAssistantSettings
from bridge.doctor.findings import Finding, first_few, make_finding
from bridge.doctor.listening import Observations
from bridge.model.faults import shorten

_HEARTBEATS_PER_DEADLINE = 8
"""A bridge publishes a heartbeat every eighth of its deadline, and at least one a second (`bridge/mqtt/lease.py`)."""
_MANY_FLAPS = 2
"""Changes of the bridge's availability. A restart makes two, and is rare while the doctor listens."""
_HEARTBEAT_TOLERANCE = 3
"""Heartbeats that may come besides those of one bridge: one at each end, and a late one."""


def evaluate_commands(observed: Observations) -> Iterator[Finding]:
    """Report retained commands and refused subscriptions."""
    if observed.commands:
        yield make_finding(
            "retained_command",
            f"retained commands on {_topics(sorted(observed.commands))}: the bridge ignores them, and a client"
            " publishes commands with the retain flag",
            "publish commands without the retain flag, and clear each topic once: mosquitto_pub -r -n -t TOPIC",
        )
    if observed.refused:
        yield make_finding(
            "subscribe_refused",
            f"the bridge's broker user may not subscribe to {_topics(sorted(observed.refused))}",
            "let it read them",
        )


def evaluate_heartbeats(observed: Observations, deadline_seconds: float) -> Iterator[Finding]:
    """Report whether more than one bridge uses the base topic."""
    expected = observed.seconds / min(1.0, deadline_seconds / _HEARTBEATS_PER_DEADLINE)
    if len(observed.started) > 1:
        shown = f"bridges started at {' and '.join(sorted(shorten(one, 40) for one in observed.started))}"
    elif observed.heartbeats > 1.5 * expected + _HEARTBEAT_TOLERANCE:
        shown = f"{observed.heartbeats} heartbeats in {observed.seconds:.0f} s, one bridge sends {expected:.0f}"
    else:
        return
    yield make_finding(
        "bridges_share_topics",
        f"more than one bridge is online on the same base topic: {shown}; each carries out every press",
        "stop one, or give it a mqtt.base_topic and mqtt.client_id of its own",
    )


def evaluate_availability(observed: Observations) -> Iterator[Finding]:
    """Report whether the bridge loses its connection again and again."""
    if observed.flaps >= _MANY_FLAPS:
        yield make_finding(
            "bridge_unsteady",
            f"the bridge went online or offline {observed.flaps} times within {observed.seconds:.0f} s",
            "check whether another client has its client id (mqtt.client_id), and the network to the broker",
        )


def evaluate_home_assistant(
    observed: Observations,
    settings: HomeAssistantSettings,
    birth_topics: Sequence[str],
    discovery_topic: str,
    *,
    bridge_online: bool,
) -> Iterator[Finding]:
    """Report whether Home Assistant uses the broker, and whether it can find the bridge.

    Args:
        observed: the observations at the broker.
        settings: the discovery settings.
        birth_topics: the topics of Home Assistant's birth message.
        discovery_topic: the topic of the bridge's own device.
        bridge_online: whether a bridge is online.
    """
    if not settings.discovery:
        return
    births = {topic: observed.values[topic] for topic in birth_topics if topic in observed.values}
    if b"online" in births.values():
        yield make_finding("homeassistant_online", "Home Assistant is online")
    elif b"offline" in births.values():
        yield make_finding(
            "homeassistant_offline",
            f"Home Assistant is offline, as {_topics(list(births))} says",
            "start it, or look at its connection to this broker",
        )
    else:
        yield make_finding(
            "homeassistant_unseen",
            "the doctor cannot see whether Home Assistant uses this broker: nothing is retained on"
            f" {_topics(birth_topics)}, which is usual",
            "nothing, if the terminals show up there; otherwise compare its broker and discovery prefix with"
            " mqtt.host and homeassistant.prefix",
        )
    if bridge_online and discovery_topic not in observed.values:
        yield make_finding(
            "discovery_missing",
            f"the bridge is online, but its device is not on {discovery_topic}: Home Assistant cannot find it",
            f"let the bridge's broker user publish retained messages below {settings.prefix}/",
        )


def evaluate_broker_statistics(observed: Observations) -> Iterator[Finding]:
    """Report what Mosquitto's statistics mean."""
    statistics = observed.statistics
    if not statistics:
        yield make_finding(
            "sys_unreadable",
            "the broker shows no statistics on $SYS: messages that it dropped cannot be seen",
            "with Mosquitto let the bridge's user read $SYS/broker/#; other brokers have web pages for this",
        )
        yield _persistence_unseen("the broker")
        return
    version = statistics.get("version", "a broker without a version")
    stored = statistics.get("messages/stored") or statistics.get("store/messages/count", "?")
    dropped = statistics.get("publish/messages/dropped")
    # Mosquitto removes a figure that has not changed for a minute.
    shown = f"{dropped} dropped" if dropped is not None else "none dropped within the last minute"
    yield make_finding(
        "sys_ok", f"{version}, up for {statistics.get('uptime', '?')}; {stored} messages stored, {shown}"
    )
    yield _persistence_unseen("Mosquitto" if "mosquitto" in version else "the broker")
    if dropped is not None and dropped.isdigit() and int(dropped) > 0:
        yield make_finding(
            "messages_dropped",
            f"the broker has dropped {int(dropped):,} messages since it started, because its queue for a slow or absent"
            " client was full; if that client was the bridge, person changes are lost",
            "Mosquitto: max_queued_messages 1000000, then send those changes again (`facebridge persons verify` shows"
            " what terminals hold)",
        )


def _topics(topics: Iterable[str]) -> str:
    return first_few([shorten(topic, 120) for topic in topics])


def _persistence_unseen(broker: str) -> Finding:
    return make_finding(
        "persistence_unseen",
        f"the doctor cannot see whether {broker} keeps its messages over a restart, and how many it queues; a stock"
        " Mosquitto keeps none, and queues 1,000 for a client that is away",
        "Mosquitto: persistence true, autosave_interval 2, max_queued_messages 1000000 (docs/operation.md, The broker)",
    )
