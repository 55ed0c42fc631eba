"""`GET /api/terminals` and `/api/terminals/{sn}`: what MQTT has as the terminals' state."""

from aiohttp import web

from bridge.hub.ports import Roster
from bridge.hub.registry import TerminalRegistry
from bridge.hub.state import terminal_state
from bridge.model.names import is_serial_number
from bridge.web.errors import error_response, json_response


class TerminalRoutes:
    """Shows the known terminals."""

    def __init__(self, registry: TerminalRegistry, roster: Roster) -> None:
        self._registry = registry
        self._roster = roster

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/api/terminals", self._all)
        router.add_get("/api/terminals/{sn}", self._one)

    async def _all(self, _request: web.Request) -> web.StreamResponse:
        return json_response(
            [terminal_state(known, self._roster.counts(known.terminal.sn)) for known in self._registry]
        )

    async def _one(self, request: web.Request) -> web.StreamResponse:
        sn = request.match_info["sn"]
        if not is_serial_number(sn):
            return error_response(400, "an SN has 1 to 64 letters, digits, _ and -", path="sn")
        known = self._registry.get(sn)
        if known is None:
            return error_response(404, f"terminal {sn} is not known", path="sn")
        return json_response(terminal_state(known, self._roster.counts(sn)))
