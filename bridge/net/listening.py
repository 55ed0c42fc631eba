"""Start and stop of a server: opening its sockets, and waiting a bounded time for its work."""

import asyncio
import errno
import os
import socket
from collections.abc import Collection, Sequence
from typing import Any


class ListenError(Exception):
    """A server cannot start; the message names the configuration key, the fault and, where known, the remedy."""


async def listen(host: str, port: int, *, key: str, backlog: int) -> Sequence[socket.socket]:
    """Open non-blocking sockets on every address of a host, all on the same port.

    Args:
        host: a name or an address; `::` means every IPv6 and IPv4 address of this machine.
        port: 0 for a free one.
        key: the configuration key of the port, for the error message.
        backlog: connections that the kernel keeps until the server accepts them.

    Raises:
        ListenError: the host cannot be resolved or the port cannot be used.
    """
    loop = asyncio.get_running_loop()
    listeners: list[socket.socket] = []
    chosen = port
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            listener = _bind(family, (str(address[0]), chosen), backlog, dual_stack=host == "::")
            listeners.append(listener)
            # With port 0 the first address gets a free port; the others get the same one.
            chosen = listener.getsockname()[1]
    except OSError as error:
        for listener in listeners:
            listener.close()
        # The error numbers of name resolution are negative, and os.strerror does not know them.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        remedy = _remedy(error.errno, key, port)
        raise ListenError(f"{key}: cannot listen on {host}:{port}: {reason}{remedy}") from None
    return listeners


async def require_free_port(host: str, port: int, *, key: str) -> None:
    """Raise ListenError, as `listen` does, if the port cannot be used."""
    for listener in await listen(host, port, key=key, backlog=1):
        listener.close()


def _remedy(number: int | None, key: str, port: int) -> str:
    match number:
        case errno.EADDRINUSE:
            return (
                f". Another program or bridge uses the port (`ss -ltnp sport = :{port}` shows it): stop it, or set"
                f" {key} to another port"
            )
        case errno.EACCES:
            return f". Ports below 1024 need root: set {key} to a higher port"
        case errno.EADDRNOTAVAIL:
            return f". This machine has no such address: correct {key.rpartition('.')[0]}.host"
        case _:
            return ""


async def wait_for_tasks(tasks: Collection[asyncio.Task[Any]], seconds: float) -> None:
    """Wait until all tasks have ended, but at most `seconds`; tasks that still run then are left alone."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


def _bind(family: int, address: tuple[str, int], backlog: int, *, dual_stack: bool) -> socket.socket:
    listener = socket.create_server(address, family=family, backlog=backlog, dualstack_ipv6=dual_stack)
    listener.setblocking(False)
    return listener
