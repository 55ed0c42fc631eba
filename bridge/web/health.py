"""`/healthz` (the process is alive) and `/readyz` (broker and store are reachable)."""

import asyncio

from aiohttp import web

from bridge.core.tasks import BackgroundTasks
from bridge.web.authentication import USER
from bridge.web.context import BridgeStatus
from bridge.web.errors import json_response


class HealthRoutes:
    """Routes for monitors and watchdogs; they need no login, and without one they name no host and no address."""

    def __init__(self, status: BridgeStatus) -> None:
        self._status = status
        self._tasks = BackgroundTasks()
        self._store_check: asyncio.Task[bool] | None = None

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/healthz", self._healthz)
        router.add_get("/readyz", self._readyz)

    async def stop(self) -> None:
        """Cancel a running check of the store."""
        await self._tasks.stop()

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        # A problem can name the broker's address.
        shows_problems = request.get(USER) is not None
        checks = {
            f"broker ({name})": "ok" if problem is None else problem if shows_problems else "not connected"
            for name, problem in self._status.broker_statuses().items()
        }
        checks["store"] = "ok" if await self._store_reachable() else "does not answer"
        ready = all(result == "ok" for result in checks.values())
        return json_response({"status": "ok" if ready else "not ready", "checks": checks}, 200 if ready else 503)

    async def _store_reachable(self) -> bool:
        # No login is needed here, so simultaneous requests share one query of the store.
        if self._store_check is None or self._store_check.done():
            self._store_check = self._tasks.start(self._check_store(), name="check of the store")
        return await asyncio.shield(self._store_check)

    async def _check_store(self) -> bool:
        return await self._status.store_reachable()
