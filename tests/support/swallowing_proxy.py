"""A TCP proxy to PostgreSQL that lets the server carry out a COMMIT and swallows its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_COMMIT = b"COMMIT\0"
"""The end of the message that asks for a commit (PostgreSQL documentation, Message Formats, Query)."""


class SwallowingProxy:
    """A proxy from a free port to another port."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.swallowed = 0
        self._target_port = target_port
        self._is_armed = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def swallow_next_answer(self) -> None:
        """Pass the next COMMIT to the server, wait for the answer, drop it, and reset the connection."""
        self._is_armed = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SwallowingProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            if self._serving:
                await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, far_writer}
        swallows = asyncio.Event()

        async def to_server() -> None:
            while data := await reader.read(65536):
                if self._is_armed and data.endswith(_COMMIT):
                    self._is_armed = False
                    swallows.set()
                far_writer.write(data)
                await far_writer.drain()
            far_writer.close()

        async def to_client() -> None:
            while data := await far_reader.read(65536):
                if swallows.is_set():
                    self.swallowed += 1
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            writer.close()

        with suppress(ConnectionError):
            await asyncio.gather(to_server(), to_client())
        far_writer.close()
        self._writers -= {writer, far_writer}
