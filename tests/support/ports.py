"""Free TCP ports for the programs of tests."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle

_FIRST_PORT = 10_000
_BLOCK_PORTS = 500
_BLOCKS = 44
"""All ports are below 32768: from there on the kernel gives ports to outgoing connections. A port that the kernel chose
was sometimes in use again before the program under test could listen on it."""


def free_port() -> int:
    """Return a port that no program listens on; it stays free until a program of this process listens on it."""
    for port in _ports():
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port
    raise AssertionError("unreachable: the ports are a cycle")


@cache
def _ports() -> Iterator[int]:
    first = _reserve_block()
    return cycle(range(first, first + _BLOCK_PORTS))


def _reserve_block() -> int:
    """Return the first port of a block that no other process uses as long as this one lives.

    Several runs of the tests, with several workers each, can share a machine. With equal ports, one test's client would
    reach another test's broker, and a server would find its port in use.
    """
    for first in range(_FIRST_PORT, _FIRST_PORT + _BLOCKS * _BLOCK_PORTS, _BLOCK_PORTS):
        # An abstract socket address (unix(7)) leaves no file behind and is free again when its process ends.
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0facebridge-test-ports-{first}")
        except OSError:
            reservation.close()
        else:
            _RESERVATIONS.append(reservation)
            return first
    raise AssertionError(f"all {_BLOCKS} blocks of ports are reserved: end other runs of the tests")


_RESERVATIONS: list[socket.socket] = []
"""Keeps the reservation of the block until the process ends."""
