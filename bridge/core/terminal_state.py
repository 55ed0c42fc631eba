"""The state of a terminal as all adapters publish it."""

from typing import Any

from bridge.core.registry import KnownTerminal
from bridge.model.json_schema import TIME, JsonSchema, described, nullable, output_schema, text
from bridge.model.names import SERIAL_NUMBER_SCHEMA
from bridge.model.reply import REPLY_SCHEMA, Reply, format_time
from bridge.model.terminal import PERSON_COUNTS_SCHEMA, PersonCounts


def terminal_state(known: KnownTerminal, persons: PersonCounts) -> dict[str, Any]:
    """Return the published state of a terminal (docs/mqtt.md), ready for JSON."""
    connection = known.connection
    return {
        "sn": known.terminal.sn,
        "name": known.terminal.title,
        "online": connection is not None,
        "address": connection.address if connection is not None else None,
        "connected_at": format_time(connection.connected_at) if connection is not None else None,
        "last_seen": format_time(known.last_seen) if known.last_seen is not None else None,
        "persons": persons.as_json(),
        "last_reply": _without_person(known.last_reply) if known.last_reply is not None else None,
    }


_NOT_PUBLISHED = frozenset({"person_id", "message", "errors", "persons"})
"""Keys of a reply that can name a person. Every user of the broker may read the state, only some the replies."""


def _without_person(reply: Reply) -> dict[str, Any]:
    return {key: value for key, value in reply.as_json().items() if key not in _NOT_PUBLISHED}


LAST_REPLY_SCHEMA: JsonSchema = {
    **output_schema(
        {key: schema for key, schema in REPLY_SCHEMA["properties"].items() if key not in _NOT_PUBLISHED},
        sometimes=("group",),
        title="LastReply",
        description="A reply without what can name a person: every user of the broker may read the state.",
    ),
    # The rule for "other keys" must not let these return unnoticed.
    "propertyNames": {"not": {"enum": sorted(_NOT_PUBLISHED)}},
}

TERMINAL_STATE_SCHEMA: JsonSchema = output_schema(
    {
        "sn": SERIAL_NUMBER_SCHEMA,
        "name": text("its display name; `Terminal <SN>` if it has none"),
        "online": {"type": "boolean", "description": "whether it is connected"},
        "address": nullable(text("the address it is connected from")),
        "connected_at": described(nullable(TIME), "when its present connection began"),
        "last_seen": described(
            nullable(TIME), "when its last frame arrived; if only this changes, it is published once a minute"
        ),
        "persons": PERSON_COUNTS_SCHEMA,
        "last_reply": described(nullable(LAST_REPLY_SCHEMA), "the newest reply to one of its commands"),
    },
    title="TerminalState",
    description="A terminal as the bridge sees it, published at most once a second.",
    examples=[
        {
            "sn": "FEDCBA9876543210",
            "name": "Front door",
            "online": True,
            "address": "192.0.2.17",
            "connected_at": "2026-11-24T07:59:30.000+00:00",
            "last_seen": "2026-11-24T08:00:00.000+00:00",
            "persons": {"desired": 120, "confirmed": 119, "pending": 1, "refused": 0},
            "last_reply": None,
        }
    ],
)
"""The schema of what `terminal_state` returns."""
