"""Findings of the doctor: each code, its level and its area.

docs/doctor.md lists the same codes; a test compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from bridge.model.reply import format_time

_SHOWN_ITEMS = 5
"""Items of a list that a finding names; it counts the others."""


class Level(IntEnum):
    """How serious a finding is. Only `WRONG` makes the exit code 1."""

    OK = 0
    """As it should be."""
    HINT = 1
    """Worth knowing, or not visible to the doctor. It may be intended."""
    WARNING = 2
    """It works, but it should be changed or looked at."""
    WRONG = 3
    """It does not work, or a promise does not hold."""


class Area(StrEnum):
    """The subject of a finding, in the order in which they are shown."""

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
            "web_open_behind_proxy",
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
            "takeover_refused",
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
            "session_takeover",
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
        Level.HINT: [
            "terminals_none",
            "terminals_offline",
            "terminals_share_password",
            "terminals_unseen",
            "topics_left_over",
        ],
        Level.WARNING: [
            "terminals_never_seen",
            "terminals_offline_long",
            "terminals_one_address",
            "terminals_pending",
            "terminals_persons_refused",
            "terminals_reconnecting",
            "terminals_replaced",
            "terminals_turned_away",
        ],
        Level.WRONG: ["terminals_wrong_credentials"],
    },
    Area.STORE: {
        Level.OK: ["store_ok"],
        Level.HINT: ["store_absent", "store_old_schema", "store_on_overlay", "store_wal_large"],
        Level.WARNING: [
            "store_disk_low",
            "store_group_without_members",
            "store_names_damaged",
            "store_pending_long",
            "store_photos_damaged",
            "store_readable",
        ],
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
        Level.WARNING: [
            "clock_behind_audit",
            "clock_differs",
            "clock_of_senders",
            "clock_unsynchronised",
            "timezone_unknown",
        ],
    },
}
_ANY_AREA: Mapping[Level, Sequence[str]] = {Level.WARNING: ["check_failed", "check_unfinished"]}
"""Codes that any check can have."""


@dataclass(frozen=True, slots=True)
class FindingKind:
    """Level and area of a code; `area` is None if any area can have it."""

    level: Level
    area: Area | None


KINDS: Mapping[str, FindingKind] = {
    code: FindingKind(level, area)
    for area, levels in [*_CODES.items(), (None, _ANY_AREA)]
    for level, codes in levels.items()
    for code in codes
}
"""Every code. The codes are stable, because monitoring depends on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A result of a check.

    Attributes:
        code: one of `KINDS`.
        area: the subject.
        what: the fact, as a text for users, without secrets or names of persons.
        to_do: the remedy; empty if there is nothing to do.
    """

    code: str
    area: Area
    what: str
    to_do: str = ""

    @property
    def level(self) -> Level:
        """How serious it is."""
        return KINDS[self.code].level

    def as_json(self) -> dict[str, str]:
        """Return the finding as `--json` prints it."""
        return {
            "area": self.area.value,
            "level": self.level.name.lower(),
            "code": self.code,
            "what": self.what,
            "to_do": self.to_do,
        }


def make_finding(code: str, what: str, to_do: str = "", *, area: Area | None = None) -> Finding:
    """Return a finding.

    Args:
        code: one of `KINDS`.
        what: the fact.
        to_do: the remedy.
        area: the subject, for codes that any area can have.
    """
    area = KINDS[code].area or area
    assert area is not None, f"{code} needs an area"
    return Finding(code=code, area=area, what=what, to_do=to_do)


def first_few(items: Sequence[str], limit: int = _SHOWN_ITEMS) -> str:
    """Return the first items, and the number of the others, as text."""
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more:,} more" if more > 0 else "")


def findings_as_json(findings: Sequence[Finding], version: str, at: datetime) -> dict[str, Any]:
    """Return the object that `--json` prints."""
    return {
        "version": version,
        "at": format_time(at),
        "worst": worst_level(findings).name.lower(),
        "findings": [finding.as_json() for finding in findings],
    }


def worst_level(findings: Sequence[Finding]) -> Level:
    """Return the highest level; `OK` if there are no findings."""
    return max((finding.level for finding in findings), default=Level.OK)
