"""The HTTP server: every request is dated, checked and answered in JSON."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.core.admission import Admission
from bridge.core.clock import Clock, StallDetector
from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonsPort
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.model.faults import shorten
from bridge.web.api.presses import ARRIVED_AT, PressRoutes
from bridge.web.api.terminals import TerminalRoutes
from bridge.web.authentication import Security, Verify
from bridge.web.connections import BACKLOG, Connections, finish, listen
from bridge.web.errors import RequestError
from bridge.web.health import HealthRoutes
from bridge.web.metrics import MetricsRoutes

_LOGGER = logging.getLogger(__name__)

_FAREWELL = 1.0
"""Seconds that presses have to end when the bridge stops; all of it ends within five."""
_LAST_ANSWERS = 0.5
"""Seconds that the answers then have to be taken; aiohttp takes up to twice as long."""


class ListenError(OSError):
    """The server cannot listen; the message says why."""


class WebServer:
    """Serves the hub over HTTP while it is started."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        registry: TerminalRegistry,
        presses: Presses,
        admission: Admission,
        person_service: PersonsPort,
        events: EventBus,
        clock: Clock,
        stall: StallDetector,
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
            person_service: knows how far each terminal is.
            events: counted for the metrics, and told of presses that cannot be obeyed.
            clock: of throttling and of replies.
            stall: tells since when a request may have waited; it must run.
            verify: of passwords and tokens.
            store_reachable: for `/readyz`.
            broker_statuses: for `/readyz` and the metrics: what is wrong with each connection, None for nothing.
            queue_lengths: for the metrics.
        """
        self._settings = settings
        self._stall = stall
        self._security = Security(settings, verify, clock)
        self._presses = PressRoutes(presses, events, clock)
        self._health = HealthRoutes(broker_statuses, store_reachable)
        app = web.Application(middlewares=[self._handle])
        self._presses.add_to(app.router)
        self._health.add_to(app.router)
        TerminalRoutes(registry, person_service).add_to(app.router)
        MetricsRoutes(registry, admission, person_service, events, broker_statuses, queue_lengths).add_to(app.router)
        self._runner = web.AppRunner(app, shutdown_timeout=_LAST_ANSWERS)
        self._connections: Connections | None = None
        self._listening: list[asyncio.Server] = []
        self._port = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    async def start(self) -> None:
        """Begin to listen. Raises ListenError."""
        where = f"{self._settings.host}:{self._settings.port}"
        try:
            listeners = await listen(self._settings.host, self._settings.port)
        except OSError as error:
            # The numbers of name resolution are negative, and not the system's.
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
            raise ListenError(f"web.port: cannot listen on {where}: {reason}") from None
        self._port = listeners[0].getsockname()[1]
        await self._runner.setup()
        assert self._runner.server is not None
        # A stranger's bytes are nobody's traceback; what fails in a handler is logged by `_handle`.
        silent = logging.getLogger(f"{__name__}.http")
        silent.setLevel(logging.CRITICAL + 1)
        self._connections = Connections(self._runner.server, silent)
        loop = asyncio.get_running_loop()
        for listener in listeners:
            self._listening.append(await loop.create_server(self._connections, sock=listener, backlog=BACKLOG))

    async def stop(self) -> None:
        """Stop listening, and let requests end."""
        for one in self._listening:
            one.close()
        await self._presses.stop(_FAREWELL)
        await self._health.stop()
        await self._runner.cleanup()

    @web.middleware
    async def _handle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request[ARRIVED_AT] = self._stall.arrived_at()
        assert self._connections is not None
        with self._connections.answering(request.protocol):
            return finish(await self._answer(request, handler))

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            await self._security.check(request)
            return await handler(request)
        except RequestError as error:
            return error.response()
        except web.HTTPException as error:
            return _route_error(request, error).response()
        except ConnectionError:
            # Whoever asked is gone.
            raise
        except Exception:
            _LOGGER.exception("a request failed")
            return RequestError(500, "the bridge failed; its log says why").response()


def _route_error(request: web.Request, error: web.HTTPException) -> RequestError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed: dict[str, str] = {hdrs.ALLOW: ",".join(sorted(error.allowed_methods))}
        return RequestError(error.status, f"{shorten(request.method, 20)} is not for this path", headers=allowed)
    if isinstance(error, web.HTTPNotFound):
        return RequestError(error.status, "there is nothing at this path")
    return RequestError(error.status, error.reason)
