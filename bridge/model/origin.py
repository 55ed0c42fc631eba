"""Where a command came from."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.model.stored_json import split_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The sender of a command, and where its replies go besides the public topic.

    Attributes:
        source: the topic or the API route that the command arrived on.
        user: the user, if the adapter knows it.
        response_topic: MQTT 5's Response Topic; the adapter has checked that the bridge may publish there.
        correlation_data: MQTT 5's Correlation Data, returned unchanged.
        assured: False if the broker could have dropped the command before it reached the bridge (QoS 0).
        unknown: stored fields that this version does not know.
    """

    source: str
    user: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    assured: bool = True
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def as_stored(self) -> dict[str, Any]:
        """Return the JSON object that `from_stored` reads."""
        correlation = self.correlation_data
        return {
            **self.unknown,
            "source": self.source,
            "user": self.user,
            "response_topic": self.response_topic,
            "correlation_data": None if correlation is None else b64encode(correlation).decode(),
            "assured": self.assured,
        }

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "Origin":
        """Read what `as_stored` returned, in this or in another version."""
        known, unknown = split_stored(cls, stored)
        correlation = known.get("correlation_data")
        known["correlation_data"] = None if correlation is None else b64decode(correlation)
        return cls(**known, unknown=unknown)
