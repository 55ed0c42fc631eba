"""The health of the bridge: its parts, its warnings, and the doctor's findings."""

from typing import Any

from aiohttp import web

from bridge.core.clock import Clock
from bridge.web.authentication import require_role
from bridge.web.context import BridgeStatus
from bridge.web.page.checks import BackgroundChecks, FindProblems
from bridge.web.page.forms import PageRouter, read_form
from bridge.web.page.outcomes import Tone
from bridge.web.page.rendering import Renderer, redirect
from bridge.web.page.translations import noop

LEVEL_NAMES: dict[str, tuple[str, Tone]] = {
    "wrong": (noop("wrong"), "bad"),
    "warning": (noop("warning"), "warn"),
    "hint": (noop("hint"), ""),
    "ok": (noop("in order"), "good"),
}
"""The name of each level of a finding, and how it is shown."""

AREAS = {
    "configuration": noop("Configuration"),
    "broker": noop("Broker"),
    "bridge": noop("Bridge"),
    "terminals": noop("Terminals"),
    "store": noop("Store"),
    "ports": noop("Ports"),
    "clock": noop("Clock"),
}
"""The name of each area of a finding."""

QUEUES = {
    "presses": noop("Presses that run"),
    "intake": noop("Changes from the broker that wait to be stored"),
    "outbox": noop("Final replies that wait for the broker"),
    "retained": noop("States that wait for the broker"),
    "handshakes": noop("Terminals that are connecting"),
}
"""The name of each queue."""


class HealthPages:
    """The page about the health of the bridge."""

    def __init__(self, find_problems: FindProblems, status: BridgeStatus, renderer: Renderer, clock: Clock) -> None:
        self._status = status
        self._renderer = renderer
        self._checks = BackgroundChecks(find_problems, clock)

    def add_to(self, router: PageRouter) -> None:
        """Add the routes."""
        router.get("/health", self._show)
        router.post("/health/check", self._check)

    async def stop(self) -> None:
        """End the checks that run."""
        await self._checks.stop()

    async def _show(self, request: web.Request) -> web.StreamResponse:
        values: dict[str, Any] = {
            "summary": self._status.summary(),
            "brokers": self._status.broker_statuses(),
            "store_answers": await self._status.store_reachable(),
            "queues": self._status.queue_lengths(),
            "queue_names": QUEUES,
            "checks": self._checks,
            "levels": LEVEL_NAMES,
            "areas": AREAS,
        }
        return self._renderer.live_page(request, "health.html", **values)

    async def _check(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        await read_form(request)
        self._checks.start()
        return redirect(request, "health")
