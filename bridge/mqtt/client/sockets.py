"""The broker's socket, made quick, and closed so that nothing sent on it is lost."""

import asyncio
import socket
from contextlib import suppress

_USER_TIMEOUT = 10_000
"""Milliseconds that the broker's machine may leave bytes unacknowledged: the heartbeat writes every second or more
often, so a cut cable shows within that time instead of after the kernel's quarter of an hour."""

_DISCARDED = 65_536
"""Bytes thrown away in one go while the broker hangs up."""


def set_up(connection: socket.socket) -> None:
    """Send small packets at once, acknowledge the broker's at once, and notice a dead link."""
    # PUBACK and then PUBLISH are two small writes; with Nagle the second waits for the broker's delayed ACK (40 ms).
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
    acknowledge(connection, at_once=True)


def acknowledge(connection: socket.socket, *, at_once: bool) -> None:
    """Ask for an immediate ACK: a stock Mosquitto has Nagle on, and its second small write waits for ours.

    The kernel forgets it, so it is asked for after each read.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, int(at_once))


def second_handle(connection: socket.socket) -> socket.socket:
    """Return another handle of the same connection, which stays when whoever owns the first closes it."""
    handle = socket.socket(fileno=socket.dup(connection.fileno()))
    handle.setblocking(False)
    return handle


async def hang_up(handle: socket.socket) -> None:
    """Say that nothing more comes, and read until the other side has hung up too.

    A socket closed with unread bytes in it resets the connection, and a broker that is reset before it has read the
    DISCONNECT publishes the will (seen in 1 of 60 stops among incoming messages).
    """
    loop = asyncio.get_running_loop()
    with handle, suppress(OSError):
        handle.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(handle, _DISCARDED):
            pass
