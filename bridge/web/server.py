"""The HTTP server: every request is dated, checked and answered in JSON."""

import asyncio
import logging
import socket
from collections.abc import Set

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.core.clock import Clock, StallDetector
from bridge.model.faults import UnavailableError, shorten
from bridge.net.listening import listen
from bridge.web.api.api import Api
from bridge.web.authentication import Security
from bridge.web.connections import ConnectionFactory, add_common_headers, admit_body, send
from bridge.web.context import BridgeStatus, WebLimits, WebServices
from bridge.web.errors import RequestError
from bridge.web.page.routes import PageRoutes
from bridge.web.routes import Handler

_LOGGER = logging.getLogger(__name__)

_BACKLOG = 1_024
"""Connections that the kernel keeps until the server accepts them. With aiohttp's 128 the kernel drops some of a burst,
and their presses arrive only when the client's kernel tries again."""

_SEND_TIMEOUT_SECONDS = 30.0
"""Time in which a client must acknowledge some bytes of its response (TCP_USER_TIMEOUT)."""

_STOP_COMMANDS_SECONDS = 1.0
"""Time that running commands have to end when the bridge stops; the whole bridge ends within five seconds."""
_STOP_RESPONSES_SECONDS = 0.5
"""Time that clients then have to read their responses; aiohttp takes up to twice as long."""


class WebServer:
    """The core over HTTP, from `start` to `stop`."""

    def __init__(
        self,
        settings: WebSettings,
        services: WebServices,
        status: BridgeStatus,
        clock: Clock,
        stall: StallDetector,
        limits: WebLimits | None = None,
    ) -> None:
        """Build the server.

        Args:
            settings: address and logins.
            services: the core's services.
            status: the state of the bridge's other parts.
            clock: for throttling and replies.
            stall: knows since when a request may have waited; its `run` must be running.
            limits: of connections, time and presses.
        """
        self._settings = settings
        self._stall = stall
        self._limits = limits or WebLimits()
        store = None if services.page is None else services.page.sessions
        self._security = Security(settings, services.verify, clock, store)
        self._api = Api(services, status, clock, self._limits)
        app = web.Application(middlewares=[self._handle])
        self._router = app.router
        self._api.routes.add_to(app.router)
        self._page = None
        if services.page is not None:
            self._page = PageRoutes(services, services.page, status, clock, app.router, self._security)
        self._runner = web.AppRunner(app, shutdown_timeout=_STOP_RESPONSES_SECONDS)
        self._connections: ConnectionFactory | None = None
        self._listening: list[asyncio.Server] = []
        self._port = 0
        self._is_stopping = False

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._port

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return 0 if self._connections is None else len(self._connections)

    @property
    def open_streams(self) -> int:
        """How many clients receive server-sent events."""
        return self._api.open_streams

    @property
    def routes(self) -> Set[tuple[str, str]]:
        """Method and path of every route; variable parts of a path are written as `{name}`."""
        return {
            (route.method, route.resource.canonical) for route in self._router.routes() if route.resource is not None
        }

    async def start(self) -> None:
        """Start to listen. Raises ListenError, and UnavailableError if the store cannot be used."""
        await self._security.start()
        host, port = self._settings.host, self._settings.port
        listeners = await listen(host, port, key="web.port", backlog=_BACKLOG)
        for listener in listeners:
            # Accepted connections inherit the option.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_SEND_TIMEOUT_SECONDS * 1000))
        self._port = listeners[0].getsockname()[1]
        await self._runner.setup()
        assert self._runner.server is not None
        # Silent, so that a malformed request logs no traceback. `_answer` logs failures of handlers.
        silent = logging.getLogger(f"{__name__}.http")
        silent.setLevel(logging.CRITICAL + 1)
        self._connections = ConnectionFactory(self._runner.server, silent, self._limits, self._stall.arrived_at)
        self._api.start()
        if self._page is not None:
            await self._page.start()
        loop = asyncio.get_running_loop()
        for listener in listeners:
            self._listening.append(await loop.create_server(self._connections, sock=listener, backlog=_BACKLOG))

    async def stop(self) -> None:
        """Stop to listen, and let running requests end."""
        self._is_stopping = True
        for one in self._listening:
            one.close()
        async with asyncio.TaskGroup() as stopping:
            stopping.create_task(self._api.stop(_STOP_COMMANDS_SECONDS))
            if self._page is not None:
                stopping.create_task(self._page.stop(_STOP_COMMANDS_SECONDS))
        await self._runner.cleanup()

    @web.middleware
    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        assert self._connections is not None
        with self._connections.answering(request.protocol):
            response = await self._answer(request, handler)
            self._security.renew(request, response)
            add_common_headers(response)
            await send(request, response, may_reuse=not self._is_stopping)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            await self._security.check(request)
            if request.match_info.http_exception is None:
                admit_body(request, self._max_body_bytes(request))
            return await handler(request)
        except RequestError as error:
            return self._error_response(request, error)
        except UnavailableError as error:
            return self._error_response(request, RequestError(503, str(error)))
        except web.HTTPException as error:
            return self._error_response(request, _route_error(request, error))
        except ConnectionError:
            # The client has disconnected.
            raise
        except Exception:
            _LOGGER.exception("a request failed")
            return self._error_response(request, RequestError(500, "the bridge failed; its log has the details"))

    def _max_body_bytes(self, request: web.Request) -> int | None:
        """Return the size of the largest body that a route reads; None if it takes no body. Raises RequestError."""
        route = self._api.routes.admit(request)
        if route is not None:
            return None if route.body is None else route.body.max_bytes
        return None if self._page is None else self._page.max_body_bytes(request)

    def _error_response(self, request: web.Request, error: RequestError) -> web.StreamResponse:
        page = None if self._page is None else self._page.error(request, error)
        return page or error.response()


def _route_error(request: web.Request, error: web.HTTPException) -> RequestError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed: dict[str, str] = {hdrs.ALLOW: ",".join(sorted(error.allowed_methods))}
        message = f"the method {shorten(request.method, 20)} is not allowed for this path"
        return RequestError(error.status, message, headers=allowed)
    if isinstance(error, web.HTTPNotFound):
        return RequestError(error.status, "unknown path; docs/http.md lists the paths")
    return RequestError(error.status, error.reason)
