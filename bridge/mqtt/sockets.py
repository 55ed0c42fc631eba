"""The broker's socket, made quick."""

import socket

_USER_TIMEOUT = 10_000
"""Milliseconds that the broker's machine may leave bytes unacknowledged: the heartbeat writes every second or more
often, so a cut cable shows within that time instead of after the kernel's quarter of an hour."""


def set_up(connection: socket.socket) -> None:
    """Send small packets at once, acknowledge the broker's at once, and notice a dead link."""
    # PUBACK and then PUBLISH are two small writes; with Nagle the second waits for the broker's delayed ACK (40 ms).
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
    acknowledge_at_once(connection)


def acknowledge_at_once(connection: socket.socket) -> None:
    """Ask for an immediate ACK: a stock Mosquitto has Nagle on, and its second small write waits for ours.

    The kernel forgets it, so it is asked for after each read.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
