"""A TCP proxy that can hold back the bytes to its target, while bytes from the target pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class OneWayLink:
    """A proxy from a free port to `target_port`, which is set later."""

    def __init__(self) -> None:
        self.port = 0
        self.target_port = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def hold_back(self) -> None:
        """Hold back bytes to the target; bytes from the target still pass."""
        self._flowing.clear()

    def reset(self) -> None:
        """Reset every connection, discard the bytes that were held back, and forward again."""
        for writer in self._writers:
            writer.transport.abort()
        self._flowing.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OneWayLink"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        await asyncio.gather(self._forward(reader, far_writer, held=True), self._forward(far_reader, writer))
        self._writers -= ends

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool = False) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if held:
                    await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
