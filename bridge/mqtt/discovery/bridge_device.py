"""The bridge's own device. It comes before the terminals': one that is only named by `via_device` shows as a stub."""

from typing import Any

from bridge.mqtt.discovery.entities import PRODUCT, Installation, entity, value_of

_SHOWN_PENDING = 100
"""Waiting terminals listed as attributes: 100 SNs and addresses stay below the 16 KiB of attributes beyond which Home
Assistant's recorder logs a warning."""


def bridge_device(installation: Installation) -> dict[str, Any]:
    """Return the discovery payload of the bridge."""
    device_id = installation.object_id()
    topics = installation.topics
    sensor = {
        "availability": installation.bridge_available,
        "state_topic": topics.bridge_info,
        "state_class": "measurement",
        "entity_category": "diagnostic",
    }
    listed = f"value_json.pending[:{_SHOWN_PENDING}] if value_json is defined else []"
    return {
        "dev": installation.device(
            device_id, PRODUCT, manufacturer=PRODUCT, model="Bridge", sw_version=installation.version
        ),
        "o": installation.origin,
        "qos": 1,
        "cmps": {
            # Without an availability: it says off when the bridge is away.
            "connection": entity(
                "binary_sensor",
                device_id,
                device_id.lower(),
                "connection",
                "Connection",
                state_topic=topics.bridge_availability,
                payload_on="online",
                payload_off="offline",
                device_class="connectivity",
                entity_category="diagnostic",
            ),
            "terminals_online": entity(
                "sensor",
                device_id,
                device_id.lower(),
                "terminals_online",
                "Terminals online",
                value_template=value_of("terminals.online"),
                icon="mdi:door-closed",
                **sensor,
            ),
            "pending_terminals": entity(
                "sensor",
                device_id,
                device_id.lower(),
                "pending_terminals",
                "Pending terminals",
                value_template=value_of("terminals.pending"),
                json_attributes_topic=topics.bridge_info,
                json_attributes_template=f"{{{{ {{'terminals': {listed}}} | tojson }}}}",
                icon="mdi:account-clock",
                **sensor,
            ),
        },
    }
