"""Notes when presses arrive at a terminal's host, also while the terminal's program is stopped."""

import asyncio
import ctypes
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.soak.clock import from_realtime

_PRESS = re.compile(rb'"msgid":"([^"]+)","sn":"([^"]+)","cmd":"(?:open|reboot)"')

_CLONE_NEWNET = 0x40000000
_ETH_P_IP = 0x0800
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_PACKET_HOST = 0
"""The packet is addressed to this host; packets with another hardware address are lost (packet(7))."""

_BUFFER_BYTES = 32 * 2**20


@contextmanager
def wire_tap(namespace: str, arrived: Callable[[str, str, float], None]) -> Iterator[None]:
    """Watch the interface `eth0` of a network namespace.

    Args:
        namespace: its name.
        arrived: is called with serial number, msgid and time of each press that the host receives. The time is the
            kernel's.
    """
    tap = _socket_in(namespace)
    loop = asyncio.get_running_loop()

    def read() -> None:
        while True:
            try:
                data, extras, _, address = tap.recvmsg(65536, 256)
            except BlockingIOError:
                return
            except OSError:
                # The interface went down: the cable was pulled.
                continue
            if address[2] != _PACKET_HOST:
                continue
            for msgid, sn in _PRESS.findall(data):
                arrived(sn.decode(), msgid.decode(), _time_of(extras))

    loop.add_reader(tap, read)
    try:
        yield
    finally:
        loop.remove_reader(tap)
        tap.close()


def _time_of(extras: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in extras:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", data)
            return from_realtime(seconds * 10**9 + nanoseconds)
    raise AssertionError("the kernel gave no time")


def _socket_in(namespace: str) -> socket.socket:
    """Return a packet socket; a socket belongs to the network namespace of the thread that creates it."""
    libc = ctypes.CDLL(None, use_errno=True)
    results: list[socket.socket | OSError] = []

    def create() -> None:
        try:
            with Path("/var/run/netns", namespace).open() as file:
                if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
            tap.setblocking(False)
            tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            tap.bind(("eth0", _ETH_P_IP))
            results.append(tap)
        except OSError as error:
            results.append(error)

    # The thread ends afterwards, and with it the change of the namespace.
    thread = threading.Thread(target=create)
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, OSError):
        raise result
    return result
