"""`/healthz`: the process is alive. `/readyz`: broker and store are reached."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from bridge.core.tasks import BackgroundTasks
from bridge.web.errors import json_response


class HealthRoutes:
    """Answers monitors and watchdogs; needs no login and tells no secret."""

    def __init__(
        self,
        broker_statuses: Callable[[], Mapping[str, str | None]],
        store_reachable: Callable[[], Awaitable[bool]],
    ) -> None:
        """Build the routes.

        Args:
            broker_statuses: returns what is wrong with each connection to the broker, None for nothing.
            store_reachable: tells within a few seconds whether the store answers.
        """
        self._broker_statuses = broker_statuses
        self._store_reachable = store_reachable
        self._tasks = BackgroundTasks()
        self._looking: asyncio.Task[bool] | None = None

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/healthz", self._alive)
        router.add_get("/readyz", self._ready)

    async def stop(self) -> None:
        """Give up looking at the store."""
        await self._tasks.stop()

    async def _alive(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"status": "ok"})

    async def _ready(self, _request: web.Request) -> web.StreamResponse:
        checks = {f"broker ({name})": problem or "ok" for name, problem in self._broker_statuses().items()}
        checks["store"] = "ok" if await self._store_answers() else "does not answer"
        ready = all(result == "ok" for result in checks.values())
        return json_response({"status": "ok" if ready else "not ready", "checks": checks}, 200 if ready else 503)

    async def _store_answers(self) -> bool:
        # Anybody may ask, as often as they like: all who ask at the same time cost the store one query.
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.start(self._look(), name="look at the store")
        return await asyncio.shield(self._looking)

    async def _look(self) -> bool:
        return await self._store_reachable()
