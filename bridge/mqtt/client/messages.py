"""Values that the MQTT client takes and returns."""

from dataclasses import dataclass, field

_CONNECT_TIMEOUT_SECONDS = 10.0
"""Time for the name, TCP, TLS and CONNACK together. A broker that takes longer is as good as unreachable."""


# Not frozen, because each press has one of both: a frozen dataclass takes three times as long to build.
@dataclass(slots=True, kw_only=True)
class Message:
    """A received message; nothing changes it.

    Attributes:
        topic: its topic.
        payload: its payload, unchanged.
        qos: the QoS it was delivered with.
        retain: whether the broker had stored it, or (MQTT 5) the publisher set the retain flag.
        dup: whether the broker has sent it before (the DUP flag).
        received_at: when it was read, as `Clock.boottime`.
        response_topic: the Response Topic of MQTT 5.
        correlation_data: the Correlation Data of MQTT 5.
        session_present: whether the broker had kept the session from an earlier connection.
        session: the connection that received it. It can be acknowledged only there.
        mid: its packet id on that connection.
    """

    topic: str
    payload: bytes = field(repr=False)
    qos: int
    retain: bool
    dup: bool = False
    received_at: float
    response_topic: str | None = None
    correlation_data: bytes | None = None
    session_present: bool = False
    session: object = field(default=None, repr=False, compare=False)
    mid: int = field(default=0, repr=False, compare=False)


@dataclass(slots=True)
class Publication:
    """A message to publish; nothing changes it.

    Attributes:
        topic: its topic.
        payload: its payload; text is sent as UTF-8.
        qos: 0 or 1.
        retain: whether the broker stores it for later subscribers.
        correlation_data: the Correlation Data of MQTT 5; not sent over 3.1.1.
    """

    topic: str
    payload: bytes | str
    qos: int = field(default=1, kw_only=True)
    retain: bool = field(default=False, kw_only=True)
    correlation_data: bytes | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """The message that the broker publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes | str
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a client asks of its connection.

    Attributes:
        client_id: the name by which the broker knows the client.
        persistent: the broker keeps the session, and each QoS 1 message until it is acknowledged by hand. Otherwise
            the session starts clean, and messages are acknowledged as they are read.
        will: the will message.
        quick_ack: let the kernel acknowledge each TCP segment at once. Otherwise it delays as it does by default.
        connect_timeout_seconds: time for one attempt to connect.
    """

    client_id: str
    persistent: bool = False
    will: Will | None = None
    quick_ack: bool = True
    connect_timeout_seconds: float = _CONNECT_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnackInfo:
    """The broker's CONNACK. A field is None if the broker leaves it out; over MQTT 3.1.1 all but the first are.

    Attributes:
        session_present: whether the broker had kept the session.
        session_expiry: seconds for which the broker keeps the session, if they differ from the client's request.
        receive_maximum: QoS 1 publishes that the broker accepts before it has acknowledged them.
        maximum_qos: the highest QoS that the broker accepts; None means 2.
        retain_available: whether the broker stores retained messages; None means yes.
        maximum_packet: bytes of the largest packet that the broker accepts.
        assigned_id: the client id that the broker chose in place of the client's.
        topic_aliases: how many topic aliases the broker accepts.
        wildcards: whether subscriptions may hold wildcards; None means yes.
        keep_alive: the keep-alive seconds that the broker wants in place of the client's.
        server_reference: another broker that the client should use.
    """

    session_present: bool
    session_expiry: int | None = None
    receive_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    maximum_packet: int | None = None
    assigned_id: str | None = None
    topic_aliases: int | None = None
    wildcards: bool | None = None
    keep_alive: int | None = None
    server_reference: str | None = None
