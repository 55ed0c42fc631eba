"""The WebSocket client of a simulated terminal: options, handshake, signs of life, and the end of a connection."""

import asyncio
import base64
import errno
import os
import socket
import ssl
import struct
from contextlib import nullcontext
from dataclasses import dataclass

import aiohttp
from aiohttp import ClientWebSocketResponse, ClientWSTimeout
from yarl import URL

from bridge.simulator.behaviour import Drop, KeepAlive

_HANDSHAKE_SECONDS = 10.0
"""Time-out of a handshake, the same as the bridge's."""

_CLOSE_SECONDS = 2.0
"""Time to wait for the bridge's close frame; a bridge that runs answers at once."""

_VENDOR_HEADERS = {"Sec-WebSocket-Extension": "xxxx"}
"""Headers of the vendor's document that are not part of every WebSocket handshake."""


class HandshakeRefusedError(Exception):
    """The server refused the handshake.

    Attributes:
        status: the HTTP status; None if the server accepted but selected the wrong sub-protocol.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__(str(status or "wrong sub-protocol"))
        self.status = status


_REFUSALS = {
    None: "the server selects no sub-protocol that the terminal offers",
    400: "400: the server does not accept this SN: it has 1 to 64 letters, digits, _ and -",
    401: "401: wrong user or password",
    403: "403: the password is right, and the terminal waits for approval",
    404: "404: wrong path: it ends with /devs/ unless terminals.path says otherwise",
    429: "429: wrong passwords too often: the bridge checks them again within a minute",
    503: "503: the bridge is stopping or cannot admit the terminal now",
}
"""The reasons of the bridge's refusals (docs/protocol.md)."""


def failure_reason(error: Exception, url: URL) -> str:
    """Return why a connection could not be made, for people; the URL's password is not in it."""
    server = f"{url.host}:{url.port}"
    match error:
        case HandshakeRefusedError(status=status):
            return _REFUSALS.get(status, f"the server answers with HTTP status {status}: is it a bridge?")
        case TimeoutError():
            return f"{server} does not answer within {_HANDSHAKE_SECONDS:g} s"
        case aiohttp.ClientConnectorDNSError():
            return f"the host name {url.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {server} cannot be verified"
        case aiohttp.ClientSSLError():
            return f"{server} does not use TLS: use ws:// in place of wss://"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | aiohttp.ClientOSError(errno=errno.ECONNRESET):
            return f"{server} ends the connection: if it uses TLS, use wss:// in place of ws://"
        case aiohttp.ClientOSError(errno=errno.ECONNREFUSED) | ConnectionRefusedError():
            return f"nothing listens on {server}: is the bridge running, and is this its terminals.port?"
        case OSError(errno=number) if number:
            return f"{server}: {os.strerror(number)}"
        case _:
            return f"{server}: {type(error).__name__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Options of a simulated terminal's connection.

    Attributes:
        username: of the login, if the URL has none; without a login the terminal sends no `Authorization`.
        password: likewise.
        subprotocol: offered to the server; a connection whose response does not select it is dropped.
        ping_seconds: between two signs of life; three intervals without a frame count as a dead connection.
        first_retry_seconds: before the second attempt to connect; the time is doubled for each further attempt.
        max_retry_seconds: the longest time between two attempts. All are shortened at random by up to a half.
        tls: how to verify a `wss` server; None for the system's authorities.
        gate: held during a handshake, to limit the number of simultaneous ones.
    """

    username: str | None = None
    password: str | None = None
    subprotocol: str | None = None
    ping_seconds: float = 30.0
    first_retry_seconds: float = 0.5
    max_retry_seconds: float = 30.0
    tls: ssl.SSLContext | None = None
    gate: asyncio.Semaphore | None = None


class TerminalClient:
    """Handshakes of one terminal.

    Attributes:
        attempts: how many handshakes were begun.
        url: the terminal's address, without a login.
    """

    def __init__(self, url: str, sn: str, options: ConnectionOptions) -> None:
        self.attempts = 0
        base = URL(url)
        self.url = base.with_user(None) / sn
        self._options = options
        login = _authorization(base.user or options.username, base.password or options.password)
        self._headers = _VENDOR_HEADERS | login

    async def connect(self, session: aiohttp.ClientSession) -> ClientWebSocketResponse:
        """Return a new connection.

        Raises:
            HandshakeRefusedError: the server refused.
            aiohttp.ClientError, OSError: the server could not be reached, or did not answer in time.
        """
        options = self._options
        try:
            async with options.gate or nullcontext(), asyncio.timeout(_HANDSHAKE_SECONDS):
                self.attempts += 1
                websocket = await session.ws_connect(
                    self.url,
                    headers=self._headers,
                    origin=str(self.url.origin()).replace("ws", "http", 1),
                    protocols=() if options.subprotocol is None else (options.subprotocol,),
                    ssl=True if options.tls is None else options.tls,
                    autoping=False,
                    timeout=ClientWSTimeout(ws_close=_CLOSE_SECONDS),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise HandshakeRefusedError(error.status) from None
        if websocket.protocol != options.subprotocol:
            await websocket.close()
            raise HandshakeRefusedError(None)
        return websocket


async def send_sign_of_life(websocket: ClientWebSocketResponse, keep_alive: KeepAlive) -> None:
    """Send the sign of life of a behaviour."""
    match keep_alive:
        case KeepAlive.PING:
            await websocket.ping()
        case KeepAlive.TEXT:
            await websocket.send_str("ping")
        case KeepAlive.NONE:
            pass


async def end_connection(websocket: ClientWebSocketResponse, how: Drop) -> None:
    """End a connection with a close frame or a TCP reset."""
    if how is Drop.CLOSE:
        await websocket.close()
        return
    connection: socket.socket | None = websocket.get_extra_info("socket")
    if connection is None:
        return
    # aiohttp cannot end a connection without a close frame; a duplicate of the socket's descriptor can. With a linger
    # time of zero the kernel discards unacknowledged bytes and resets the connection.
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        duplicate.shutdown(socket.SHUT_RDWR)


def _authorization(username: str | None, password: str | None) -> dict[str, str]:
    if username is None:
        return {}
    credentials = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}
