"""The device of one terminal."""

from typing import Any

from bridge.core.command_definition import PRESS, CommandDefinition
from bridge.core.commands import OPEN, REBOOT, SYNC_PERSONS
from bridge.model.outcome import Outcome
from bridge.model.terminal import Terminal
from bridge.mqtt.discovery.entities import Installation, entity, value_of
from bridge.mqtt.topics import Scope

_REPLY_ATTRIBUTES = ("command", "request_id", "person_id", "status", "message", "delivered", "duration_ms")
"""What the Reply event tells besides its type: small, and without what may be a long list (`persons`, `errors`)."""


def terminal_device(installation: Installation, terminal: Terminal, entity_name: str) -> dict[str, Any]:
    """Return the discovery payload of a terminal.

    Args:
        installation: of the bridge.
        terminal: which.
        entity_name: the start of its entity ids.
    """
    device_id = installation.object_id(terminal.sn)
    topics = installation.topics
    availability_topic = topics.terminal_availability(terminal.sn)

    def button(definition: CommandDefinition, key: str, name: str, qos: int, **options: Any) -> dict[str, Any]:
        command_topic = topics.command(Scope.TERMINAL, terminal.sn, definition)
        payload = PRESS.decode()
        return entity(
            "button",
            device_id,
            entity_name,
            key,
            name,
            command_topic=command_topic,
            payload_press=payload,
            qos=qos,
            retain=False,
            **options,
        )

    def counter(key: str, name: str, path: str, icon: str) -> dict[str, Any]:
        return entity(
            "sensor",
            device_id,
            entity_name,
            key,
            name,
            availability=installation.bridge_available,
            state_topic=topics.terminal_state(terminal.sn),
            value_template=value_of(path),
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
        # For the buttons. What tells something needs the bridge only: Connection must be able to say off, and Reply to
        # say that a press found the terminal offline.
        "availability": [*installation.bridge_available, {"topic": availability_topic}],
        "availability_mode": "all",
        "qos": 1,
        "cmps": {
            # QoS 0 keeps promise 1 on Home Assistant's side too: with 1, its client would send a press that the
            # broker has not acknowledged once more when their connection is back, however late that is.
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
            "connection": entity(
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
            "last_seen": entity(
                "sensor",
                device_id,
                entity_name,
                "last_seen",
                "Last seen",
                availability=installation.bridge_available,
                state_topic=topics.terminal_state(terminal.sn),
                value_template=value_of("last_seen"),
                device_class="timestamp",
                entity_category="diagnostic",
            ),
            "reply": entity(
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
