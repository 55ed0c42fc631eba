"""What follows from what was heard on the broker: commands that lie there, other bridges, Home Assistant, figures."""

from collections.abc import Sequence
from itertools import islice

from bridge.config.settings import HomeAssistantSettings
from bridge.doctor.findings import Finding, found
from bridge.doctor.listening import Observations
from bridge.model.faults import shorten

_NAMED = 5
"""Topics that are named; the others are counted."""

_IMPLIED_DEADLINE = 8
"""A bridge publishes a heartbeat every eighth of its deadline, and one a second at the least (`mqtt.lease`)."""
_FLAPS = 2
"""Changes of the bridge's availability: a restart has two, and one just while the doctor looks is rare."""
_FEW = 3
"""Heartbeats beyond what one bridge publishes that mean nothing: one at each end, one that was late."""


def judge_commands(heard: Observations) -> list[Finding]:
    """Say which commands lie retained on their topics, and what may not be subscribed to."""
    findings = []
    if heard.commands:
        findings.append(
            found(
                "retained_command",
                f"commands lie retained on {some(sorted(heard.commands))}: the bridge does not obey them, and somebody"
                " publishes them so",
                "publish commands without the retain flag, and clear each topic once: mosquitto_pub -r -n -t TOPIC",
            )
        )
    if heard.refused:
        findings.append(
            found(
                "subscribe_refused",
                f"the bridge's broker user may not subscribe to {some(sorted(heard.refused))}",
                "let it read them",
            )
        )
    return findings


def judge_heartbeats(heard: Observations, deadline: float) -> list[Finding]:
    """Say whether more than one bridge uses the base topic."""
    expected = heard.seconds / min(1.0, deadline / _IMPLIED_DEADLINE)
    many = heard.heartbeats > 1.5 * expected + _FEW
    if len(heard.started) < 2 and not many:
        return []
    shown = f"heartbeats as of more than one ({heard.heartbeats} in {heard.seconds:.0f} s)" if many else "two of them"
    if len(heard.started) > 1:
        shown = f"bridges started at {' and '.join(sorted(shorten(one, 40) for one in heard.started))}"
    return [
        found(
            "bridges_share_topics",
            f"more than one bridge is online on the same base topic: {shown}; each obeys every press",
            "stop one, or give it a mqtt.base_topic and mqtt.client_id of its own",
        )
    ]


def judge_flaps(heard: Observations) -> list[Finding]:
    """Say whether the bridge loses its connection again and again."""
    if heard.flaps < _FLAPS:
        return []
    return [
        found(
            "bridge_unsteady",
            f"the bridge was there and gone {heard.flaps} times within {heard.seconds:.0f} s",
            "look whether another client has its client id (mqtt.client_id), and at the network to the broker",
        )
    ]


def judge_homeassistant(
    heard: Observations,
    settings: HomeAssistantSettings,
    birth_topics: Sequence[str],
    discovery_topic: str,
    *,
    online: bool,
) -> list[Finding]:
    """Say whether Home Assistant is there, and whether it can find the bridge.

    Args:
        heard: on the broker.
        settings: of discovery.
        birth_topics: where it says that it is there.
        discovery_topic: where the bridge's own device is retained.
        online: whether a bridge is.
    """
    if not settings.discovery:
        return []
    findings = []
    said = {topic: heard.values[topic] for topic in birth_topics if topic in heard.values}
    if b"online" in said.values():
        findings.append(found("homeassistant_online", "Home Assistant is there"))
    elif b"offline" in said.values():
        findings.append(
            found(
                "homeassistant_offline",
                f"Home Assistant says on {some(list(said))} that it is gone",
                "start it, or look at its connection to this broker",
            )
        )
    else:
        findings.append(
            found(
                "homeassistant_unseen",
                f"whether Home Assistant uses this broker cannot be seen: nothing is retained on"
                f" {some(list(birth_topics))}, which is usual",
                "nothing, as long as the terminals show up there; else compare its broker and discovery prefix with"
                " mqtt.host and homeassistant.prefix",
            )
        )
    if online and discovery_topic not in heard.values:
        findings.append(
            found(
                "discovery_missing",
                f"the bridge is online, and its device is not on {discovery_topic}: Home Assistant cannot find it",
                f"let the bridge's broker user publish below {settings.prefix}/, with retained messages",
            )
        )
    return findings


def judge_sys(heard: Observations) -> list[Finding]:
    """Say what Mosquitto's own figures mean."""
    if not heard.sys:
        return [
            found(
                "sys_unreadable",
                "the broker shows no figures of its own on $SYS: what it dropped cannot be seen",
                "with Mosquitto let the bridge's user read $SYS/broker/#; other brokers have pages of their own",
            ),
            _persistence_unseen("the broker"),
        ]
    version = heard.sys.get("version", "a broker without a version")
    stored = heard.sys.get("messages/stored") or heard.sys.get("store/messages/count", "?")
    dropped = heard.sys.get("publish/messages/dropped")
    # Mosquitto lets go of a figure that has not changed for a minute.
    shown = f"{dropped} dropped" if dropped is not None else "none dropped within the last minute"
    findings = [
        found(
            "sys_ok",
            f"{version}, up for {heard.sys.get('uptime', '?')}; {stored} messages stored, {shown}",
        ),
        _persistence_unseen("Mosquitto" if "mosquitto" in version else "the broker"),
    ]
    if dropped is not None and dropped.isdigit() and int(dropped) > 0:
        findings.append(
            found(
                "messages_dropped",
                f"the broker has dropped {int(dropped):,} messages since it was started: its queue for a client that"
                " was away or slow was full; if that was the bridge's, person changes are lost",
                "Mosquitto: max_queued_messages 1000000, then send those changes again"
                " (`facebridge persons verify` shows what terminals hold)",
            )
        )
    return findings


def some(topics: Sequence[str]) -> str:
    """Name the first few, and say how many more there are."""
    more = len(topics) - _NAMED
    return ", ".join(shorten(topic, 120) for topic in islice(topics, _NAMED)) + (
        f" and {more:,} more" if more > 0 else ""
    )


def _persistence_unseen(broker: str) -> Finding:
    return found(
        "persistence_unseen",
        f"whether {broker} keeps its messages over a restart, and how many it queues, cannot be seen from outside; a"
        " stock Mosquitto keeps none, and queues 1,000 for a client that is away",
        "Mosquitto: persistence true, autosave_interval 2, max_queued_messages 1000000 (docs/operation.md, The broker)",
    )
