"""The machine's clock and time zone. Persons' times, the audit and presses with `asked_at` depend on them."""

import ctypes
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bridge.doctor.findings import Finding, make_finding

_STA_UNSYNC = 0x40
"""The status bit of an unsynchronised clock (adjtimex(2))."""

_TOLERANCE = timedelta(seconds=5)
"""Difference between two correct clocks: HTTP dates have whole seconds, and an answer takes one or two."""


class _Timex(ctypes.Structure):
    """The beginning of `struct timex` (adjtimex(2)), and space for the rest."""

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
    """Return whether a program keeps the kernel's clock synchronised; None if the kernel does not say."""
    state = _Timex()
    try:
        # With `modes` 0 the call only reads.
        code = ctypes.CDLL(None).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return None
    return None if code < 0 else not state.status & _STA_UNSYNC


def evaluate_clock(*, synchronised: bool | None, now: datetime, others: Mapping[str, datetime]) -> list[Finding]:
    """Report whether the clock is right.

    Args:
        synchronised: the kernel's answer.
        now: the machine's time.
        others: the times of other machines at the same moment, by their names.
    """
    findings = []
    for name, time in others.items():
        if abs(time - now) > _TOLERANCE:
            seconds = (now - time).total_seconds()
            ahead = f"this machine's clock is {seconds:,.0f} s ahead of the clock of {name}"
            behind = f"this machine's clock is {-seconds:,.0f} s behind the clock of {name}"
            findings.append(
                make_finding("clock_differs", ahead if seconds > 0 else behind, "synchronise both with NTP")
            )
    if synchronised is None:
        findings.append(make_finding("clock_unseen", "the kernel does not say whether its clock is synchronised"))
    elif not synchronised:
        findings.append(
            make_finding(
                "clock_unsynchronised",
                "the kernel says that its clock is not synchronised: times in the audit and persons' times drift, and"
                " presses with asked_at are expired if their sender's clock is more than a second behind",
                "run chrony or systemd-timesyncd (in a virtual machine or container: on its host)",
            )
        )
    if not findings:
        findings.append(make_finding("clock_ok", "the clock is synchronised"))
    return findings


def evaluate_expired_presses(number: int) -> Iterator[Finding]:
    """Report the presses that were `expired` and whose replies name two clocks."""
    if number:
        yield make_finding(
            "clock_of_senders",
            f"{number:,} presses of the last day were expired, and the time of their asked_at differs from this"
            " machine's: the clocks of the senders (Home Assistant, Node-RED) differ, or the presses waited on the way",
            "keep the clocks of the senders and of this machine within a second of each other with NTP; `facebridge"
            " log` shows both times",
        )


def evaluate_audit_time(now: datetime, newest_record: datetime | None) -> Iterator[Finding]:
    """Report whether the clock was set back."""
    if newest_record is not None and newest_record - now > _TOLERANCE:
        yield make_finding(
            "clock_behind_audit",
            f"the newest audit record is of {newest_record:%Y-%m-%d %H:%M} UTC, which is in the future: the clock was"
            " set back, or was wrong before",
            "make sure that the clock is right; persons' times depend on it",
        )


def evaluate_timezone(environment: Mapping[str, str], local_time: Path = Path("/etc/localtime")) -> Iterator[Finding]:
    """Report whether a time zone is set. Persons' times without an offset are in local time."""
    name = environment.get("TZ", "").removeprefix(":")
    if name and not Path(name).is_absolute() and not _is_zone(name):
        yield make_finding(
            "timezone_unknown",
            f"the time zone TZ={name[:40]!r} is unknown: persons' times without an offset are read as UTC",
            "install tzdata, or correct TZ",
        )
        return
    if datetime.now().astimezone().utcoffset() != timedelta(0):
        return
    if not (name or os.path.lexists(local_time)):
        reason = "no time zone is set (neither TZ nor /etc/localtime)"
    elif datetime(2026, 7, 1).astimezone().utcoffset() == timedelta(0):
        # London has another offset in summer.
        reason = "the time zone is UTC"
    else:
        return
    yield make_finding(
        "timezone_utc",
        f"{reason}: persons' times without an offset are read as UTC",
        "set TZ (in a container) or /etc/localtime to the time zone of the doors, or give times with offsets",
    )


def _is_zone(name: str) -> bool:
    # A rule such as CET-1CEST (tzset(3)) contains digits; names of zones with digits contain a slash (Etc/GMT+1).
    if any(character.isdigit() for character in name) and "/" not in name:
        return True
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
