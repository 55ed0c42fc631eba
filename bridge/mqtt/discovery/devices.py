"""The payloads of the discovery devices: the bridge's own and one per terminal.

The bridge's device is published first: a device that exists only by a terminal's `via_device` shows as a stub.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.command_definition import PRESS, CommandDefinition
from bridge.core.commands import OPEN, REBOOT, SYNC_PERSONS
from bridge.model.reply import Outcome
from bridge.model.terminal import Terminal
from bridge.mqtt.topics import Scope, Topics

PRODUCT = "Facebridge"
"""Name and manufacturer of the bridge's own device. Terminals do not report their manufacturer."""

_MAX_LISTED_PENDING = 100
"""Pending terminals listed as attributes: 100 SNs and addresses stay below 16 KiB of attributes, above which Home
Assistant's recorder logs a warning."""

_REPLY_ATTRIBUTES = ("command", "request_id", "person_id", "status", "message", "delivered", "duration_ms")
"""The attributes of the Reply event: small ones, without the lists that can be long (`persons`, `errors`)."""


_PRESS_TEMPLATE = "{{ {'asked_at': now().timestamp()} | tojson }}"
"""Dates a press by Home Assistant's clock. A press that waits in its connection to the broker would look new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The facts about this bridge that all its discovery payloads share.

    Attributes:
        topics: the bridge's topics.
        node: distinguishes it from other bridges on the broker.
        version: of the bridge.
        page_url: `web.url`, where people reach its page.
        send_time: whether the buttons send `asked_at`.
    """

    topics: Topics
    node: str
    version: str
    page_url: str | None
    send_time: bool = True

    @property
    def origin(self) -> Mapping[str, str]:
        """The sender of the payload."""
        return {"name": PRODUCT, "sw_version": self.version}

    @property
    def bridge_available(self) -> Sequence[Mapping[str, str]]:
        """The availability of an entity that needs only the bridge. `online` and `offline` are the default payloads."""
        return [{"topic": self.topics.bridge_availability}]

    def object_id(self, sn: str | None = None) -> str:
        """Return the id of a terminal's device, or of the bridge's own."""
        return self.node if sn is None else f"{self.node}_{sn}"

    def device(self, object_id: str, name: str, **details: str | None) -> dict[str, str]:
        """Return the `dev` part of a payload, without the details that have no value."""
        values = {"identifiers": object_id, "name": name, **details, "configuration_url": self.page_url}
        return {key: value for key, value in values.items() if value is not None}


def bridge_device(installation: Installation) -> dict[str, Any]:
    """Return the payload of the bridge's device."""
    device_id = installation.object_id()
    topics = installation.topics
    sensor = {
        "availability": installation.bridge_available,
        "state_topic": topics.bridge_info,
        "state_class": "measurement",
        "entity_category": "diagnostic",
    }
    listed = f"value_json.pending[:{_MAX_LISTED_PENDING}] if value_json is defined else []"
    return {
        "dev": installation.device(
            device_id, PRODUCT, manufacturer=PRODUCT, model="Bridge", sw_version=installation.version
        ),
        "o": installation.origin,
        "qos": 1,
        "cmps": {
            # Without an availability: it is off while the bridge is offline.
            "connection": _entity(
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
            "terminals_online": _entity(
                "sensor",
                device_id,
                device_id.lower(),
                "terminals_online",
                "Terminals online",
                value_template=_value_of("terminals.online"),
                icon="mdi:door-closed",
                **sensor,
            ),
            "pending_terminals": _entity(
                "sensor",
                device_id,
                device_id.lower(),
                "pending_terminals",
                "Pending terminals",
                value_template=_value_of("terminals.pending"),
                json_attributes_topic=topics.bridge_info,
                json_attributes_template=f"{{{{ {{'terminals': {listed}}} | tojson }}}}",
                icon="mdi:account-clock",
                **sensor,
            ),
        },
    }


def terminal_device(installation: Installation, terminal: Terminal, entity_name: str) -> dict[str, Any]:
    """Return the payload of a terminal's device.

    Args:
        installation: the bridge.
        terminal: the terminal.
        entity_name: the start of its entity ids.
    """
    device_id = installation.object_id(terminal.sn)
    topics = installation.topics
    availability_topic = topics.terminal_availability(terminal.sn)

    def button(definition: CommandDefinition, key: str, name: str, qos: int, **options: Any) -> dict[str, Any]:
        command_topic = topics.command(Scope.TERMINAL, terminal.sn, definition)
        if installation.send_time:
            options["command_template"] = _PRESS_TEMPLATE
        return _entity(
            "button",
            device_id,
            entity_name,
            key,
            name,
            command_topic=command_topic,
            payload_press=PRESS.decode(),
            qos=qos,
            retain=False,
            **options,
        )

    def counter(key: str, name: str, path: str, icon: str) -> dict[str, Any]:
        return _entity(
            "sensor",
            device_id,
            entity_name,
            key,
            name,
            availability=installation.bridge_available,
            state_topic=topics.terminal_state(terminal.sn),
            value_template=_value_of(path),
            state_class="measurement",
            entity_category="diagnostic",
            icon=icon,
        )

    return {
        "dev": installation.device(
            device_id,
            terminal.title,
            model="Face recognition terminal",
            serial_number=terminal.sn,
            suggested_area=terminal.area,
            via_device=installation.object_id(),
        ),
        "o": installation.origin,
        # For the buttons. Entities that report need only the bridge: Connection must be able to show off, and Reply
        # that a press found the terminal offline.
        "availability": [*installation.bridge_available, {"topic": availability_topic}],
        "availability_mode": "all",
        "qos": 1,
        "cmps": {
            # QoS 0 keeps promise 1 on Home Assistant's side too: with QoS 1, its client sends a press that the broker
            # has not acknowledged again when their connection is back, however late that is.
            "open": button(OPEN, "open", "Open", qos=0, icon="mdi:door-open"),
            "reboot": button(REBOOT, "reboot", "Reboot", qos=0, device_class="restart", entity_category="config"),
            "sync_persons": button(
                SYNC_PERSONS,
                "sync_persons",
                "Sync persons",
                qos=1,
                icon="mdi:account-sync",
                entity_category="config",
            ),
            "connection": _entity(
                "binary_sensor",
                device_id,
                entity_name,
                "connection",
                "Connection",
                availability=installation.bridge_available,
                state_topic=availability_topic,
                payload_on="online",
                payload_off="offline",
                device_class="connectivity",
                entity_category="diagnostic",
            ),
            "persons": counter("persons", "Persons", "persons.confirmed", "mdi:account-group"),
            "pending_changes": counter("pending_changes", "Pending changes", "persons.pending", "mdi:account-clock"),
            "refused_changes": counter("refused_changes", "Refused changes", "persons.refused", "mdi:account-cancel"),
            "last_seen": _entity(
                "sensor",
                device_id,
                entity_name,
                "last_seen",
                "Last seen",
                availability=installation.bridge_available,
                state_topic=topics.terminal_state(terminal.sn),
                value_template=_value_of("last_seen"),
                device_class="timestamp",
                entity_category="diagnostic",
            ),
            "reply": _entity(
                "event",
                device_id,
                entity_name,
                "reply",
                "Reply",
                availability=installation.bridge_available,
                state_topic=topics.terminal_reply(terminal.sn),
                event_types=[outcome.value for outcome in Outcome],
                value_template=_reply_template(),
                icon="mdi:message-reply-text",
            ),
        },
    }


def _reply_template() -> str:
    attributes = ", ".join(f"'{name}': value_json.{name}" for name in _REPLY_ATTRIBUTES)
    return f"{{{{ {{'event_type': value_json.outcome, {attributes}}} | tojson }}}}"


def _entity(platform: str, device_id: str, entity_name: str, key: str, name: str, **options: Any) -> dict[str, Any]:
    """Return one component.

    Args:
        platform: `button`, `sensor`, …
        device_id: the device's id; the entity's unique id starts with it and stays the same when names change.
        entity_name: the start of its entity id.
        key: the end of its ids.
        name: its name; Home Assistant puts the device's name before it.
        options: the component's other options.
    """
    return {
        "p": platform,
        "unique_id": f"{device_id}_{key}",
        "default_entity_id": f"{platform}.{entity_name}_{key}",
        "name": name,
        **options,
    }


def _value_of(path: str) -> str:
    """Return a template for a value of a JSON payload.

    A cleared topic is empty and has no `value_json`; without the condition, Home Assistant logs a warning for it.
    """
    return f"{{{{ value_json.{path} if value_json is defined else None }}}}"
