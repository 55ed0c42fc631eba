"""What the running bridge says of itself over HTTP."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
import orjson

from bridge.config.settings import WebSettings
from bridge.doctor.findings import Finding, found
from bridge.doctor.ports import reachable_host
from bridge.model.faults import shorten
from bridge.net.passwords import is_hash

_TIMEOUT = aiohttp.ClientTimeout(total=5)
"""A bridge on this machine answers in milliseconds; `/readyz` waits three seconds for the store."""

_LONGEST = 5_000_000
"""Bytes of an answer that are read."""

_METRIC = re.compile(r"^(facebridge_[a-z_]+)(?:\{([^}]*)\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeHealth:
    """What it says.

    Attributes:
        answers: whether it does.
        not_ready: what `/readyz` says is wrong, by what it looked at.
        metrics: `/metrics`, by name and labels as they stand there; None where it may not be read.
    """

    answers: bool = False
    not_ready: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] | None = None


async def ask_bridge(settings: WebSettings) -> BridgeHealth:
    """Ask a bridge that should be listening."""
    base = f"http://{reachable_host(settings.host)}:{settings.port}"
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            async with session.get(f"{base}/readyz") as response:
                if response.headers.get("Server") != "facebridge":
                    return BridgeHealth()
                checks = orjson.loads(await response.content.read(_LONGEST)).get("checks", {})
            metrics = await _metrics(session, base, settings)
    except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError):
        return BridgeHealth()
    wrong = {shorten(str(name), 60): shorten(str(how), 300) for name, how in checks.items() if how != "ok"}
    return BridgeHealth(answers=True, not_ready=wrong, metrics=metrics)


async def _metrics(session: aiohttp.ClientSession, base: str, settings: WebSettings) -> Mapping[str, float] | None:
    login = None
    if settings.username is not None and settings.password is not None:
        if is_hash(settings.password.reveal()):
            # Only who knows the password can log in; a try would count as a wrong one.
            return None
        login = aiohttp.BasicAuth(settings.username, settings.password.reveal())
    async with session.get(f"{base}/metrics", auth=login) as response:
        if response.status != 200:
            return None
        text = (await response.content.read(_LONGEST)).decode(errors="replace")
    return {f"{name}{{{labels}}}" if labels else name: float(value) for name, labels, value in _METRIC.findall(text)}


def judge_vitals(vitals: BridgeHealth, *, bridge_running: bool, shown: str) -> list[Finding]:
    """Say how the bridge that runs on our store is.

    Args:
        vitals: what it says.
        bridge_running: whether there is one.
        shown: where it was asked.
    """
    if not bridge_running:
        return [found("bridge_absent", "no bridge runs on this store just now; start it with `facebridge run`")]
    if not vitals.answers:
        return [found("bridge_unseen", f"a bridge runs on this store, and does not answer on {shown}")]
    findings = [
        found("client_id_shared", f"{name}: {how}", "give each bridge a mqtt.client_id of its own, or stop one")
        if "same client id" in how
        else found(
            "bridge_not_ready",
            f"the bridge is not ready: {name}: {how}",
            "see what is said here of broker and store, and the bridge's log",
        )
        for name, how in vitals.not_ready.items()
    ]
    if vitals.metrics is None:
        findings.append(
            found("metrics_unseen", "the bridge's metrics take a login that the doctor does not have (a hash)")
        )
    return findings


async def date_of(url: str) -> datetime | None:
    """Return the `Date` that a web server gives; None where it gives none."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.head(url, ssl=False) as response:
            return parsedate_to_datetime(response.headers.get("Date", ""))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, asyncio.IncompleteReadError):
        return None
