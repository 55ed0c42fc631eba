"""An MQTT broker inside the process, for trying out: amqtt on the loopback address.

It speaks 3.1.1 only, asks nobody for a password and keeps nothing when it stops, so it cannot hold promise 2.
Known of amqtt 0.12, and to be lived with:

- A message goes out with the QoS of the subscription, whatever the publisher's: it may arrive with a higher QoS
  than it was published with.
- A client that connects is sent the retained messages that match anybody's subscriptions, its own or not.
- A connection whose client id another has taken over is served no longer, yet not closed either.
- Since everyone is anonymous, nothing is queued for a persistent session while its client is away.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

_LOGGER = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_PLUGINS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}

_FAREWELL_TIMEOUT = 2.0
"""Seconds, twice, for an end that takes milliseconds; well within the five that the bridge has for its own."""


class EmbeddedBrokerError(Exception):
    """The embedded broker cannot run.

    EmbeddedBrokerError
    └── EmbeddedBrokerMissingError    amqtt is not installed
    """


class EmbeddedBrokerMissingError(EmbeddedBrokerError):
    """The broker comes with an extra that is not installed; the message says how to get it."""

    def __init__(self) -> None:
        super().__init__("the embedded broker is not installed: pip install facebridge[embedded]")


class EmbeddedBroker:
    """The broker; once stopped it can be started again, empty.

        async with EmbeddedBroker() as broker:
            client.connect("127.0.0.1", broker.port)

    Args:
        port: where it listens on 127.0.0.1; 0 for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._wanted_port = port
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
        """Where it listens, also when a free port was asked for.

        Raises:
            EmbeddedBrokerError: it is not running.
        """
        if self._server is None:
            raise EmbeddedBrokerError("the embedded broker is not running")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            EmbeddedBrokerMissingError: amqtt is not installed.
            EmbeddedBrokerError: it cannot start; the port is in use, say.
        """
        try:
            from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
            from amqtt.broker import Broker
            from amqtt.errors import AMQTTError
        except ImportError:
            raise EmbeddedBrokerMissingError from None
        # It logs every connection, and a client that goes away without a word as an error with its traceback.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.WARNING)
        # The listener is ours: amqtt's own does not tell which free port it got.
        configuration = {"listeners": {"default": {"type": "external"}}, "plugins": _PLUGINS}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with self._owned(writer):
                try:
                    await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default")
                except OSError as error:
                    _LOGGER.debug("a client of the embedded broker has vanished: %s", type(error).__name__)

        try:
            broker = Broker(configuration)
            await broker.start()
        except AMQTTError as error:
            raise EmbeddedBrokerError(f"the embedded broker cannot start: {error}") from error
        try:
            self._server = await asyncio.start_server(serve, _HOST, self._wanted_port)
        except OSError as error:
            await broker.shutdown()
            raise EmbeddedBrokerError(
                f"the embedded broker cannot listen on {_HOST}:{self._wanted_port}: {error.strerror}"
            ) from error
        self._broker = broker

    async def stop(self) -> None:
        """Cut everybody off and forget everything."""
        if self._server is None:
            return
        self._server.close()
        # First the connections: amqtt's own shutdown knows only those that have said CONNECT, and waits for ever
        # for one that is busy just then (its reader task can miss being cancelled).
        for writer in self._connections.values():
            writer.transport.abort()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_FAREWELL_TIMEOUT)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_TIMEOUT):
                await self._broker.shutdown()
        self._server = self._broker = None

    @contextmanager
    def _owned(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Keep hold of a connection's task, and close the connection however it ends: amqtt often does not."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            yield
        finally:
            del self._connections[task]
            writer.close()
