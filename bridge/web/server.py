"""The HTTP server: every request is dated, checked and answered in JSON."""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.hub.admission import Admission
from bridge.hub.clock import Clock
from bridge.hub.event_bus import EventBus
from bridge.hub.ports import Roster
from bridge.hub.presses import Presses
from bridge.hub.registry import TerminalRegistry
from bridge.hub.stall import StallWatch
from bridge.web.errors import error_response
from bridge.web.health import HealthRoutes
from bridge.web.metrics import MetricsRoutes
from bridge.web.presses import ARRIVED_AT, PressRoutes
from bridge.web.security import SECURITY_HEADERS, Security, Verify
from bridge.web.terminals import TerminalRoutes

_LOGGER = logging.getLogger(__name__)

_FAREWELL = 1.0
"""Seconds that requests have to end when the bridge stops; all of it ends within five."""


class WebServer:
    """Serves the hub over HTTP while it is started."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        registry: TerminalRegistry,
        presses: Presses,
        admission: Admission,
        roster: Roster,
        events: EventBus,
        clock: Clock,
        stall: StallWatch,
        verify: Verify,
        store_reachable: Callable[[], Awaitable[bool]],
        broker_statuses: Callable[[], Mapping[str, str | None]],
        queue_lengths: Callable[[], Mapping[str, int]],
    ) -> None:
        """Build the server.

        Args:
            settings: where it listens, and who may log in.
            registry: of the terminals.
            presses: carries them out.
            admission: knows who waits for approval.
            roster: knows how far each terminal is.
            events: counted for the metrics.
            clock: that throttling reads.
            stall: tells since when a request may have waited; it must run.
            verify: of passwords and tokens.
            store_reachable: for `/readyz`.
            broker_statuses: for `/readyz` and the metrics: what is wrong with each connection, None for nothing.
            queue_lengths: for the metrics.
        """
        self._settings = settings
        self._stall = stall
        self._security = Security(settings, verify, clock)
        self._presses = PressRoutes(registry, presses, stall)
        app = web.Application(middlewares=[self._handle], client_max_size=64 * 1024)
        self._presses.add_to(app.router)
        TerminalRoutes(registry, roster).add_to(app.router)
        HealthRoutes(broker_statuses, store_reachable).add_to(app.router)
        MetricsRoutes(registry, admission, roster, events, broker_statuses, queue_lengths).add_to(app.router)
        # A stranger's bytes are nobody's traceback; what fails in a handler is logged by `_handle`.
        silent = logging.getLogger(f"{__name__}.http")
        silent.setLevel(logging.CRITICAL + 1)
        self._runner = web.AppRunner(app, access_log=None, logger=silent, shutdown_timeout=_FAREWELL)
        self._port = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    async def start(self) -> None:
        """Begin to listen. Raises OSError with a message for people."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            where = f"{self._settings.host}:{self._settings.port}"
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"web.port: cannot listen on {where}: {reason}") from None
        address = self._runner.addresses[0]
        self._port = int(address[1])

    async def stop(self) -> None:
        """Let requests end, and stop listening."""
        await self._presses.stop()
        await self._runner.cleanup()

    @web.middleware
    async def _handle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request[ARRIVED_AT] = self._stall.arrived_at()
        try:
            response = await self._security.check(request) or await handler(request)
        except web.HTTPException as error:
            allow: dict[str, str] | None = (
                {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else None
            )
            response = error_response(error.status, f"{request.method} {error.reason}", headers=allow)
        except ConnectionError:
            raise
        except Exception:
            _LOGGER.exception("a request failed")
            response = error_response(500, "the bridge failed; its log says why")
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response
