"""A link between a terminal and the bridge that takes little at once, and can be frozen."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_SMALL = 4096
"""Bytes of the receive buffer on the terminal's side: what a frozen link takes is soon too much, and stays with the
bridge."""


class NarrowLink:
    """Listens on 127.0.0.1 and passes bytes on in both directions, while it is not frozen."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._upstream: socket.socket | None = None
        self.port = 0
        self.passed = bytearray()
        """What has come from the bridge and was passed on."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["NarrowLink"]:
        """Serve one connection after the other."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            task = asyncio.get_running_loop().create_task(self._serve(listener))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def freeze(self) -> None:
        """Pass nothing on; nobody is told."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on."""
        self._thawed.set()

    def end_towards_bridge(self) -> None:
        """Say to the bridge that the terminal has nothing more to say, while the other direction stays open."""
        assert self._upstream is not None
        self._upstream.shutdown(socket.SHUT_WR)

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            downstream, _ = await loop.sock_accept(listener)
            with downstream, socket.socket() as upstream:
                # Before it connects: the window is agreed on then.
                upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
                upstream.setblocking(False)
                await loop.sock_connect(upstream, ("127.0.0.1", self._upstream_port))
                self._upstream = upstream
                await self._pass_both_ways(downstream, upstream)

    async def _pass_both_ways(self, downstream: socket.socket, upstream: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ways = [
            loop.create_task(self._pass(downstream, upstream)),
            loop.create_task(self._pass(upstream, downstream, self.passed)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(self, source: socket.socket, target: socket.socket, passed: bytearray | None = None) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                await self._thawed.wait()
                data = await loop.sock_recv(source, 65536)
                await self._thawed.wait()
                if not data:
                    return
                await loop.sock_sendall(target, data)
                if passed is not None:
                    passed += data
