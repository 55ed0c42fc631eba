"""What goes over a connection to the broker, and how it fails."""

from dataclasses import dataclass, field


class NotConnectedError(Exception):
    """The broker is away: nothing was published, and nothing will be later."""


class SubscriptionRefusedError(Exception):
    """The broker does not let us subscribe.

    Attributes:
        topic: to what.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What came in.

    Attributes:
        topic: it was published on.
        payload: as it is.
        qos: it was delivered with.
        retain: whether the broker had stored it, or (MQTT 5) it was published retained.
        received_at: when it was read (`Clock.boottime`).
        response_topic: MQTT 5's.
        correlation_data: MQTT 5's.
        session: the connection it came in on; only there can it be acknowledged.
        mid: its packet id there.
    """

    topic: str
    payload: bytes = field(repr=False)
    qos: int
    retain: bool
    received_at: float
    response_topic: str | None = None
    correlation_data: bytes | None = None
    session: object = field(default=None, repr=False, compare=False)
    mid: int = field(default=0, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes when the connection ends without a goodbye."""

    topic: str
    payload: bytes | str
    qos: int = 1
    retain: bool = True
