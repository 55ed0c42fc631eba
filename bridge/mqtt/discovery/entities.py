"""What the components of both kinds of device have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.mqtt.topics import Topics

PRODUCT = "Facebridge"
"""Names and makes the bridge's own device; who made the terminals, they do not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What every discovery payload of this bridge says.

    Attributes:
        topics: of the bridge.
        node: tells it from other bridges on the broker.
        version: of the bridge.
        page_url: `web.url`, where people reach its page.
    """

    topics: Topics
    node: str
    version: str
    page_url: str | None

    @property
    def origin(self) -> Mapping[str, str]:
        """Who sends this."""
        return {"name": PRODUCT, "sw_version": self.version}

    @property
    def bridge_available(self) -> Sequence[Mapping[str, str]]:
        """The availability of what only needs the bridge; `online` and `offline` are Home Assistant's defaults."""
        return [{"topic": self.topics.bridge_availability}]

    def object_id(self, sn: str | None = None) -> str:
        """Return the id of a terminal's device, or of the bridge's own."""
        return self.node if sn is None else f"{self.node}_{sn}"

    def device(self, object_id: str, name: str, **details: str | None) -> dict[str, str]:
        """Return a `dev` of these details, leaving out those without a value."""
        given = {"identifiers": object_id, "name": name, **details, "configuration_url": self.page_url}
        return {key: value for key, value in given.items() if value is not None}


def entity(platform: str, device_id: str, entity_name: str, key: str, name: str, **options: Any) -> dict[str, Any]:
    """Return one component.

    Args:
        platform: `button`, `sensor`, …
        device_id: of the device, for an id that stays the same whatever people call it.
        entity_name: the start of its entity id.
        key: what it is, in ids.
        name: what it is, for people; Home Assistant puts the device's name before it.
        options: everything else.
    """
    return {
        "p": platform,
        "unique_id": f"{device_id}_{key}",
        "default_entity_id": f"{platform}.{entity_name}_{key}",
        "name": name,
        **options,
    }


def value_of(path: str) -> str:
    """Return a template for a value of a JSON payload.

    A cleared topic is empty and has no `value_json`; without the condition Home Assistant would log a warning for it.
    """
    return f"{{{{ value_json.{path} if value_json is defined else None }}}}"
