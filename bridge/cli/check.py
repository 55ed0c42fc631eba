"""`facebridge check --connect`: the doctor's checks of broker, store and ports. They disturb no running bridge."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.config.settings import Settings
from bridge.core.clock import Clock
from bridge.doctor.broker import check_connection
from bridge.doctor.checks import STORE_TIMEOUT_SECONDS, run_check
from bridge.doctor.findings import Area, Finding, Level
from bridge.doctor.ports import check_ports
from bridge.doctor.probe import BrokerAccess
from bridge.doctor.store import StoreCheck, check_store


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        ok: whether the bridge could use what was checked.
        message: the result, as a text for users.
    """

    ok: bool
    message: str


async def check_surroundings(settings: Settings) -> list[CheckResult]:
    """Check the broker, the store and the listening ports."""
    clock = Clock()
    store = StoreCheck([])

    async def use_store() -> Sequence[Finding]:
        nonlocal store
        store = await check_store(settings.store, clock.now())
        return store.findings

    async def connect() -> Sequence[Finding]:
        return (await check_connection(BrokerAccess(settings.mqtt, secrets.token_hex(4), clock))).findings

    async def listen() -> Sequence[Finding]:
        return await check_ports(settings, bridge_running=store.bridge_running)

    store_findings = await run_check("the store", Area.STORE, use_store, STORE_TIMEOUT_SECONDS)
    if settings.mqtt.host is None:
        broker = CheckResult(ok=True, message="broker: the bridge starts an embedded one, only for trying out")
    else:
        broker = _result("broker: ", await run_check("the broker", Area.BROKER, connect))
    ports = await run_check("ports", Area.PORTS, listen)
    return [broker, _result("store: ", store_findings), *(_result("", [finding]) for finding in ports)]


def _result(prefix: str, findings: Sequence[Finding]) -> CheckResult:
    """Return the failure, or if there is none the best finding, which says what works."""
    by_level = sorted(findings, key=lambda finding: finding.level)
    if by_level[-1].level is Level.WRONG or by_level[-1].code in ("check_failed", "check_unfinished"):
        return CheckResult(ok=False, message=prefix + by_level[-1].what)
    return CheckResult(ok=True, message=prefix + by_level[0].what)
