"""Connections of the HTTP server: their number, their time-outs, and which of them are used again."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import hdrs, web

from bridge.net.one_request import OneRequestConnection
from bridge.web.context import WebLimits
from bridge.web.errors import RequestError

SECURITY_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "facebridge",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response: no caching, no framing, no type sniffing; none allows other websites to read it (CORS)."""

_LINGER_SECONDS = 2.0
"""How long the server discards what a client still sends after a response that did not need the body."""

_MAX_HEAD_BYTES = 32_768
_MAX_LINE_BYTES, _MAX_HEADER_BYTES, _MAX_HEADERS = 4_096, 8_190, 64
"""Limits of a request's head; browsers and proxies send a tenth of that."""

_REUSED_METHODS = frozenset((hdrs.METH_GET, hdrs.METH_HEAD))
"""Methods after which a connection may carry another request."""


def arrived_at(request: web.Request) -> float:
    """Return the earliest time (`Clock.boottime`) at which the first byte of a request can have arrived."""
    return _connection_of(request).arrived_at


def admit_body(request: web.Request, max_bytes: int | None) -> None:
    """Let the handler of a request read the body.

    Args:
        request: the request.
        max_bytes: bytes that are parsed at most, with the encoding of chunks; None if the route takes no body.

    Raises:
        RequestError: the route takes no body, and the request has one.
    """
    if not request.body_exists:
        return
    if max_bytes is None:
        raise RequestError(400, "this path takes no body", path="body")
    _connection_of(request).parse_body(request.content, max_bytes)


async def send(request: web.Request, response: web.StreamResponse, *, may_reuse: bool) -> None:
    """Send a response, and end the connection unless it may carry another request.

    The next request of a connection is read only after the response to the one before. A pipelined one would wait
    unnoticed while the request before it runs, and a press would then open the door late. So a connection with a
    pipelined request is closed, and so is one after each request that changes something.

    Args:
        request: the request.
        response: the response.
        may_reuse: whether the server still accepts requests.
    """
    connection = _connection_of(request)
    is_read = request.content.is_eof()
    may_reuse = may_reuse and request.method in _REUSED_METHODS and not response.prepared
    reuse = may_reuse and is_read and not connection.has_waiting_bytes
    if not reuse:
        response.force_close()
    if reuse or not is_read:
        await response.prepare(request)
        await response.write_eof()
    if reuse:
        connection.next_request()
    elif not is_read:
        # The rest of the body.
        await connection.discard_rest(_LINGER_SECONDS)


class ConnectionFactory:
    """Protocol factory of the HTTP server, which limits the number of connections.

    Too many connections close the oldest one without a running request; if all others have one, that is the new
    connection. None waits to be accepted: an old press could arrive with it.
    """

    def __init__(
        self, server: web.Server, logger: logging.Logger, limits: WebLimits, arrived_at: Callable[[], float]
    ) -> None:
        """Build the factory.

        Args:
            server: aiohttp's server, which handles the requests.
            logger: aiohttp's logger, for requests and errors.
            limits: of connections and time.
            arrived_at: returns the earliest time at which bytes that are read now can have arrived.
        """
        self.arrived_at = arrived_at
        self._server = server
        self._logger = logger
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._open: dict[_Connection, None] = {}
        self._answering: set[asyncio.BaseProtocol] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol for a new connection."""
        return _Connection(
            self._server,
            self,
            loop=self._loop,
            keepalive_timeout=self._limits.request_seconds,
            logger=self._logger,
            access_log=self._logger,
            max_head_bytes=_MAX_HEAD_BYTES,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
            lingering_time=0,
            auto_decompress=False,
        )

    @contextmanager
    def answering(self, connection: asyncio.BaseProtocol) -> Iterator[None]:
        """Protect a connection from being closed for others while its request runs."""
        self._answering.add(connection)
        try:
            yield
        finally:
            self._answering.discard(connection)

    def connection_made(self, connection: "_Connection") -> None:
        """Count a new connection, and close the oldest one if there are too many."""
        self._open[connection] = None
        if len(self._open) > self._limits.max_connections:
            oldest = next(one for one in self._open if one not in self._answering)
            del self._open[oldest]
            oldest.force_close()

    def connection_lost(self, connection: "_Connection") -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)


class _Connection(OneRequestConnection):
    def __init__(self, server: web.Server, owner: ConnectionFactory, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._owner = owner
        self.arrived_at = 0.0

    def head_began(self) -> None:
        self.arrived_at = self._owner.arrived_at()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.connection_made(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._owner.connection_lost(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002  aiohttp's signature
        message: str | None = None,  # noqa: ARG002  aiohttp's signature; the message quotes the client's bytes
    ) -> web.StreamResponse:
        """Answer a malformed request in JSON like everything else, without naming the server's software."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response is sent already")
        response = RequestError(status, "this is not a valid HTTP request").response()
        add_common_headers(response)
        response.force_close()
        return response


def add_common_headers(response: web.StreamResponse) -> None:
    """Add `SECURITY_HEADERS` to a response, as far as it does not set them itself."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


def _connection_of(request: web.Request) -> _Connection:
    connection = request.protocol
    assert isinstance(connection, _Connection)
    return connection
