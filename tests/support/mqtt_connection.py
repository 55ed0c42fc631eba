"""The bridge's MQTT connection with events to wait for, and a broker that follows a script."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, Literal

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock
from bridge.mqtt.client.connection import ConnectionHandlers, Message, MqttConnection, SessionOptions, Will
from tests.support.waiting import TIMEOUT_SECONDS

Protocol = Literal["5", "3.1.1"]

CONNACK_5 = b"\x20\x03\x00\x00\x00"
CONNACK_3 = b"\x20\x02\x00\x00"


def settings_for(port: int, protocol: Protocol = "5", **details: Any) -> MqttSettings:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "username": None,
        "password": None,
        "client_id": "test",
        "base_topic": "facebridge",
        "protocol": protocol,
        "tls": None,
    }
    return MqttSettings(**{**values, **details})


class ShortWaits(Random):
    """Randomness that shortens each wait between attempts to a twentieth."""

    def uniform(self, a: float, b: float) -> float:
        return 0.05


class Client:
    """A connection with queues and events for its messages and changes."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str = "client",
        topics: tuple[str, ...] = (),
        *,
        persistent: bool = False,
        will: Will | None = None,
        on_message: Callable[[Message], None] | None = None,
        on_connect: Callable[[], Awaitable[None]] | None = None,
        connect_timeout_seconds: float = 10.0,
        random: Random | None = None,
    ) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.ready = asyncio.Event()
        self.lost = asyncio.Event()
        self._topics = topics
        self._greeting = on_connect
        self.connection = MqttConnection(
            settings,
            SessionOptions(
                client_id=client_id,
                persistent=persistent,
                will=will,
                connect_timeout_seconds=connect_timeout_seconds,
            ),
            ConnectionHandlers(
                on_message=on_message or self.messages.put_nowait,
                on_connect=self._connected,
                on_disconnect=self._disconnected,
            ),
            Clock(),
            random or Random(1),
        )

    @property
    def problem(self) -> str:
        return self.connection.status.problem or ""

    async def next(self) -> Message:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self.messages.get()

    async def wait_ready(self) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self.ready.wait()

    async def wait_lost(self) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self.lost.wait()

    @asynccontextmanager
    async def trying(self) -> AsyncIterator["Client"]:
        """Run the connection without waiting until it is ready."""
        task = asyncio.get_running_loop().create_task(self.connection.run())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Client"]:
        """Run the connection, and wait until it is ready."""
        async with self.trying():
            await self.wait_ready()
            yield self

    async def _connected(self) -> None:
        if self._topics:
            await self.connection.subscribe(self._topics)
        if self._greeting is not None:
            await self._greeting()
        self.lost.clear()
        self.ready.set()

    def _disconnected(self) -> None:
        self.ready.clear()
        self.lost.set()


class Visit:
    """One connection of a client to the scripted broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, packet: bytes) -> None:
        self._writer.write(packet)

    async def sent(self) -> None:
        """Wait until the client can receive more."""
        await self._writer.drain()

    async def next(self) -> tuple[int, bytes]:
        """Return the type of the client's next packet, and its bytes after the fixed header.

        Raises:
            IncompleteReadError: the client has closed the connection.
            ConnectionResetError: the connection was reset.
        """
        async with asyncio.timeout(TIMEOUT_SECONDS):
            first = (await self._reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self._reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return first >> 4, await self._reader.readexactly(length)


CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14


@asynccontextmanager
async def scripted_broker(
    script: Callable[[Visit], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Run a broker that runs the script for each client and then closes the connection; give its port."""
    visits: set[asyncio.Task[None]] = set()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        visits.add(task)
        try:
            await script(Visit(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # asyncio's server would log a cancelled handler as an error.
            pass
        finally:
            visits.discard(task)
            writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0, ssl=tls)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for task in list(visits):
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


def answering(*packets: bytes) -> Callable[[Visit], Awaitable[None]]:
    """Return a script: read CONNECT, answer with these packets, and read until the client disconnects."""

    async def script(visit: Visit) -> None:
        await visit.next()
        for packet in packets:
            visit.send(packet)
        while True:
            await visit.next()

    return script
