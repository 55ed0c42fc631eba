"""`/healthz`: the process is alive. `/readyz`: broker and store are reached."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

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
            store_reachable: tells whether the store answers.
        """
        self._broker_statuses = broker_statuses
        self._store_reachable = store_reachable

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/healthz", self._alive)
        router.add_get("/readyz", self._ready)

    async def _alive(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"status": "ok"})

    async def _ready(self, _request: web.Request) -> web.StreamResponse:
        checks = {f"broker ({name})": problem or "ok" for name, problem in self._broker_statuses().items()}
        checks["store"] = "ok" if await self._store_reachable() else "does not answer"
        ready = all(result == "ok" for result in checks.values())
        return json_response({"status": "ok" if ready else "not ready", "checks": checks}, 200 if ready else 503)
