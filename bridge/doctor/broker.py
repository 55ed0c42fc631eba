"""How the broker is reached, and what it says when it is."""

from dataclasses import replace

from bridge.config.settings import MqttSettings
from bridge.doctor.findings import Finding, found
from bridge.doctor.probe import ConnackInfo
from bridge.doctor.trials import BrokerAccess
from bridge.mqtt.client.messages import NotConnectedError

_SMALL_WINDOW = 10
"""Publishes ahead of their acknowledgements below which a reconnecting bridge with many terminals is slow."""


async def greet(access: BrokerAccess) -> ConnackInfo:
    """Connect once and go. Raises NotConnectedError with what is in the way."""
    async with access.probing("greeting") as probe:
        return probe.greeting


def judge_unreachable(problem: NotConnectedError, settings: MqttSettings) -> Finding:
    """Say what is in the way."""
    where = f"{settings.host}:{settings.port}"
    return found(
        "broker_unreachable",
        f"the broker {where} cannot be used: {problem}",
        "check mqtt.host, mqtt.port, the credentials and mqtt.tls, and whether the broker runs",
    )


def judge_greeting(greeting: ConnackInfo, settings: MqttSettings) -> list[Finding]:
    """Say what the broker's CONNACK means for the bridge."""
    tls = " with TLS" if settings.tls is not None else ""
    told = f"; it says: {said}" if (said := _said(greeting)) else ""
    findings = [
        found("broker_connected", f"MQTT {settings.protocol} at {settings.host}:{settings.port}{tls}{told}"),
    ]
    if greeting.maximum_qos == 0:
        findings.append(
            found(
                "qos_unavailable",
                "the broker takes nothing with QoS 1, without which no promise holds",
                "let it take QoS 1 (Mosquitto: max_qos 2), or use another broker",
            )
        )
    if greeting.wildcards is False:
        findings.append(
            found(
                "wildcards_unavailable",
                "the broker takes no subscriptions with wildcards, so the bridge cannot hear commands",
                "switch wildcard subscriptions on, or use another broker",
            )
        )
    if greeting.assigned_id is not None:
        findings.append(
            found(
                "client_id_changed",
                "the broker gives clients another id than they ask for; the bridge would not find its session again",
                "let clients choose their id",
            )
        )
    if greeting.receive_maximum is not None and greeting.receive_maximum < _SMALL_WINDOW:
        findings.append(
            found(
                "receive_maximum_small",
                f"the broker takes {greeting.receive_maximum} unacknowledged messages at a time: with many terminals"
                " the bridge's start takes longer",
                "raise its receive maximum (Mosquitto: max_inflight_messages)",
            )
        )
    if greeting.server_reference is not None:
        findings.append(
            found(
                "server_reference",
                "the broker wants clients to go to another one",
                "set mqtt.host to the one it names, if that is meant to last",
            )
        )
    return findings


async def try_protocol_5(access: BrokerAccess) -> list[Finding]:
    """Find out whether a broker that 3.1.1 is spoken with speaks 5, too."""
    with_5 = replace(access, settings=replace(access.settings, protocol="5"))
    try:
        async with with_5.probing("protocol"):
            pass
    except NotConnectedError:
        return []
    return [
        found(
            "protocol_5_possible",
            "the broker speaks MQTT 5, too: with it empty presses, Response Topics and reasons for refusals work",
            'set mqtt.protocol to "5"',
        )
    ]


def _said(greeting: ConnackInfo) -> str:
    shown = {
        "packets up to": f"{greeting.maximum_packet:,} bytes" if greeting.maximum_packet is not None else None,
        "receive maximum": greeting.receive_maximum,
        "maximum QoS": greeting.maximum_qos,
        "topic aliases": greeting.topic_aliases,
        "session expiry": f"{greeting.session_expiry:,} s" if greeting.session_expiry is not None else None,
        "keep alive": f"{greeting.keep_alive} s" if greeting.keep_alive is not None else None,
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
