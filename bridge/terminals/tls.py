"""TLS put onto a connection that was accepted plain, so that the transport of its socket stays within reach."""

import asyncio
import socket
import ssl
from collections.abc import Callable

_HELD_BACK = 1 << 16
"""Bytes before which a socket counts as readable while nobody is there to read; a ClientHello has some hundred."""


class Arrival(asyncio.Protocol):
    """Stands in until a connection has its own protocol, and keeps what has come by then."""

    def __init__(self) -> None:
        self._early = bytearray()
        self._lost = False

    def data_received(self, data: bytes) -> None:
        """Keep what the other side has sent right behind its handshake: one or two reads, not more."""
        self._early += data

    def connection_lost(self, _error: BaseException | None) -> None:
        """Note that it has ended before it began."""
        self._lost = True

    def hand_over(self, transport: asyncio.Transport, new_protocol: Callable[[], asyncio.Protocol]) -> bool:
        """Give a connection the protocol that it is meant for; return False where it has ended already."""
        if self._lost:
            return False
        protocol = new_protocol()
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        if self._early:
            protocol.data_received(bytes(self._early))
        return True


async def accept(connection: socket.socket) -> asyncio.Transport:
    """Give a new connection a transport that reads nothing yet. Raises OSError."""
    # A pause would come too late: uvloop reads on before anybody can ask for one.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _HELD_BACK)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(Arrival, connection)
    return transport


async def shake_hands(
    below: asyncio.Transport, context: ssl.SSLContext, new_protocol: Callable[[], asyncio.Protocol], farewell: float
) -> bool:
    """Speak TLS as a server, then hand the connection to a new protocol.

    Args:
        below: what `accept` returned. The time is not limited here: whoever counts half-open connections aborts it.
        context: with the certificate.
        new_protocol: makes the protocol.
        farewell: seconds that the end may wait for the other side's.

    Returns:
        False where the connection ended before it could be handed over.

    Raises:
        OSError: no TLS came about (ssl.SSLError is one), or the other side has gone away.
    """
    loop = asyncio.get_running_loop()
    # Runs once TLS has taken over, and before it begins to read.
    loop.call_soon(_let_come, below)
    arrival = Arrival()
    transport = await loop.start_tls(below, arrival, context, server_side=True, ssl_shutdown_timeout=farewell)
    # Without a result, or over what is closing, it was aborted meanwhile.
    return transport is not None and not below.is_closing() and arrival.hand_over(transport, new_protocol)


def _let_come(below: asyncio.Transport) -> None:
    if not below.is_closing():
        below.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
