"""The server itself: listening, upgrading, and one `Session` a connection."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs
from aiohttp.web import (
    BaseRequest,
    HTTPException,
    RequestHandler,
    Response,
    Server,
    StreamResponse,
    WebSocketResponse,
)

from bridge.config.settings import TerminalsSettings
from bridge.core.admission import Admission
from bridge.core.clock import Clock
from bridge.core.registry import TerminalRegistry
from bridge.core.tasks import BackgroundTasks
from bridge.net.passwords import PasswordVerifier, is_usable
from bridge.terminals.authentication import SERVER, PeerIdentity, TerminalAuthentication, turned_away
from bridge.terminals.certificate import Certificate, CertificateError
from bridge.terminals.handshakes import Handshakes
from bridge.terminals.send_buffer import SendBuffer, set_up
from bridge.terminals.session import MAXIMUM_FRAME, Session
from bridge.terminals.tls import accept, shake_hands

_LOGGER = logging.getLogger(__name__)

_BACKLOG = 4096
"""Connections the kernel keeps until they are accepted: with aiohttp's 128 it drops the SYNs of a reconnect storm, and
10,000 terminals take 30 s and more to come back instead of 4."""

_NEVER_REACHED = 1 << 62
"""Bytes after which aiohttp would wait before it writes on: a press must be written at once. What waits is bounded by
the hub: one person frame and some presses."""

_OF_ONE_CONNECTION = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
)
"""Why `accept` fails for somebody who has gone away already (accept(2)); others may still wait behind them."""

_ACCEPT_AGAIN = 0.5
"""Seconds to wait where nobody can be accepted: there are no more files, most often, and what is open must end."""

_TELL_AGAIN = 60.0
"""Seconds before that is told again."""

_FAREWELL = 2.0
"""Seconds that all sessions together have to end in order when the bridge stops."""


class ListenError(Exception):
    """The door cannot be opened; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """A snapshot of the terminals' door.

    Attributes:
        sessions: terminals that are connected.
        half_open: connections that are not a terminal's yet.
        refused: how often which HTTP status turned somebody away.
        non_replies: frames of terminals that were no replies.
    """

    sessions: int
    half_open: int
    refused: Mapping[int, int]
    non_replies: int


class TerminalServer:
    """Lets terminals in while it is started."""

    def __init__(
        self,
        settings: TerminalsSettings,
        registry: TerminalRegistry,
        admission: Admission,
        verifier: PasswordVerifier,
        clock: Clock,
        deadline: float,
    ) -> None:
        """Build the server.

        Args:
            settings: of the door.
            registry: told of connections and replies.
            admission: asked who may connect.
            verifier: of passwords.
            clock: of sessions.
            deadline: `commands.deadline` in seconds, after which unacknowledged bytes end a connection.
        """
        self._settings = settings
        self._registry = registry
        self._clock = clock
        self._deadline = deadline
        self._door = TerminalAuthentication(settings, registry, admission, verifier, clock)
        self._handshakes = Handshakes()
        self._listeners: Sequence[socket.socket] = ()
        self._tasks = BackgroundTasks()
        self._http: _Http | None = None
        self._certificate: Certificate | None = None
        # What belongs to a connection, by its handler: the transport of its socket, and its session once it has one.
        self._below: dict[RequestHandler, asyncio.Transport] = {}
        self._sessions: dict[RequestHandler, Session] = {}
        self._refused: dict[int, int] = {}
        self._non_replies = 0
        self._stopping = False

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listeners[0].getsockname()[1]
        return port

    def statistics(self) -> ServerStatistics:
        """Return a snapshot."""
        return ServerStatistics(
            sessions=len(self._sessions),
            half_open=len(self._handshakes),
            refused=dict(self._refused),
            non_replies=self._non_replies + sum(session.non_replies for session in self._sessions.values()),
        )

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ListenError: the address, the certificate or a password cannot be used.
        """
        self._check_passwords()
        if self._settings.tls is not None:
            try:
                self._certificate = Certificate(self._settings.tls)
            except CertificateError as error:
                raise ListenError(str(error)) from None
            self._tasks.start(self._certificate.follow(), name="terminals' certificate")
        self._http = _Http(self)
        self._listeners = await _listen(self._settings.host, self._settings.port)
        for listener in self._listeners:
            self._tasks.start(self._accept(listener), name="terminals' door")

    async def stop(self) -> None:
        """Turn newcomers away, end every session, and stop listening."""
        self._stopping = True
        sessions = list(self._sessions.values())
        if sessions:
            closing = [self._tasks.start(one.close("the bridge stops"), name=f"end of {one.sn}") for one in sessions]
            await asyncio.wait(closing, timeout=_FAREWELL)
        await self._tasks.stop()
        for listener in self._listeners:
            listener.close()
        for below in list(self._below.values()):
            below.abort()

    def _check_passwords(self) -> None:
        passwords = {"terminals.password": self._settings.password}
        passwords |= {f"terminals.known.{one.sn}.password": one.password for one in self._settings.known}
        for path, password in passwords.items():
            if password is not None and not is_usable(password):
                raise ListenError(f"{path}: is a hash that is not whole; `facebridge hash-password` makes one")

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        told_at = -_TELL_AGAIN
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _OF_ONE_CONNECTION:
                    continue
                if self._clock.boottime() - told_at >= _TELL_AGAIN:
                    told_at = self._clock.boottime()
                    _LOGGER.warning("no more terminals can connect just now: %s", error.strerror)
                await asyncio.sleep(_ACCEPT_AGAIN)
                continue
            self._tasks.start(self._welcome(connection), name="handshake")

    async def _welcome(self, connection: socket.socket) -> None:
        assert self._http is not None
        try:
            set_up(connection, self._deadline)
            if self._certificate is None:
                await asyncio.get_running_loop().connect_accepted_socket(self._http, connection)
            else:
                await self._welcome_over_tls(connection, self._certificate.context)
        except OSError as error:
            # ssl.SSLError is one: a stranger who speaks no TLS, or who went away.
            _LOGGER.debug("a handshake failed: %s", type(error).__name__)
            connection.close()

    async def _welcome_over_tls(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        below = await accept(connection)
        self._handshakes.began(below, below.abort)
        welcome = False
        try:
            welcome = await shake_hands(below, context, lambda: self._http_over_tls(below), _FAREWELL)
        finally:
            if not welcome:
                self._handshakes.ended(below)
                below.abort()

    def _http_over_tls(self, below: asyncio.Transport) -> RequestHandler:
        assert self._http is not None
        handler = self._http()
        self._below[handler] = below
        return handler

    async def handle(self, request: BaseRequest, handler: RequestHandler) -> StreamResponse:
        """Answer one request: let a terminal in and stay with it, or turn somebody away."""
        response = await self._let_in(request, handler)
        if isinstance(response, Response):
            self._refused[response.status] = self._refused.get(response.status, 0) + 1
        return response

    async def _let_in(self, request: BaseRequest, handler: RequestHandler) -> StreamResponse:
        answer = self._stops() or await self._door.answer(request)
        if isinstance(answer, PeerIdentity):
            # It may have begun to stop while a password was verified.
            answer = self._stops() or answer
        if not isinstance(answer, PeerIdentity):
            return answer
        transport, below = request.transport, self._below.get(handler)
        if transport is None or below is None:
            return turned_away(400, "gone")
        offered = [one.strip() for one in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")]
        websocket = WebSocketResponse(
            timeout=_FAREWELL,
            autoclose=False,
            autoping=False,
            # aiohttp selects the first that was offered and stands here.
            protocols=[one for one in offered if one] or offered,
            compress=False,
            max_msg_size=MAXIMUM_FRAME,
            writer_limit=_NEVER_REACHED,
            decode_text=False,
        )
        websocket.headers[hdrs.SERVER] = SERVER
        try:
            await websocket.prepare(request)
        except (HTTPException, ValueError):
            return turned_away(400, "no handshake of WebSocket version 13 (RFC 6455)")
        self._handshakes.ended(below)
        session = Session(
            websocket,
            SendBuffer(transport, below),
            transport,
            answer.sn,
            answer.address,
            self._registry,
            self._clock,
            self._settings.idle_timeout,
        )
        self._sessions[handler] = session
        try:
            self._registry.connected(session)
        except KeyError:
            # Forgotten between the answer and the upgrade.
            await session.close("not known any more")
            return websocket
        await session.run()
        return websocket

    def _stops(self) -> Response | None:
        return turned_away(503, "the bridge stops", {hdrs.RETRY_AFTER: "5"}) if self._stopping else None

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Give a new connection its time to become a terminal's; below TLS it runs already."""
        if handler not in self._below:
            self._below[handler] = transport
            self._handshakes.began(transport, transport.abort)

    def connection_lost(self, handler: RequestHandler, error: BaseException | None) -> None:
        """Tell its session, if it has one, that a connection has ended."""
        self._handshakes.ended(self._below.pop(handler, None))
        session = self._sessions.pop(handler, None)
        if session is not None:
            self._non_replies += session.non_replies
            session.lost(error)


class _Http(Server):
    """aiohttp's server, whose connections are seen from their first byte to their last."""

    def __init__(self, owner: TerminalServer) -> None:
        # A stranger's bytes are nobody's traceback; what fails here is logged by `_answer`.
        silent = logging.getLogger(f"{__name__}.http")
        silent.setLevel(logging.CRITICAL + 1)
        super().__init__(
            self._answer,
            access_log=None,
            logger=silent,
            tcp_keepalive=False,
            lingering_time=0,
        )
        self._owner = owner

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._owner.connection_made(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._owner.connection_lost(handler, exc)
        super().connection_lost(handler, exc)

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        try:
            return await self._owner.handle(request, request.protocol)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            _LOGGER.exception("a terminal's connection failed")
            return turned_away(500, "the bridge failed; its log says why")


async def _listen(host: str, port: int) -> Sequence[socket.socket]:
    loop = asyncio.get_running_loop()
    listeners: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            listener = _bind(family, (address[0], port, *address[2:]), dual=host == "::")
            listener.setblocking(False)
            listeners.append(listener)
            # With a free port, every address gets the same.
            port = listener.getsockname()[1]
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise ListenError(f"terminals.port: cannot listen on {host}:{port}: {error.strerror}") from None
    return listeners


def _bind(family: int, address: Any, *, dual: bool) -> socket.socket:
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
