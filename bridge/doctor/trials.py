"""Tests of what the bridge needs from the broker, on topics of the doctor's own. Nothing stays at the broker."""

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bridge.doctor.findings import Finding, make_finding
from bridge.doctor.probe import BrokerAccess, Probe
from bridge.model.faults import shorten
from bridge.mqtt.client.errors import NotConnectedError, PacketTooLargeError
from bridge.mqtt.client.messages import ConnackInfo, Message
from bridge.mqtt.topics import Topics

_TEST_SESSION_SECONDS = 60
"""Time for which the test session stays at the broker if the doctor is killed while it is away (MQTT 5)."""

_NEVER_EXPIRES = 0xFFFFFFFF
"""The session expiry interval that the bridge's intake asks for."""

_LARGEST_PACKET_BYTES = 1_450_000
"""The largest photo that is stored (1.4 MB of base64) and the person around it."""
_SMALLER_PACKETS_BYTES = (700_000, 350_000, 175_000, 64_000)
"""Tried in this order if the largest does not get through. A usual photo takes some 175,000."""

_ROUND_TRIPS = 50
"""Enough for a p99 that is not only the first one's, and done in two seconds if each waits 40 ms."""
_WARM_UP_ROUND_TRIPS = 5
"""Round trips that are not counted: the kernel acknowledges the first segments of a connection at once anyway."""

_NAGLE_SECONDS = 0.025
"""A difference between a round trip without Nagle's algorithm (a few ms at most in one building) and the 40 ms of a
delayed ACK."""
_SLOW_SECONDS = 0.5
"""From this round-trip time on presses become unreliable: the lease needs echoes within half a deadline, which is at
least 1 s."""


async def check_own_topics(access: BrokerAccess) -> list[Finding]:
    """Check whether the other tests are possible. Return no finding if they are."""
    topic = access.topic("echo")
    async with access.probe("echo") as probe:
        refusal = (await probe.subscribe([topic]))[0] or await probe.publish(topic, b"echo")
        if refusal is None and await _next_on(access, probe, topic) is not None:
            return []
    why = f"the broker answers {refusal!r}" if refusal else "the message does not come back"
    return [
        make_finding(
            "trials_impossible",
            f"sessions, large packets, retained messages and round trips cannot be tested on {topic}: {why}",
            f"let the bridge's broker user read and write below {access.settings.base_topic}/doctor too, or leave it:"
            " the bridge does not need it",
        )
    ]


async def check_session(access: BrokerAccess) -> list[Finding]:
    """Check whether the broker keeps a QoS 1 message for a client that is away. Person changes depend on it."""
    topic, payload = access.topic("session"), b"while you were away"
    first = access.persistent_probe("session")
    try:
        connack = await _start_session(first, topic)
        async with access.probe("sender") as sender:
            await sender.publish(topic, payload)
        second = access.persistent_probe("session")
        try:
            session_present = (await second.connect()).session_present
            message = await second.next(access.echo_timeout_seconds) if session_present else None
        finally:
            await second.close(session_expiry_seconds=0)
    finally:
        # A clean start ends the session, wherever the test failed.
        async with access.probe("session"):
            pass
    findings = evaluate_session_expiry(connack)
    if message is not None and message.payload == payload:
        findings.append(make_finding("session_kept", "the broker keeps a QoS 1 message for a client that is away"))
    else:
        lost = "messages for a client that is away" if session_present else "the session of a client that is away"
        findings.append(
            make_finding(
                "session_lost",
                f"the broker does not keep {lost}: person changes made while the bridge restarts are lost",
                "let the broker keep persistent sessions and queue QoS 1 messages for them (Mosquitto does, unless"
                " max_queued_messages is very small or a plugin forbids it)",
            )
        )
    return findings


async def check_takeover(access: BrokerAccess) -> list[Finding]:
    """Check whether a client without a login can take over a session of the bridge's user."""
    if access.settings.username is None:
        # `mqtt_anonymous` says it already.
        return []
    without_login = replace(access, settings=replace(access.settings, username=None, password=None))
    async with access.probe("takeover") as probe:
        try:
            async with without_login.probe("takeover"):
                await asyncio.wait_for(probe.wait_ended(), access.echo_timeout_seconds)
        except (NotConnectedError, TimeoutError):
            what = "a client without a login cannot take over a session of the bridge's user"
            return [make_finding("takeover_refused", what)]
    return [
        make_finding(
            "session_takeover",
            "a client without a login that knows the bridge's client ids can take its sessions over; their random end"
            " is in the bridge's store and log",
            "let no client connect without a login (Mosquitto: allow_anonymous false), and give people a listener of"
            " their own with use_username_as_clientid, as examples/broker does",
        )
    ]


async def _start_session(probe: Probe, topic: str) -> ConnackInfo:
    try:
        connack = await probe.connect()
        await probe.subscribe([topic])
    finally:
        await probe.close(session_expiry_seconds=_TEST_SESSION_SECONDS)
    return connack


def evaluate_session_expiry(connack: ConnackInfo) -> list[Finding]:
    """Report how long the broker keeps a session that asked not to expire."""
    if connack.session_expiry is None or connack.session_expiry == _NEVER_EXPIRES:
        return []
    return [
        make_finding(
            "messages_expire",
            f"the broker keeps the session of a client that is away for only {connack.session_expiry:,} s: person"
            " changes are lost if the bridge is away for longer",
            "raise the broker's longest session expiry (Mosquitto: persistent_client_expiration; EMQX:"
            " mqtt.session_expiry_interval; HiveMQ: session-expiry max-interval)",
        )
    ]


async def check_large_packets(access: BrokerAccess, limit: int | None) -> list[Finding]:
    """Check whether a photo gets through the broker.

    Args:
        access: the broker.
        limit: bytes of the largest packet that CONNACK allows.
    """
    stated = "" if limit is None else f"; the broker states a limit of up to {limit:,} bytes"
    for size in (_LARGEST_PACKET_BYTES, *_SMALLER_PACKETS_BYTES):
        if limit is not None and size > limit:
            continue
        if await _gets_through(access, size):
            if size == _LARGEST_PACKET_BYTES:
                return [
                    make_finding(
                        "large_packets_ok",
                        f"a message of {size:,} bytes gets through: one person with the largest photo{stated}",
                    )
                ]
            return [_packets_too_small(f"a message of {size:,} bytes gets through, a larger one did not{stated}")]
    return [_packets_too_small(f"no message of {_SMALLER_PACKETS_BYTES[-1]:,} bytes or more gets through{stated}")]


async def _gets_through(access: BrokerAccess, size: int) -> bool:
    topic = access.topic("large")
    try:
        async with access.probe("large") as probe:
            await probe.subscribe([topic])
            if await probe.publish(topic, bytes(size - len(topic) - 32)) is not None:
                return False
            return await _next_on(access, probe, topic) is not None
    except (NotConnectedError, PacketTooLargeError):
        # Brokers end the connection of a client that sends too much.
        return False


def _packets_too_small(fact: str) -> Finding:
    return make_finding(
        "packets_too_small",
        f"{fact}: a person with a large photo is lost, and the broker may disconnect the client that sends it",
        f"allow packets of {_LARGEST_PACKET_BYTES:,} bytes at the broker (Mosquitto: max_packet_size 2000000, and no"
        " smaller message_size_limit), or make photos smaller before they are sent (photos.size works only after the"
        " broker)",
    )


async def check_retained(access: BrokerAccess) -> list[Finding]:
    """Check whether the broker stores retained messages."""
    topic, payload = access.topic("retained"), b"kept"
    message = None
    async with access.probe("retaining") as probe:
        try:
            refusal = await probe.publish(topic, payload, retain=True)
        except NotConnectedError as error:
            # A broker without retained messages disconnects clients that try (MQTT 5, section 3.3.1.3).
            refusal = str(error)
        if refusal is None:
            try:
                async with access.probe("reading") as reader:
                    await reader.subscribe([topic])
                    message = await reader.next(access.echo_timeout_seconds)
            finally:
                await probe.publish(topic, b"", retain=True)
    if message is not None and message.retain and message.payload == payload:
        return [make_finding("retain_ok", "the broker stores retained messages")]
    answer = f" ({refusal})" if refusal else ""
    return [
        make_finding(
            "retain_unavailable",
            f"the broker stores no retained messages{answer}: clients that subscribe later receive no availability,"
            " state and discovery",
            "switch retained messages on (Mosquitto: retain_available true)",
        )
    ]


async def check_round_trips(access: BrokerAccess) -> list[Finding]:
    """Measure how long a message takes through the broker and back, as each press and its lease do."""
    with_quick_ack = await _round_trips(access, quick_ack=True, qos=1)
    # With QoS 1 the client's own PUBACK would carry the TCP acknowledgement; with QoS 0 the kernel delays it.
    without = await _round_trips(access, quick_ack=False, qos=0)
    shown = f"{_percentiles(with_quick_ack)}; for a client with the kernel's delayed ACK {_percentiles(without)}"
    findings = []
    # The slowest few are ignored: every machine pauses now and then.
    if _percentile(with_quick_ack, 90) > _SLOW_SECONDS:
        findings.append(
            make_finding(
                "broker_slow",
                f"a message takes long through the broker and back, so presses may be too late: {shown}",
                "look at the load of the broker's machine and at the network between",
            )
        )
    else:
        findings.append(make_finding("round_trip_ok", f"through the broker and back: {shown}"))
    delay = _percentile(without, 50) - _percentile(with_quick_ack, 50)
    if delay > _NAGLE_SECONDS:
        findings.append(
            make_finding(
                "nagle",
                "the broker holds small packets back until the previous one is acknowledged (Nagle's algorithm), which"
                f" costs other clients some {1000 * delay:.0f} ms per message; the bridge itself avoids it",
                "Mosquitto: set_tcp_nodelay true",
            )
        )
    return findings


async def _round_trips(access: BrokerAccess, *, quick_ack: bool, qos: int) -> list[float]:
    """Return the seconds until both message and acknowledgement had come back, in ascending order."""
    topic = access.topic("round-trip")
    times = []
    async with access.probe("round-trip", quick_ack=quick_ack) as probe:
        await probe.subscribe([topic], qos=qos)
        for number in range(_WARM_UP_ROUND_TRIPS + _ROUND_TRIPS):
            published_at = access.clock.boottime()
            await probe.publish(topic, b"%d" % number)
            acknowledged_at = access.clock.boottime()
            message = await _next_on(access, probe, topic)
            if message is None:
                raise NotConnectedError("a message did not come back")
            if number >= _WARM_UP_ROUND_TRIPS:
                times.append(max(message.received_at, acknowledged_at) - published_at)
    return sorted(times)


def _percentile(times: Sequence[float], percent: int) -> float:
    return times[math.ceil(len(times) * percent / 100) - 1]


def _percentiles(times: Sequence[float]) -> str:
    return f"p50 {1000 * _percentile(times, 50):.1f} ms, p99 {1000 * _percentile(times, 99):.1f} ms"


async def check_permissions(access: BrokerAccess) -> list[Finding]:
    """Check whether the broker user may publish what the bridge publishes, and receives its heartbeat.

    Call it only if no bridge is online. The topics are those of a terminal and a group that do not exist.
    """
    topics, absent = Topics(access.settings.base_topic), f"doctor-{access.run_id}"
    published = [
        topics.terminal_availability(absent),
        topics.terminal_state(absent),
        topics.terminal_reply(absent),
        topics.group_reply(absent),
    ]
    nonce = access.run_id.encode()
    async with access.probe("permissions") as probe:
        refused = await _refused(probe, published)
        await probe.subscribe([topics.bridge_heartbeat])
        await probe.publish(topics.bridge_heartbeat, nonce)
        echo = await _next_on(access, probe, topics.bridge_heartbeat, nonce)
        protocol5 = probe.protocol5
    findings = []
    if refused:
        findings.append(
            make_finding(
                "publish_refused",
                f"the bridge's broker user may not publish on {', '.join(shorten(one, 100) for one in refused)}",
                f"let it publish below {access.settings.base_topic}/",
            )
        )
    if echo is None:
        findings.append(
            make_finding(
                "trial_not_heard",
                f"a message on {topics.bridge_heartbeat} does not come back: the bridge would accept no press",
                "let the bridge's broker user publish and read that topic",
            )
        )
    if findings:
        return findings
    if not protocol5:
        return [
            make_finding(
                "permissions_unproven",
                "over MQTT 3.1.1 a broker does not report messages that it drops because of its access rules",
                'set mqtt.protocol to "5" if the broker supports it, or check its access rules by hand',
            )
        ]
    return [
        make_finding(
            "permissions_ok", "the broker user may publish what the bridge publishes, and receives its heartbeat"
        )
    ]


async def _refused(probe: Probe, topics: Iterable[str]) -> list[str]:
    return [topic for topic in topics if await probe.publish(topic, b"{}") is not None]


async def _next_on(access: BrokerAccess, probe: Probe, topic: str, payload: bytes | None = None) -> Message | None:
    """Return the next message on a topic, with that payload if one is given; None if none arrives in time."""
    while (message := await probe.next(access.echo_timeout_seconds)) is not None:
        if message.topic == topic and payload in (None, message.payload):
            return message
    return None
