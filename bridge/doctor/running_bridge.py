"""The running bridge's health and metrics over HTTP."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
import orjson
from aiohttp import hdrs

from bridge.config.settings import WebSettings
from bridge.doctor.findings import Finding, make_finding
from bridge.doctor.ports import reachable_host
from bridge.model.faults import shorten
from bridge.net.passwords import is_hash

_TIMEOUT = aiohttp.ClientTimeout(total=5)
"""A bridge on this machine answers in milliseconds; `/readyz` waits up to three seconds for the store."""

_MAX_RESPONSE_BYTES = 5_000_000

_METRIC = re.compile(r"^(facebridge_[a-z_]+)(?:\{([^}]*)\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeHealth:
    """The answers of the running bridge.

    Attributes:
        answers: whether it answers.
        not_ready: the failed checks of `/readyz` with their reasons.
        metrics: the values of `/metrics` by name and labels; None if they cannot be read.
    """

    answers: bool = False
    not_ready: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] | None = None


async def read_bridge_health(settings: WebSettings) -> BridgeHealth:
    """Read the health of the bridge that listens on `web.port`."""
    base = f"http://{reachable_host(settings.host)}:{settings.port}"
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            login = _login(settings)
            async with session.get(f"{base}/readyz", headers=login) as response:
                if response.headers.get("Server") != "facebridge":
                    return BridgeHealth()
                checks = orjson.loads(await response.content.read(_MAX_RESPONSE_BYTES)).get("checks", {})
            can_log_in = bool(login) or (settings.username is None and not settings.tokens)
            metrics = await _read_metrics(session, base, login) if can_log_in else None
    except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError):
        return BridgeHealth()
    failed = {shorten(str(name), 60): shorten(str(result), 300) for name, result in checks.items() if result != "ok"}
    return BridgeHealth(answers=True, not_ready=failed, metrics=metrics)


def _login(settings: WebSettings) -> Mapping[str, str]:
    """Return the header with a configured login; empty if none is known: a hash is not the password."""
    if settings.username is not None and settings.password is not None and not is_hash(settings.password.reveal()):
        credentials = f"{settings.username}:{settings.password.reveal()}".encode()
        return {hdrs.AUTHORIZATION: f"Basic {b64encode(credentials).decode()}"}
    for token in settings.tokens.values():
        if not is_hash(token.hash.reveal()):
            return {hdrs.AUTHORIZATION: f"Bearer {token.hash.reveal()}"}
    return {}


async def _read_metrics(
    session: aiohttp.ClientSession, base: str, login: Mapping[str, str]
) -> Mapping[str, float] | None:
    async with session.get(f"{base}/metrics", headers=login) as response:
        if response.status != 200:
            return None
        text = (await response.content.read(_MAX_RESPONSE_BYTES)).decode(errors="replace")
    return {f"{name}{{{labels}}}" if labels else name: float(value) for name, labels, value in _METRIC.findall(text)}


def evaluate_bridge_health(health: BridgeHealth, *, bridge_running: bool, address: str) -> Iterator[Finding]:
    """Report the health of the bridge that runs on the configured store.

    Args:
        health: its answers.
        bridge_running: whether a bridge runs on the store.
        address: where it was asked, as a text for users.
    """
    if not bridge_running:
        yield make_finding("bridge_absent", "no bridge runs on this store just now; start it with `facebridge run`")
        return
    if not health.answers:
        yield make_finding("bridge_unseen", f"a bridge runs on this store, but does not answer on {address}")
        return
    for name, problem in health.not_ready.items():
        if "same client id" in problem:
            yield make_finding(
                "client_id_shared", f"{name}: {problem}", "give each bridge a mqtt.client_id of its own, or stop one"
            )
        else:
            yield make_finding(
                "bridge_not_ready",
                f"the bridge is not ready: {name}: {problem}",
                "see the findings about broker and store, and the bridge's log",
            )
    if health.metrics is None:
        yield make_finding(
            "metrics_unseen",
            "the doctor cannot read the bridge's metrics: the configuration holds only hashes of logins",
        )


async def server_date(url: str) -> datetime | None:
    """Return the `Date` of a web server's answer; None if there is none."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.head(url, ssl=False) as response:
            return parsedate_to_datetime(response.headers.get("Date", ""))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, asyncio.IncompleteReadError):
        return None
