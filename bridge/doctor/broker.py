"""The connection to the broker, and the limits in its CONNACK."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bridge.config.settings import MqttSettings
from bridge.doctor.findings import Finding, make_finding
from bridge.doctor.probe import BrokerAccess
from bridge.mqtt.client.errors import NotConnectedError
from bridge.mqtt.client.messages import ConnackInfo

_SMALL_RECEIVE_MAXIMUM = 10
"""Below this many unacknowledged publishes the reconnect of a bridge with many terminals is slow."""


@dataclass(frozen=True, slots=True)
class ConnectionCheck:
    """The result of one connection to the broker.

    Attributes:
        findings: what was found.
        connack: the broker's CONNACK; None if it could not be reached.
    """

    findings: list[Finding]
    connack: ConnackInfo | None


async def check_connection(access: BrokerAccess) -> ConnectionCheck:
    """Connect once and disconnect."""
    settings = access.settings
    try:
        async with access.probe("greeting") as probe:
            connack = probe.connack
    except NotConnectedError as error:
        finding = make_finding(
            "broker_unreachable",
            f"the broker {settings.host}:{settings.port} cannot be used: {error}",
            "check mqtt.host, mqtt.port, the credentials and mqtt.tls, and whether the broker runs",
        )
        return ConnectionCheck([finding], None)
    return ConnectionCheck(list(evaluate_connack(connack, settings)), connack)


def evaluate_connack(connack: ConnackInfo, settings: MqttSettings) -> Iterator[Finding]:
    """Report what the broker's CONNACK means for the bridge."""
    limits = _limits(connack) or "-"
    encrypted = f"MQTT {settings.protocol} with TLS works at {settings.host}:{settings.port}; limits: {limits}"
    plain = f"MQTT {settings.protocol} works at {settings.host}:{settings.port}; limits: {limits}"
    yield make_finding("broker_connected", encrypted if settings.tls else plain)
    if connack.maximum_qos == 0:
        yield make_finding(
            "qos_unavailable",
            "the broker does not accept QoS 1, which the bridge needs",
            "allow QoS 1 (Mosquitto: max_qos 2), or use another broker",
        )
    if connack.wildcards is False:
        yield make_finding(
            "wildcards_unavailable",
            "the broker does not accept subscriptions with wildcards, so the bridge cannot receive commands",
            "allow wildcard subscriptions, or use another broker",
        )
    if connack.assigned_id is not None:
        yield make_finding(
            "client_id_changed",
            "the broker replaces the client ids that clients choose; the bridge would not find its session again",
            "let clients choose their client id",
        )
    if connack.receive_maximum is not None and connack.receive_maximum < _SMALL_RECEIVE_MAXIMUM:
        yield make_finding(
            "receive_maximum_small",
            f"the broker accepts only {connack.receive_maximum} unacknowledged messages at a time: with many terminals"
            " the bridge starts more slowly",
            "raise its receive maximum (Mosquitto: max_inflight_messages)",
        )
    if connack.server_reference is not None:
        yield make_finding(
            "server_reference",
            "the broker asks clients to use another broker",
            "if this is permanent, set mqtt.host to that broker",
        )


async def check_protocol_5(access: BrokerAccess) -> list[Finding]:
    """Check whether a broker that is used with MQTT 3.1.1 also supports MQTT 5."""
    with_5 = replace(access, settings=replace(access.settings, protocol="5"))
    try:
        async with with_5.probe("protocol"):
            pass
    except NotConnectedError:
        return []
    return [
        make_finding(
            "protocol_5_possible",
            "the broker also supports MQTT 5: with it the bridge recognises every retained press, and empty presses, "
            "Response Topics and reasons for refusals work",
            'set mqtt.protocol to "5"',
        )
    ]


def _limits(connack: ConnackInfo) -> str:
    shown = {
        "packets up to": f"{connack.maximum_packet:,} bytes" if connack.maximum_packet is not None else None,
        "receive maximum": connack.receive_maximum,
        "maximum QoS": connack.maximum_qos,
        "topic aliases": connack.topic_aliases,
        "session expiry": f"{connack.session_expiry:,} s" if connack.session_expiry is not None else None,
        "keep alive": f"{connack.keep_alive} s" if connack.keep_alive is not None else None,
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
