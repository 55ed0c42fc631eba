"""Who asked, and where the answer goes besides the public topics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a command came from.

    Attributes:
        source: the topic or the API route it came in by.
        user: who, where the face knows it.
        response_topic: MQTT 5's Response Topic, already found fit to publish to.
        correlation_data: MQTT 5's Correlation Data, returned as it came.
        assured: False where the broker may have dropped it before the bridge saw it (QoS 0).
    """

    source: str
    user: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    assured: bool = True
