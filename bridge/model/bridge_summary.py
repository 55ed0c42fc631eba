"""Numbers about the whole bridge."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.model.json_schema import TIME, JsonSchema, count_schema, described, output_schema, text
from bridge.model.names import SERIAL_NUMBER_SCHEMA
from bridge.model.reply import format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSummary:
    """The payload of `B/bridge/info` (docs/mqtt.md).

    Attributes:
        version: of the bridge.
        started_at: when it started.
        protocol: `mqtt.protocol`.
        known: known terminals.
        online: known terminals that are connected.
        waiting: serial number and address of each terminal that waits for approval.
        pending: changes that terminals have not confirmed yet.
        refused: changes that terminals refused.
        warnings: the promises that do not hold now, as text for people.
    """

    version: str
    started_at: datetime
    protocol: str
    known: int
    online: int
    waiting: Sequence[tuple[str, str]]
    pending: int
    refused: int
    warnings: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Return the published form."""
        return {
            "version": self.version,
            "started_at": format_time(self.started_at),
            "protocol": self.protocol,
            "terminals": {"known": self.known, "online": self.online, "pending": len(self.waiting)},
            "persons": {"pending": self.pending, "refused": self.refused},
            "warnings": list(self.warnings),
            # The Home Assistant sensor shows these as attributes.
            "pending": [{"sn": sn, "address": address} for sn, address in self.waiting],
        }


BRIDGE_SUMMARY_SCHEMA: JsonSchema = output_schema(
    {
        "version": text("the version of the bridge"),
        "started_at": described(TIME, "when it started"),
        "protocol": {"enum": ["5", "3.1.1"], "description": "the version of MQTT between bridge and broker"},
        "terminals": output_schema(
            {
                "known": count_schema("known terminals"),
                "online": count_schema("known terminals that are connected"),
                "pending": count_schema("terminals that wait for approval"),
            }
        ),
        "persons": output_schema(
            {
                "pending": count_schema("changes that terminals have not confirmed yet"),
                "refused": count_schema("changes that terminals refused"),
            }
        ),
        "warnings": {
            "type": "array",
            "items": {"type": "string"},
            "description": "the promises that do not hold now, as text for people",
        },
        "pending": {
            "type": "array",
            "items": output_schema(
                {"sn": SERIAL_NUMBER_SCHEMA, "address": text("the address of its last attempt to connect")}
            ),
            "description": "the terminals that wait for approval",
        },
    },
    title="BridgeInfo",
    description="Numbers about the whole bridge.",
    examples=[
        {
            "version": "1.0.0",
            "started_at": "2026-11-24T07:59:00.000+00:00",
            "protocol": "5",
            "terminals": {"known": 2, "online": 1, "pending": 0},
            "persons": {"pending": 1, "refused": 0},
            "warnings": [],
            "pending": [],
        }
    ],
)
"""The schema of `BridgeSummary.as_json`."""
