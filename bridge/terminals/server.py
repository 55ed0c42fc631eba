"""The terminals' WebSocket server: accepts connections, answers handshakes, and runs one `Session` a connection."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
from bridge.net.listening import ListenError, listen, wait_for_tasks
from bridge.net.passwords import PasswordVerifier, is_usable
from bridge.terminals.accepting import BACKLOG, Acceptor, HalfOpenConnections
from bridge.terminals.authentication import SERVER, PeerIdentity, TerminalAuthentication, refuse
from bridge.terminals.pacing import Pacing, PacingLimits, TerminalConnection, connection_of
from bridge.terminals.send_buffer import SendBuffer, configure_socket
from bridge.terminals.session import MAX_FRAME_BYTES, Liveness, Session
from bridge.terminals.tls import Certificate, CertificateError, accept_without_reading, start_tls

_LOGGER = logging.getLogger(__name__)

_WRITER_LIMIT_BYTES = 1 << 62
"""Never reached: at its limit aiohttp waits for the peer before it goes on, but a press must be written at once. The
core bounds the waiting bytes: one person frame and a few presses."""

_STOP_SECONDS = 2.0
"""Time that all sessions together have to close when the bridge stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalServerLimits:
    """Time-outs and limits of the terminal server.

    Attributes:
        deadline_seconds: `commands.deadline`; a connection ends when bytes stay unacknowledged for so long.
        handshake_seconds: until the client has sent its request, TLS included; then again until the bridge has
            answered it.
        max_half_open: connections whose handshake has begun but not ended. Further ones wait, but not longer than
            `GRACE_SECONDS`: then the oldest one that has not sent its request is closed.
        certificate_check_seconds: time between two checks for a new certificate; certificates are renewed weeks before
            they expire.
        pacing: of the frames of one terminal.
    """

    deadline_seconds: float
    handshake_seconds: float = 10.0
    max_half_open: int = 4096
    certificate_check_seconds: float = 10.0
    pacing: PacingLimits = field(default_factory=PacingLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """A snapshot of the terminal server.

    Attributes:
        connections: open HTTP and WebSocket connections; during its TLS handshake a connection is not yet counted.
        sessions: connected terminals.
        half_open: connections without a finished handshake, including those whose handshake has not begun.
        refused: number of refused handshakes by HTTP status.
        non_replies: frames from terminals that were no replies.
        slowed: terminals that are read more slowly than they send.
    """

    connections: int
    sessions: int
    half_open: int
    refused: Mapping[int, int]
    non_replies: int
    slowed: int


class TerminalServer:
    """The server, from `start` to `stop`."""

    def __init__(
        self,
        settings: TerminalsSettings,
        registry: TerminalRegistry,
        admission: Admission,
        verifier: PasswordVerifier,
        clock: Clock,
        limits: TerminalServerLimits,
    ) -> None:
        """Build the server.

        Args:
            settings: address, TLS, credentials and idle time-out.
            registry: receives connections and replies.
            admission: decides which terminals may connect.
            verifier: verifies passwords.
            clock: for sessions and throttling.
            limits: time-outs and limits.
        """
        self._settings = settings
        self._registry = registry
        self._admission = admission
        self._clock = clock
        self._limits = limits
        self._pacing = Pacing(limits.pacing, clock)
        self._authentication = TerminalAuthentication(settings, registry, admission, verifier, clock)
        self._half_open = HalfOpenConnections(limits.max_half_open, limits.handshake_seconds)
        self._acceptor = Acceptor(self._open, self._wait_room, clock)
        self._listeners: Sequence[socket.socket] = ()
        self._tasks = BackgroundTasks()
        self._http: _Http | None = None
        self._certificate: Certificate | None = None
        # For each connection's handler: the transport of its socket, and its session once it has one.
        self._below: dict[RequestHandler, asyncio.Transport] = {}
        self._sessions: dict[RequestHandler, Session] = {}
        self._refused: dict[int, int] = {}
        self._non_replies = 0
        self._stopping = False

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        port: int = self._listeners[0].getsockname()[1]
        return port

    def statistics(self) -> ServerStatistics:
        """Return a snapshot."""
        return ServerStatistics(
            connections=len(self._below),
            sessions=len(self._sessions),
            half_open=len(self._half_open) + self._acceptor.waiting,
            refused=dict(self._refused),
            non_replies=self._non_replies + sum(session.non_replies for session in self._sessions.values()),
            slowed=self._pacing.slowed,
        )

    async def start(self) -> None:
        """Start to listen.

        Raises:
            ListenError: the address, the certificate or a password cannot be used.
        """
        self._check_passwords()
        if self._settings.tls is not None:
            try:
                self._certificate = Certificate(self._settings.tls, self._limits.certificate_check_seconds)
            except CertificateError as error:
                raise ListenError(str(error)) from None
            self._tasks.start(self._certificate.follow(), name="terminals' certificate")
        self._http = _Http(self, self._pacing)
        settings = self._settings
        self._listeners = await listen(settings.host, settings.port, key="terminals.port", backlog=BACKLOG)
        self._acceptor.start(self._listeners)

    async def stop(self) -> None:
        """Refuse new handshakes, close every session, and stop to listen."""
        self._stopping = True
        sessions = list(self._sessions.values())
        closing = [self._tasks.start(one.close("the bridge stops"), name=f"end of {one.sn}") for one in sessions]
        await wait_for_tasks(closing, _STOP_SECONDS)
        await self._acceptor.stop()
        await self._tasks.stop()
        for listener in self._listeners:
            listener.close()
        for below in list(self._below.values()):
            below.abort()

    def _check_passwords(self) -> None:
        passwords = {"terminals.password": self._settings.password}
        passwords |= {f"terminals.known.{one.sn}.password": one.password for one in self._settings.known}
        for key, password in passwords.items():
            if password is not None and not is_usable(password):
                raise ListenError(f"{key}: an incomplete hash; `facebridge hash-password` makes a new one")

    async def _wait_room(self) -> int:
        await self._admission.wait_ready()
        return await self._half_open.wait_room()

    async def _open(self, connection: socket.socket) -> None:
        assert self._http is not None
        try:
            configure_socket(connection, self._limits.deadline_seconds)
            if self._certificate is None:
                handler = self._http.handler(connection)
                await asyncio.get_running_loop().connect_accepted_socket(lambda: handler, connection)
            else:
                await self._open_with_tls(connection, self._certificate.context)
        except OSError as error:
            # ssl.SSLError is an OSError: the client does not use TLS, or it has disconnected.
            _LOGGER.debug("a handshake failed: %s", type(error).__name__)
            connection.close()

    async def _open_with_tls(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        below = await accept_without_reading(connection)
        self._half_open.add(below, below.abort)
        handed_over = False
        try:
            handed_over = await start_tls(
                below, context, lambda: self._handler_above_tls(below, connection), _STOP_SECONDS
            )
        finally:
            if not handed_over:
                self._half_open.remove(below)
                below.abort()

    def _handler_above_tls(self, below: asyncio.Transport, connection: socket.socket) -> RequestHandler:
        assert self._http is not None
        handler = self._http.handler(connection)
        self._below[handler] = below
        return handler

    async def handle(self, request: BaseRequest, handler: RequestHandler) -> StreamResponse:
        """Answer a handshake; for a terminal that may connect, run its session to the end."""
        self._half_open.request_arrived(self._below.get(handler))
        response = await self._connect(request, handler)
        if isinstance(response, Response):
            self._refused[response.status] = self._refused.get(response.status, 0) + 1
        return response

    async def _connect(self, request: BaseRequest, handler: RequestHandler) -> StreamResponse:
        identity = self._refuse_if_stopping() or await self._authentication.authenticate(request)
        if isinstance(identity, PeerIdentity):
            # The bridge may have begun to stop during the verification of the password.
            identity = self._refuse_if_stopping() or identity
        if not isinstance(identity, PeerIdentity):
            return identity
        transport, below = request.transport, self._below.get(handler)
        if transport is None or below is None:
            return refuse(400, "the connection has ended")
        offered = [one.strip() for one in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")]
        websocket = WebSocketResponse(
            timeout=_STOP_SECONDS,
            autoclose=False,
            autoping=False,
            # aiohttp selects the first offered protocol that is in this list. A terminal may drop a connection
            # if the response selects none of its protocols.
            protocols=[one for one in offered if one] or offered,
            compress=False,
            # aiohttp ends the connection at a frame of this size.
            max_msg_size=MAX_FRAME_BYTES + 1,
            writer_limit=_WRITER_LIMIT_BYTES,
            decode_text=False,
        )
        websocket.headers[hdrs.SERVER] = SERVER
        try:
            await websocket.prepare(request)
        except (HTTPException, ValueError):
            return refuse(400, "this is not a WebSocket handshake of version 13 (RFC 6455)")
        self._half_open.remove(below)
        connection = connection_of(request)
        liveness = Liveness(idle_seconds=self._settings.idle_timeout, last_frame_at=lambda: connection.last_frame_at)
        session = Session(
            websocket, SendBuffer(transport, below, connection.socket), identity, self._registry, self._clock, liveness
        )
        self._sessions[handler] = session
        try:
            self._registry.connected(session)
        except KeyError:
            # The terminal was forgotten between its authentication and the upgrade.
            await session.close("not known any more")
            return websocket
        connection.pass_single_frames_to(session.received_single_frame)
        await session.run()
        return websocket

    def _refuse_if_stopping(self) -> Response | None:
        return refuse(503, "the bridge stops", {hdrs.RETRY_AFTER: "5"}) if self._stopping else None

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Start the handshake time-out of a new connection; with TLS it has started already."""
        if handler not in self._below:
            self._below[handler] = transport
            self._half_open.add(transport, transport.abort)

    def connection_lost(self, handler: RequestHandler, error: BaseException | None) -> None:
        """Forget a connection that has ended, and end its session."""
        self._half_open.remove(self._below.pop(handler, None))
        session = self._sessions.pop(handler, None)
        if session is not None:
            self._non_replies += session.non_replies
            session.lost(error)


class _Http(Server):
    """aiohttp's server, which reports the start and end of each connection to its owner."""

    def __init__(self, owner: TerminalServer, pacing: Pacing) -> None:
        # Silent, so that a malformed request logs no traceback. `_answer` logs failures of the bridge.
        silent = logging.getLogger(f"{__name__}.http")
        silent.setLevel(logging.CRITICAL + 1)
        super().__init__(self._answer)
        self._logger = silent
        self._owner = owner
        self._pacing = pacing

    def handler(self, connection: socket.socket) -> TerminalConnection:
        """Return the handler of a new connection."""
        return TerminalConnection(
            self,
            self._pacing,
            connection,
            loop=asyncio.get_running_loop(),
            access_log=None,
            logger=self._logger,
            tcp_keepalive=False,
            lingering_time=0,
        )

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
            return refuse(500, "the bridge failed; its log has the details")
