"""An MQTT broker inside the process, for trying out: amqtt on the loopback address.

It supports MQTT 3.1.1 only, needs no password and forgets everything when it stops, so it cannot keep promise 2
(docs/promises.md). Known deviations of amqtt 0.12:

- It delivers a message with the QoS of the subscription, which may be higher than the QoS of the message.
- It sends a client that connects the retained messages for the subscriptions of all clients.
- It no longer serves a connection whose client id another connection has taken over, but does not close it.
- It queues nothing for a persistent session while its client is away, because all clients are anonymous.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

_LOGGER = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_PLUGINS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}

_STOP_SECONDS = 2.0
"""Time-out of each of the two steps of the stop, which normally take milliseconds; the whole bridge stops within five
seconds."""


class EmbeddedBrokerError(Exception):
    """The embedded broker cannot run.

    EmbeddedBrokerError
    └── EmbeddedBrokerMissingError    amqtt is not installed
    """


class EmbeddedBrokerMissingError(EmbeddedBrokerError):
    """amqtt is not installed, although Facebridge requires it; the message says how to install it."""

    def __init__(self) -> None:
        super().__init__("the embedded broker is not installed: pip install amqtt")


class EmbeddedBroker:
    """The broker; after a stop it can be started again, empty.

        async with EmbeddedBroker() as broker:
            client.connect("127.0.0.1", broker.port)

    Args:
        port: on 127.0.0.1; 0 for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._requested_port = port
        self._server: asyncio.Server | None = None
        self._broker: Any = None
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port that the broker listens on.

        Raises:
            EmbeddedBrokerError: the broker is not running.
        """
        if self._server is None:
            raise EmbeddedBrokerError("the embedded broker is not running")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Start to listen.

        Raises:
            EmbeddedBrokerMissingError: amqtt is not installed.
            EmbeddedBrokerError: the broker cannot start, for example because the port is in use.
        """
        try:
            from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
            from amqtt.broker import Broker
            from amqtt.errors import AMQTTError
        except ImportError:
            raise EmbeddedBrokerMissingError from None
        # amqtt logs every connection, and a client that disconnects abruptly as an error with a traceback.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.WARNING)
        # The listener is our own, because amqtt's does not return the free port that it got.
        configuration = {"listeners": {"default": {"type": "external"}}, "plugins": _PLUGINS}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with self._tracked(writer):
                try:
                    await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default")
                except OSError as error:
                    _LOGGER.debug("a client of the embedded broker disconnected abruptly: %s", type(error).__name__)

        try:
            broker = Broker(configuration)
            await broker.start()
        except AMQTTError as error:
            raise EmbeddedBrokerError(f"the embedded broker cannot start: {error}") from error
        try:
            self._server = await asyncio.start_server(serve, _HOST, self._requested_port)
        except OSError as error:
            await broker.shutdown()
            raise EmbeddedBrokerError(
                f"the embedded broker cannot listen on {_HOST}:{self._requested_port}: {error.strerror}"
            ) from error
        self._broker = broker

    async def stop(self) -> None:
        """Close every connection and forget everything."""
        if self._server is None:
            return
        self._server.close()
        # Close the connections first: amqtt's shutdown knows only those that have sent CONNECT, and it never ends if
        # one of them is busy (its reader task can miss the cancellation).
        for writer in self._connections.values():
            writer.transport.abort()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_STOP_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._broker.shutdown()
        self._server = self._broker = None

    @contextmanager
    def _tracked(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Track a connection's task, and close the connection at its end, because amqtt often does not."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            yield
        finally:
            del self._connections[task]
            writer.close()
