"""`GET /api/terminals` and `/api/terminals/{sn}`: the terminals' state as over MQTT."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from bridge.core.ports import DesiredPersons
from bridge.core.registry import TerminalRegistry
from bridge.core.terminal_state import terminal_state
from bridge.model.names import is_serial_number
from bridge.web.errors import RequestError, json_response

_TERMINALS_AT_ONCE = 200
"""Terminals that are described, in a few milliseconds, before other tasks run: a press must not wait for ten thousand
terminals."""


class TerminalRoutes:
    """Routes that show the known terminals."""

    def __init__(self, registry: TerminalRegistry, person_service: DesiredPersons) -> None:
        self._registry = registry
        self._person_service = person_service

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/api/terminals", self._all)
        router.add_get("/api/terminals/{sn}", self._one)

    async def _all(self, _request: web.Request) -> web.StreamResponse:
        return json_response(await self._states())

    async def _one(self, request: web.Request) -> web.StreamResponse:
        sn = request.match_info["sn"]
        if not is_serial_number(sn):
            raise RequestError(400, "an SN has 1 to 64 letters, digits, _ and -", path="sn")
        known = self._registry.get(sn)
        if known is None:
            raise RequestError(404, f"terminal {sn} is not known; check the SN", path="sn")
        return json_response(terminal_state(known, self._person_service.counts(sn)))

    async def _states(self) -> Sequence[dict[str, Any]]:
        states = []
        for number, known in enumerate(self._registry, start=1):
            states.append(terminal_state(known, self._person_service.counts(known.terminal.sn)))
            if number % _TERMINALS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return states
