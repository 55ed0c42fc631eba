"""A link between a terminal and the bridge with small buffers, which can be frozen."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_RECEIVE_BUFFER_BYTES = 4096
"""Receive buffer towards the bridge. It is small, so that bytes for a frozen link soon stay with the bridge."""


class NarrowLink:
    """A TCP proxy on 127.0.0.1 that forwards bytes in both directions while it is not frozen."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._upstream: socket.socket | None = None
        self.port = 0
        self.forwarded = bytearray()
        """The bytes from the bridge that were forwarded."""
        self.pause_seconds = 0.0
        """Pause after each `_RECEIVE_BUFFER_BYTES`, for a slow link."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["NarrowLink"]:
        """Serve one connection at a time."""
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
        """Stop forwarding; connections stay open."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Continue forwarding."""
        self._thawed.set()

    def end_towards_bridge(self) -> None:
        """Send FIN to the bridge; the other direction stays open."""
        assert self._upstream is not None
        self._upstream.shutdown(socket.SHUT_WR)

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            downstream, _ = await loop.sock_accept(listener)
            with downstream, socket.socket() as upstream:
                # Set before connecting, because the handshake negotiates the window.
                upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
                upstream.setblocking(False)
                await loop.sock_connect(upstream, ("127.0.0.1", self._upstream_port))
                self._upstream = upstream
                await self._forward_both(downstream, upstream)

    async def _forward_both(self, downstream: socket.socket, upstream: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        directions = [
            loop.create_task(self._forward(downstream, upstream)),
            loop.create_task(self._forward(upstream, downstream, self.forwarded)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _forward(self, source: socket.socket, target: socket.socket, record: bytearray | None = None) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                await self._thawed.wait()
                data = await loop.sock_recv(source, _RECEIVE_BUFFER_BYTES if self.pause_seconds else 65536)
                await self._thawed.wait()
                if not data:
                    return
                await loop.sock_sendall(target, data)
                if record is not None:
                    record += data
                await asyncio.sleep(self.pause_seconds)
