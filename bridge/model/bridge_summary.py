"""The bridge as a whole, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.model.json_schema import TIME, JsonSchema, described, number_of, output_schema, text
from bridge.model.names import SERIAL_NUMBER_SCHEMA
from bridge.model.reply import format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSummary:
    """What `B/bridge/info` tells (CONTRACT, section 4).

    Attributes:
        version: of the bridge.
        started_at: when it started.
        protocol: `mqtt.protocol`.
        known: terminals that are known.
        online: those of them that are connected.
        waiting: SN and address of each terminal that waits for approval.
        pending: changes that terminals have yet to confirm.
        refused: changes that terminals refused.
        warnings: which promises do not hold at present, in words for people.
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
            # Beyond the contract: what the Home Assistant sensor shows beside the number.
            "pending": [{"sn": sn, "address": address} for sn, address in self.waiting],
        }


BRIDGE_SUMMARY_SCHEMA: JsonSchema = output_schema(
    {
        "version": text("of the bridge"),
        "started_at": described(TIME, "when it started"),
        "protocol": {"enum": ["5", "3.1.1"], "description": "the MQTT protocol it speaks to the broker"},
        "terminals": output_schema(
            {
                "known": number_of("terminals that are known"),
                "online": number_of("those of them that are connected"),
                "pending": number_of("terminals that wait for approval"),
            }
        ),
        "persons": output_schema(
            {
                "pending": number_of("changes that terminals have yet to confirm"),
                "refused": number_of("changes that terminals refused"),
            }
        ),
        "warnings": {
            "type": "array",
            "items": {"type": "string"},
            "description": "promises that do not hold at present, in words for people",
        },
        "pending": {
            "type": "array",
            "items": output_schema(
                {"sn": SERIAL_NUMBER_SCHEMA, "address": text("where it tried to connect from last")}
            ),
            "description": "the terminals that wait for approval",
        },
    },
    title="BridgeInfo",
    description="The bridge as a whole.",
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
"""What `BridgeSummary.as_json` gives."""
