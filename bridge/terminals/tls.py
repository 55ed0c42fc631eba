"""TLS of the terminal server: its certificate, and handshakes on connections that were accepted without TLS.

The server accepts connections without TLS and starts TLS on them itself, so that it can reach the transport of the
socket below.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from bridge.config.settings import ServerTlsSettings

_LOGGER = logging.getLogger(__name__)

_MIN_READABLE_BYTES = 1 << 16
"""Receive low-water mark (SO_RCVLOWAT) of a socket that nothing may read yet. A ClientHello has some hundred bytes, so
the socket does not become readable."""


class CertificateError(Exception):
    """The certificate or its key cannot be used."""


class Certificate:
    """A TLS context that follows changes of its files."""

    def __init__(self, settings: ServerTlsSettings, check_seconds: float) -> None:
        """Read the files.

        Args:
            settings: the paths of certificate and key.
            check_seconds: time between two checks for a change.

        Raises:
            CertificateError: the files cannot be used.
        """
        self._settings = settings
        self._check_seconds = check_seconds
        self._stamps = self._read_stamps()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load(self.context)

    async def follow(self) -> None:
        """Reload the files when they have changed, until cancelled; unusable files leave the certificate as it is."""
        while True:
            await asyncio.sleep(self._check_seconds)
            stamps = self._read_stamps()
            if stamps == self._stamps:
                continue
            self._stamps = stamps
            try:
                # Try the files in a separate context: a certificate without its key would break the one in use.
                self._load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
                self._load(self.context)
            except CertificateError as error:
                _LOGGER.error("keeping the old certificate: %s", error)  # noqa: TRY400  the message has the reason
            else:
                _LOGGER.info("terminals.tls: the new certificate is in use")

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._settings.certificate, self._settings.key, password="")
        except ssl.SSLError as error:
            raise CertificateError(f"terminals.tls: {error.reason or 'certificate and key cannot be used'}") from None
        except OSError as error:
            raise CertificateError(f"terminals.tls: cannot be read: {error.strerror}") from None

    def _read_stamps(self) -> list[tuple[int, int] | None]:
        """Return modification time and inode of both files; None for a file that cannot be read."""
        stamps: list[tuple[int, int] | None] = []
        for file in (self._settings.certificate, self._settings.key):
            try:
                status = file.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((status.st_mtime_ns, status.st_ino))
        return stamps


async def accept_without_reading(connection: socket.socket) -> asyncio.Transport:
    """Return a transport for a new connection that reads nothing yet. Raises OSError."""
    # pause_reading would be too late: uvloop starts to read before the caller has the transport.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _MIN_READABLE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(_EarlyData, connection)
    return transport


async def start_tls(
    below: asyncio.Transport,
    context: ssl.SSLContext,
    new_protocol: Callable[[], asyncio.Protocol],
    close_seconds: float,
) -> bool:
    """Do the server's TLS handshake, then hand the connection to a new protocol.

    Args:
        below: the transport that `accept_without_reading` returned. There is no time-out here: the caller aborts this
            transport when the handshake takes too long.
        context: TLS context with the certificate.
        new_protocol: creates the protocol.
        close_seconds: how long the end of TLS may wait for the peer's close_notify.

    Returns:
        False if the connection ended before it was handed over.

    Raises:
        OSError: the handshake failed (ssl.SSLError is an OSError), or the peer has closed the connection.
    """
    loop = asyncio.get_running_loop()
    # The callback runs when loop.start_tls has taken over the transport, before it begins to read.
    loop.call_soon(_allow_reading, below)
    early_data = _EarlyData()
    transport = await loop.start_tls(below, early_data, context, server_side=True, ssl_shutdown_timeout=close_seconds)
    # If the transport was aborted meanwhile, the result is None or a transport on top of a closing one.
    return transport is not None and not below.is_closing() and early_data.hand_over(transport, new_protocol)


class _EarlyData(asyncio.Protocol):
    """A temporary protocol that keeps what arrives before a connection has its real one."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._lost = False

    def data_received(self, data: bytes) -> None:
        """Keep data that follows the handshake immediately: one or two reads."""
        self._data += data

    def connection_lost(self, _error: BaseException | None) -> None:
        """Remember that the connection has ended."""
        self._lost = True

    def hand_over(self, transport: asyncio.Transport, new_protocol: Callable[[], asyncio.Protocol]) -> bool:
        """Give the connection its real protocol and the data so far; return False if it has ended already."""
        if self._lost:
            return False
        protocol = new_protocol()
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        if self._data:
            protocol.data_received(bytes(self._data))
        return True


def _allow_reading(below: asyncio.Transport) -> None:
    if not below.is_closing():
        below.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
