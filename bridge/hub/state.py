"""What the bridge says of a terminal, the same on every face."""

from typing import Any

from bridge.hub.known_terminal import KnownTerminal
from bridge.model.reply import format_time
from bridge.model.terminal import PersonCounts


def terminal_state(known: KnownTerminal, persons: PersonCounts) -> dict[str, Any]:
    """Return the state of a terminal (CONTRACT, section 4), ready for JSON."""
    connection = known.connection
    return {
        "sn": known.terminal.sn,
        "name": known.terminal.title,
        "online": connection is not None,
        "address": connection.address if connection is not None else None,
        "connected_at": format_time(connection.connected_at) if connection is not None else None,
        "last_seen": format_time(known.last_seen) if known.last_seen is not None else None,
        "persons": persons.as_json(),
        "last_reply": known.last_reply.as_json() if known.last_reply is not None else None,
    }
