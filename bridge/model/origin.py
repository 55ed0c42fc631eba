"""Where a command came from, and where its replies go."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any


def split_stored(kind: type, stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate the stored fields that a dataclass has from those that it does not know.

    A newer version may have written the store, for example before an upgrade was undone. Its additional fields must
    neither stop this version nor be lost when this version writes the value again.

    Args:
        kind: the dataclass. An attribute `unknown` is not a stored field.
        stored: the stored JSON object.

    Returns:
        The known fields and the unknown fields. A known field that is not stored is in neither of them, so the
        dataclass sets its default.
    """
    names = _stored_names(kind)
    if stored.keys() <= names:
        return dict(stored), {}
    known = {name: value for name, value in stored.items() if name in names}
    return known, {name: value for name, value in stored.items() if name not in names}


@cache
def _stored_names(kind: type) -> frozenset[str]:
    return frozenset(one.name for one in fields(kind)) - {"unknown"}


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
