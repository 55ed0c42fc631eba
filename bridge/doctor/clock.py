"""The machine's clock and time zone: presses do not need them, persons' times and the audit do."""

import ctypes
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bridge.doctor.findings import Finding, found

_UNSYNCHRONISED = 0x40
"""STA_UNSYNC (adjtimex(2))."""

_APART = timedelta(seconds=5)
"""Between two clocks that are set: HTTP dates have whole seconds, and an answer takes one or two."""


class _Timex(ctypes.Structure):
    """The beginning of `struct timex` (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def is_synchronised() -> bool | None:
    """Tell whether something keeps the kernel's clock right; None where the kernel does not say."""
    state = _Timex()
    try:
        # With no modes set it only reads.
        code = ctypes.CDLL(None).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return None
    return None if code < 0 else not state.status & _UNSYNCHRONISED


def judge_clock(*, synchronised: bool | None, now: datetime, others: Mapping[str, datetime]) -> list[Finding]:
    """Say whether the clock is right.

    Args:
        synchronised: what the kernel says.
        now: the machine's time.
        others: what others said at that time, by who they are.
    """
    findings = []
    for who, there in others.items():
        if abs(there - now) > _APART:
            seconds = (now - there).total_seconds()
            how = "ahead of" if seconds > 0 else "behind"
            findings.append(
                found(
                    "clock_differs",
                    f"this machine's clock is {abs(seconds):,.0f} s {how} that of {who}",
                    "let both be kept by NTP",
                )
            )
    if synchronised is None:
        findings.append(found("clock_unseen", "the kernel does not say whether its clock is kept right"))
    elif not synchronised:
        findings.append(
            found(
                "clock_unsynchronised",
                "nothing keeps this machine's clock right, as far as the kernel knows: times in the audit, and persons'"
                " times, drift",
                "run chrony or systemd-timesyncd (in a virtual machine or container: on its host)",
            )
        )
    if not findings:
        findings.append(found("clock_ok", "the clock is synchronised"))
    return findings


def judge_audit_time(now: datetime, newest_record: datetime | None) -> list[Finding]:
    """Say whether the clock was set back."""
    if newest_record is None or newest_record - now <= _APART:
        return []
    return [
        found(
            "clock_behind_audit",
            f"the audit's youngest record is of {newest_record:%Y-%m-%d %H:%M} UTC, which has yet to come: the clock"
            " was set back, or was wrong before",
            "see to it that the clock is right; persons' times follow it",
        )
    ]


def judge_timezone(environment: Mapping[str, str], local_time: Path = Path("/etc/localtime")) -> list[Finding]:
    """Say whether the local time, in which persons' times without an offset are read, is what people mean by it."""
    name = environment.get("TZ", "").removeprefix(":")
    if name and not Path(name).is_absolute() and not _is_zone(name):
        return [
            found(
                "timezone_unknown",
                f"the time zone TZ={name[:40]!r} is not known here: persons' times without an offset are read as UTC",
                "install tzdata, or correct TZ",
            )
        ]
    offset = datetime.now().astimezone().utcoffset()
    if offset == timedelta(0) and not (name or os.path.lexists(local_time)):
        where = "no time zone is set (neither TZ nor /etc/localtime)"
    elif offset == timedelta(0) and datetime(2026, 7, 1).astimezone().utcoffset() == timedelta(0):
        # Not London in its winter.
        where = "the time zone is UTC"
    else:
        return []
    return [
        found(
            "timezone_utc",
            f"{where}: persons' times without an offset are read as UTC",
            "set TZ (in a container) or /etc/localtime to where the doors are, or give offsets",
        )
    ]


def _is_zone(name: str) -> bool:
    # A rule such as CET-1CEST (tzset(3)) has digits in it; names of zones have a few, too.
    if any(character.isdigit() for character in name) and "/" not in name:
        return True
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
