"""The connections of the HTTP server: how many, how long, and one request on each."""

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from bridge.web.authentication import SECURITY_HEADERS
from bridge.web.errors import RequestError

MAXIMUM_CONNECTIONS = 512
"""Open at once: some browsers and programs have a hundredth of it."""

BACKLOG = 1_024
"""Connections that the kernel keeps until they are accepted. With aiohttp's 128 those of a burst are dropped, and a
press comes when the client's kernel tries again."""

_REQUEST_PATIENCE = 10.0
"""Seconds from connecting to a request's last header."""

_GIVEN_UP = 30.0
"""Seconds in which a client must take some of its answer (TCP_USER_TIMEOUT)."""

_LINGERING = 2.0
"""Seconds of reading on after an answer that did not need the body: a connection closed on unread bytes is reset, and
the client loses the answer."""

_LINE, _HEADER, _HEADERS = 4_096, 8_190, 64
"""Bytes of the first line and of a header, and number of headers: what browsers and proxies send has a tenth of it."""


class Connections:
    """Makes the protocol of each new connection, and room for it.

    Where there are too many, the oldest that is not being answered goes; that is the new one where all others are. None
    is left waiting to be accepted: an old press would come in with it.
    """

    def __init__(self, server: web.Server, logger: logging.Logger) -> None:
        """Build the factory.

        Args:
            server: of aiohttp, which handles the requests.
            logger: that aiohttp uses, for requests and for errors.
        """
        self._server = server
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._open: dict[_Connection, None] = {}
        self._answering: set[asyncio.BaseProtocol] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a connection that was just accepted."""
        return _Connection(
            self._server,
            self,
            loop=self._loop,
            keepalive_timeout=_REQUEST_PATIENCE,
            logger=self._logger,
            access_log=self._logger,
            max_line_size=_LINE,
            max_field_size=_HEADER,
            max_headers=_HEADERS,
            lingering_time=_LINGERING,
            auto_decompress=False,
        )

    @contextmanager
    def answering(self, connection: asyncio.BaseProtocol) -> Iterator[None]:
        """Keep a connection from making room for others."""
        self._answering.add(connection)
        try:
            yield
        finally:
            self._answering.discard(connection)

    def made(self, connection: "_Connection") -> None:
        """Take a connection that is there."""
        self._open[connection] = None
        if len(self._open) > MAXIMUM_CONNECTIONS:
            oldest = next(one for one in self._open if one not in self._answering)
            del self._open[oldest]
            oldest.force_close()

    def lost(self, connection: "_Connection") -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)


class _Connection(web.RequestHandler):
    def __init__(self, server: web.Server, owner: Connections, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.made(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._owner.lost(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002  aiohttp's signature
        message: str | None = None,  # noqa: ARG002  likewise; it quotes what a stranger sent
    ) -> web.StreamResponse:
        """Answer what is no HTTP: like everything else, in JSON, without telling what runs here."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        return finish(RequestError(status, "this is not a request of HTTP that this server understands").response())


def finish(response: web.StreamResponse) -> web.StreamResponse:
    """Put on a response what every response has, and let it be its connection's last.

    A request that was sent ahead, behind one whose answer takes its time, would wait in the connection without anybody
    noticing, and open a door late. So nothing is read behind the first.
    """
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.force_close()
    return response


async def listen(host: str, port: int) -> Sequence[socket.socket]:
    """Open the sockets of every address a host has, all on the same port. Raises OSError."""
    loop = asyncio.get_running_loop()
    listeners: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            listeners.append(_bind(family, (address[0], port), dual=host == "::"))
            # With a free port, every address gets the same.
            port = listeners[0].getsockname()[1]
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind(family: int, address: Any, *, dual: bool) -> socket.socket:
    listener = socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    # Every connection it accepts inherits it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_GIVEN_UP * 1000))
    return listener
