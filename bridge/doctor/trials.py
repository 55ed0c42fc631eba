"""Tries what the bridge needs of the broker, on topics of its own that nobody obeys; nothing is left behind."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock
from bridge.doctor.findings import Finding, found
from bridge.doctor.probe import ConnackInfo, Probe, ReceivedMessage, probing
from bridge.model.faults import shorten
from bridge.mqtt.client.messages import NotConnectedError
from bridge.mqtt.topics import Topics

_ECHO_TIMEOUT = 5.0
"""Seconds for a message to come back that takes milliseconds; a large one over a slow line takes some."""

_KEPT_FOR = 60
"""Seconds that the throw-away session lives on where the doctor itself is killed while it is away (MQTT 5)."""

_FOR_EVER = 0xFFFFFFFF
"""The session expiry interval that the bridge's intake asks for."""

_LARGEST = 1_450_000
"""Bytes: the largest photo that is stored (1.4 MB of base64) and the person around it."""
_SMALLER = (700_000, 350_000, 175_000, 64_000)
"""Tried one after the other where that does not get through; an ordinary photo takes some 175,000."""

_ROUND_TRIPS = 50
"""Enough for a p99 that is not just the first one's, and done in two seconds where each waits 40 ms."""
_WARM_UP = 5
"""Round trips that are not counted: the kernel acknowledges the first segments of a connection at once anyway."""

_NAGLE = 0.025
"""Seconds: between a round trip without it (a few ms at most in one house) and the 40 ms of a delayed ACK."""
_SLOW = 0.5
"""Seconds of a round trip from which presses become uncertain: the lease wants echoes within half a deadline, which is
1 s at the least."""

_TO_ALLOW = (
    "let the bridge's broker user read and write below {base}/doctor too, or live with it: the bridge does not need it"
)


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """How the doctor goes to the broker.

    Attributes:
        settings: of the broker.
        mark: stands in every client id and topic of this examination, and in no other's.
        clock: round trips are measured with.
    """

    settings: MqttSettings
    mark: str
    clock: Clock

    def probing(
        self, what: str, *, on_message: Callable[[ReceivedMessage], None] | None = None, quick: bool = True
    ) -> AbstractAsyncContextManager[Probe]:
        """Connect a probe under a name of its own (`probe.probing`)."""
        return probing(self.settings, self._client_id(what), self.clock, on_message=on_message, quick=quick)

    def persistent_probe(self, what: str) -> Probe:
        """Return a probe whose session stays at the broker."""
        return Probe(self.settings, self._client_id(what), self.clock, persistent=True)

    def _client_id(self, what: str) -> str:
        # One of the doctor's own: with the bridge's, the broker would throw a running one out.
        return f"{self.settings.client_id}-doctor-{what}-{self.mark}"

    def topic(self, what: str) -> str:
        """Return a topic that nobody obeys."""
        return f"{self.settings.base_topic}/doctor/{self.mark}/{what}"


async def try_own_topics(access: BrokerAccess) -> list[Finding]:
    """Find out whether the other trials are possible; return why not, nothing where they are."""
    topic = access.topic("echo")
    async with access.probing("echo") as probe:
        refused = (await probe.subscribe([topic]))[0] or await probe.publish(topic, b"echo")
        if refused is None and await _echo(probe, topic) is not None:
            return []
    why = f"the broker says {refused!r}" if refused else "nothing comes back"
    return [
        found(
            "trials_impossible",
            f"sessions, large packets, retained messages and round trips cannot be tried on {topic}: {why}",
            _TO_ALLOW.format(base=access.settings.base_topic),
        )
    ]


async def try_session(access: BrokerAccess) -> list[Finding]:
    """Find out whether a message with QoS 1 waits for a client that is away: promise 2 rests on it."""
    topic, payload = access.topic("session"), b"while you were away"
    away = access.persistent_probe("session")
    try:
        greeting = await _begin_session(away, topic)
        async with access.probing("sender") as sender:
            await sender.publish(topic, payload)
        back = access.persistent_probe("session")
        try:
            again = await back.connect()
            message = await back.next(_ECHO_TIMEOUT) if again.session_present else None
        finally:
            await back.close(keep_for=0)
    finally:
        # A clean start ends the session wherever the trial broke off.
        async with access.probing("session"):
            pass
    findings = judge_expiry(greeting)
    if again.session_present and message is not None and message.payload == payload:
        findings.append(found("session_kept", "a message with QoS 1 waits at the broker for a client that is away"))
    else:
        how = "does not keep what is sent meanwhile" if again.session_present else "does not keep its session"
        findings.append(
            found(
                "session_lost",
                f"of a client that is away the broker {how}: person changes made while the bridge is restarted get"
                " lost",
                "let the broker keep persistent sessions and queue QoS 1 for them (Mosquitto does unless"
                " max_queued_messages is tiny or a plugin forbids it)",
            )
        )
    return findings


async def _begin_session(away: Probe, topic: str) -> ConnackInfo:
    try:
        greeting = await away.connect()
        await away.subscribe([topic])
    finally:
        await away.close(keep_for=_KEPT_FOR)
    return greeting


def judge_expiry(greeting: ConnackInfo) -> list[Finding]:
    """Say for how long the broker keeps a session that is meant to last for ever."""
    if greeting.session_expiry is None or greeting.session_expiry == _FOR_EVER:
        return []
    return [
        found(
            "messages_expire",
            f"the broker keeps the session of a client that is away for {greeting.session_expiry:,} s only: person"
            " changes are lost where the bridge is away for longer",
            "raise the broker's longest session expiry (Mosquitto: persistent_client_expiration; EMQX:"
            " mqtt.session_expiry_interval; HiveMQ: session-expiry max-interval)",
        )
    ]


async def try_large_packets(access: BrokerAccess, limit: int | None) -> list[Finding]:
    """Find out whether a photo gets through.

    Args:
        access: to the broker.
        limit: what it says of the largest packet, in bytes.
    """
    said = "" if limit is None else f"; the broker says that it takes packets of up to {limit:,} bytes"
    for size in (_LARGEST, *_SMALLER):
        if limit is not None and size > limit:
            continue
        if await _gets_through(access, size):
            if size == _LARGEST:
                return [
                    found(
                        "large_packets_ok",
                        f"a message of {size:,} bytes gets through: one person with the largest photo{said}",
                    )
                ]
            return [_packets_too_small(f"a message of {size:,} bytes gets through, a larger one did not{said}")]
    return [_packets_too_small(f"no message of {_SMALLER[-1]:,} bytes or more gets through{said}")]


async def _gets_through(access: BrokerAccess, size: int) -> bool:
    topic = access.topic("large")
    try:
        async with access.probing("large") as probe:
            await probe.subscribe([topic])
            if await probe.publish(topic, bytes(size - len(topic) - 16)) is not None:
                return False
            return await _echo(probe, topic) is not None
    except NotConnectedError:
        # Brokers hang up on whoever sends too much.
        return False


def _packets_too_small(what: str) -> Finding:
    return found(
        "packets_too_small",
        f"{what}: a person with a large photo gets lost, and the broker may hang up on whoever sends it",
        f"let the broker take packets of {_LARGEST:,} bytes (Mosquitto: max_packet_size 2000000, and no smaller"
        " message_size_limit), or make photos smaller (photos.size does that only behind the broker)",
    )


async def try_retained(access: BrokerAccess) -> list[Finding]:
    """Find out whether the broker keeps retained messages."""
    topic, payload = access.topic("retained"), b"kept"
    message = None
    async with access.probing("retaining") as probe:
        try:
            refused = await probe.publish(topic, payload, retain=True)
        except NotConnectedError as error:
            # MQTT 5 has brokers without retained messages hang up on whoever tries.
            refused = str(error)
        if refused is None:
            try:
                async with access.probing("reading") as reader:
                    await reader.subscribe([topic])
                    message = await reader.next(_ECHO_TIMEOUT)
            finally:
                await probe.publish(topic, b"", retain=True)
    if message is not None and message.retain and message.payload == payload:
        return [found("retain_ok", "the broker keeps retained messages")]
    said = f" ({refused})" if refused else ""
    return [
        found(
            "retain_unavailable",
            f"the broker keeps no retained messages{said}: availability, state and discovery are gone for whoever"
            " subscribes later",
            "switch retained messages on (Mosquitto: retain_available true)",
        )
    ]


async def try_round_trips(access: BrokerAccess) -> list[Finding]:
    """Measure how long a message takes through the broker and back, as every press and its lease do."""
    quick = await _round_trips(access, quick=True, qos=1)
    # A client that answers nothing carries no acknowledgement back, so the kernel takes its time with it.
    usual = await _round_trips(access, quick=False, qos=0)
    shown = f"{_shown(quick)}; for a client that leaves acknowledging to the kernel {_shown(usual)}"
    findings = []
    # Not the slowest few: every machine has its moments.
    if _percentile(quick, 90) > _SLOW:
        findings.append(
            found(
                "broker_slow",
                f"a message takes long through the broker and back, so presses may be too late: {shown}",
                "look at the broker's machine and at the network in between",
            )
        )
    else:
        findings.append(found("round_trip_ok", f"through the broker and back: {shown}"))
    if _percentile(usual, 50) > _percentile(quick, 50) + _NAGLE:
        findings.append(
            found(
                "nagle",
                "the broker holds small packets back until the one before is acknowledged (Nagle's algorithm), which"
                f" costs other clients some {1000 * (_percentile(usual, 50) - _percentile(quick, 50)):.0f} ms a"
                " message; the bridge itself works around it",
                "Mosquitto: set_tcp_nodelay true",
            )
        )
    return findings


async def _round_trips(access: BrokerAccess, *, quick: bool, qos: int) -> list[float]:
    """Return in ascending order how many seconds it took until message and acknowledgement had come back."""
    topic = access.topic("round-trip")
    times = []
    async with access.probing("round-trip", quick=quick) as probe:
        await probe.subscribe([topic], qos=qos)
        for number in range(_WARM_UP + _ROUND_TRIPS):
            begun = access.clock.boottime()
            await probe.publish(topic, b"%d" % number)
            acknowledged_at = access.clock.boottime()
            message = await _echo(probe, topic)
            if message is None:
                raise NotConnectedError("a message did not come back")
            if number >= _WARM_UP:
                times.append(max(message.received_at, acknowledged_at) - begun)
    return sorted(times)


def _percentile(times: Sequence[float], percent: int) -> float:
    return times[math.ceil(len(times) * percent / 100) - 1]


def _shown(times: Sequence[float]) -> str:
    return f"p50 {1000 * _percentile(times, 50):.1f} ms, p99 {1000 * _percentile(times, 99):.1f} ms"


async def try_permissions(access: BrokerAccess) -> list[Finding]:
    """Find out, where no bridge is online, whether one may publish what it has to, and hears its heartbeat.

    The topics are those of a terminal and a group that nobody has.
    """
    topics, nobody = Topics(access.settings.base_topic), f"doctor-{access.mark}"
    published = [
        topics.terminal_availability(nobody),
        topics.terminal_state(nobody),
        topics.terminal_reply(nobody),
        topics.group_reply(nobody),
    ]
    nonce = access.mark.encode()
    async with access.probing("permissions") as probe:
        refused = await _refused(probe, published)
        await probe.subscribe([topics.bridge_heartbeat])
        await probe.publish(topics.bridge_heartbeat, nonce)
        heard = await _echo(probe, topics.bridge_heartbeat, nonce)
        protocol5 = probe.protocol5
    findings = []
    if refused:
        findings.append(
            found(
                "publish_refused",
                f"the bridge's broker user may not publish {', '.join(shorten(one, 100) for one in refused)}",
                f"let it publish below {access.settings.base_topic}/",
            )
        )
    if heard is None:
        findings.append(
            found(
                "trial_not_heard",
                f"what is published on {topics.bridge_heartbeat} does not come back: no press would ever be taken",
                "let the bridge's broker user publish and read that topic",
            )
        )
    if findings:
        return findings
    if not protocol5:
        return [
            found(
                "permissions_unproven",
                "over MQTT 3.1.1 a broker does not say that it drops what may not be published",
                'set mqtt.protocol to "5" where the broker speaks it, or look through its access rules',
            )
        ]
    return [found("permissions_ok", "the bridge may publish what it has to, and hears its heartbeat")]


async def _refused(probe: Probe, topics: Iterable[str]) -> list[str]:
    return [topic for topic in topics if await probe.publish(topic, b"{}") is not None]


async def _echo(probe: Probe, topic: str, payload: bytes | None = None) -> ReceivedMessage | None:
    """Return the next message of a topic; None where none comes."""
    while (message := await probe.next(_ECHO_TIMEOUT)) is not None:
        if message.topic == topic and payload in (None, message.payload):
            return message
    return None
