"""What the doctor finds: every code there is, and how bad it is. docs/operation.md lists them; a test compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from bridge.model.reply import format_time


class Level(IntEnum):
    """How bad it is; only the last makes the exit code 1."""

    OK = 0
    """As it should be."""
    HINT = 1
    """Worth knowing, or out of sight; it may well be meant so."""
    WARNING = 2
    """It works, and something about it should be changed or looked at."""
    WRONG = 3
    """It does not work, or a promise does not hold."""


class Area(StrEnum):
    """What a finding is about, in the order it is shown."""

    CONFIGURATION = "configuration"
    BROKER = "broker"
    BRIDGE = "bridge"
    TERMINALS = "terminals"
    STORE = "store"
    PORTS = "ports"
    CLOCK = "clock"


_CODES: Mapping[Area, Mapping[Level, Sequence[str]]] = {
    Area.CONFIGURATION: {
        Level.OK: ["configuration_ok"],
        Level.HINT: [
            "admit_any",
            "deadline_short",
            "mqtt_anonymous",
            "mqtt_plain",
            "photos_unencrypted",
            "terminal_password_plain",
        ],
        Level.WARNING: [
            "base_topic_in_discovery",
            "certificate_expires",
            "config_readable",
            "photo_folder_unusable",
            "secrets_readable",
            "terminal_password_short",
            "tls_not_verified",
            "web_plain_http",
        ],
        Level.WRONG: ["certificate_expired", "certificate_unusable", "configuration_invalid"],
    },
    Area.BROKER: {
        Level.OK: [
            "broker_connected",
            "homeassistant_online",
            "large_packets_ok",
            "permissions_ok",
            "retain_ok",
            "round_trip_ok",
            "session_kept",
            "sys_ok",
        ],
        Level.HINT: [
            "homeassistant_unseen",
            "nagle",
            "permissions_unproven",
            "persistence_unseen",
            "protocol_5_possible",
            "receive_maximum_small",
            "server_reference",
            "sys_unreadable",
            "trials_impossible",
        ],
        Level.WARNING: [
            "broker_embedded",
            "broker_slow",
            "client_id_changed",
            "discovery_missing",
            "homeassistant_offline",
            "messages_dropped",
            "messages_expire",
            "retained_command",
        ],
        Level.WRONG: [
            "broker_unreachable",
            "packets_too_small",
            "publish_refused",
            "qos_unavailable",
            "retain_unavailable",
            "session_lost",
            "subscribe_refused",
            "trial_not_heard",
            "wildcards_unavailable",
        ],
    },
    Area.BRIDGE: {
        Level.OK: ["bridge_online"],
        Level.HINT: ["bridge_absent", "bridge_other_version", "bridge_unseen", "metrics_unseen"],
        Level.WARNING: ["bridge_elsewhere", "bridge_unsteady", "bridge_warns"],
        Level.WRONG: ["bridge_not_ready", "bridge_not_online", "bridges_share_topics", "client_id_shared"],
    },
    Area.TERMINALS: {
        Level.OK: ["terminals_ok"],
        Level.HINT: ["terminals_none", "terminals_offline", "terminals_unseen", "topics_left_over"],
        Level.WARNING: [
            "terminals_never_seen",
            "terminals_offline_long",
            "terminals_one_address",
            "terminals_pending",
            "terminals_persons_refused",
            "terminals_reconnecting",
            "terminals_turned_away",
        ],
        Level.WRONG: ["terminals_wrong_credentials"],
    },
    Area.STORE: {
        Level.OK: ["store_ok"],
        Level.HINT: ["store_absent", "store_old_schema", "store_on_overlay", "store_wal_large"],
        Level.WARNING: ["store_disk_low", "store_pending_long", "store_readable"],
        Level.WRONG: [
            "store_disk_full",
            "store_foreign",
            "store_on_network",
            "store_on_tmpfs",
            "store_photo_key",
            "store_unusable",
        ],
    },
    Area.PORTS: {
        Level.OK: ["port_ok"],
        Level.WARNING: ["port_of_another_bridge"],
        Level.WRONG: ["port_unusable"],
    },
    Area.CLOCK: {
        Level.OK: ["clock_ok"],
        Level.HINT: ["clock_unseen", "timezone_utc"],
        Level.WARNING: ["clock_behind_audit", "clock_differs", "clock_unsynchronised", "timezone_unknown"],
    },
}
_ANYWHERE: Mapping[Level, Sequence[str]] = {Level.WARNING: ["check_failed", "check_unfinished"]}
"""Codes of what can happen to any check."""


@dataclass(frozen=True, slots=True)
class FindingKind:
    """What a code stands for; `area` None for any."""

    level: Level
    area: Area | None


KINDS: Mapping[str, FindingKind] = {
    code: FindingKind(level, area)
    for area, levels in [*_CODES.items(), (None, _ANYWHERE)]
    for level, codes in levels.items()
    for code in codes
}
"""Every code; they are stable: monitors depend on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: one of `KINDS`.
        area: what it is about.
        what: is so, in words for people; no secret, no name of a person.
        to_do: what to do about it; empty where there is nothing to do.
    """

    code: str
    area: Area
    what: str
    to_do: str = ""

    @property
    def level(self) -> Level:
        """How bad it is."""
        return KINDS[self.code].level

    def as_json(self) -> dict[str, str]:
        """Return what `--json` shows."""
        return {
            "area": self.area.value,
            "level": self.level.name.lower(),
            "code": self.code,
            "what": self.what,
            "to_do": self.to_do,
        }


def found(code: str, what: str, to_do: str = "", *, area: Area | None = None) -> Finding:
    """Make a finding.

    Args:
        code: one of `KINDS`.
        what: is so.
        to_do: about it.
        area: for the codes that any area has.
    """
    area = KINDS[code].area or area
    assert area is not None, f"{code} needs an area"
    return Finding(code=code, area=area, what=what, to_do=to_do)


def report(findings: Sequence[Finding], version: str, at: datetime) -> dict[str, Any]:
    """Return all of it as `--json` shows it."""
    return {
        "version": version,
        "at": format_time(at),
        "worst": worst(findings).name.lower(),
        "findings": [finding.as_json() for finding in findings],
    }


def worst(findings: Sequence[Finding]) -> Level:
    """Return how bad the worst is."""
    return max((finding.level for finding in findings), default=Level.OK)
