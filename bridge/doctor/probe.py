"""The doctor's clients at the broker: `MqttSession` with a queue of received messages and a time limit for answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Self

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock
from bridge.mqtt.client.errors import NotConnectedError
from bridge.mqtt.client.messages import ConnackInfo, Message, Publication, SessionOptions
from bridge.mqtt.client.session import MqttSession

_ECHO_TIMEOUT_SECONDS = 5.0
"""Time for a message to come back. It usually takes milliseconds; a large one over a slow line needs some seconds."""

_ANSWER_TIMEOUT_SECONDS = 10.0
"""Time for an answer that usually takes milliseconds; a large packet over a slow line needs some seconds."""


class Probe:
    """A connection to the broker that reports each answer and each message. It is used once."""

    def __init__(
        self,
        settings: MqttSettings,
        options: SessionOptions,
        clock: Clock,
        *,
        on_message: Callable[[Message], None] | None = None,
    ) -> None:
        """Build the client.

        Args:
            settings: the broker's settings.
            options: what the client asks of the connection; the client id must not be the bridge's.
            clock: dates received messages. The event loop's own time is too coarse: uvloop counts whole milliseconds,
                and reads them once per iteration.
            on_message: called with each received message. Without it `next` returns them.
        """
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._session = MqttSession(settings, options, clock, on_message=on_message or self._messages.put_nowait)
        self._connack: ConnackInfo | None = None

    @property
    def protocol5(self) -> bool:
        """Whether the connection uses MQTT 5; only then the broker gives reasons for refusals."""
        return self._session.protocol5

    @property
    def connack(self) -> ConnackInfo:
        """The broker's CONNACK."""
        assert self._connack is not None, "not connected yet"
        return self._connack

    async def connect(self) -> ConnackInfo:
        """Connect. Raise NotConnectedError with the reason for users, the same as the bridge reports."""
        self._connack = await self._session.connect()
        return self._connack

    async def subscribe(self, topics: Sequence[str], *, qos: int = 1) -> Sequence[str | None]:
        """Subscribe, and receive retained messages too.

        Returns:
            For each topic the reason for which the broker refused it, or None.

        Raises:
            NotConnectedError: the connection ended, or the broker does not answer.
        """
        async with _answer_timeout():
            return await self._session.subscribe(topics, qos=qos, stored_messages=True)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str | None:
        """Publish with QoS 1; return the reason for which the broker refused the message, or None.

        Raises:
            NotConnectedError: the connection ended, or the broker does not answer.
            PacketTooLargeError: the message is larger than the broker's limit.
        """
        async with _answer_timeout():
            return await self._session.publish(Publication(topic, payload, retain=retain))

    async def next(self, timeout_seconds: float) -> Message | None:
        """Return the next message, or None if none arrives in time.

        Raises:
            NotConnectedError: the connection ended.
        """
        loop = asyncio.get_running_loop()
        message, end = loop.create_task(self._messages.get()), loop.create_task(self._session.wait_ended())
        try:
            await asyncio.wait((message, end), timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                return message.result()
            if end.done():
                raise NotConnectedError(end.result())
            return None
        finally:
            message.cancel()
            end.cancel()

    async def wait_ended(self) -> str:
        """Wait for the end of the connection; return its reason."""
        return await self._session.wait_ended()

    async def close(self, *, session_expiry_seconds: int | None = None) -> None:
        """Disconnect.

        Args:
            session_expiry_seconds: time for which the broker keeps a persistent session from now on (MQTT 5).
        """
        await self._session.close(session_expiry_seconds=session_expiry_seconds)


@asynccontextmanager
async def _answer_timeout() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_SECONDS):
            yield
    except TimeoutError:
        raise NotConnectedError("the broker does not answer") from None


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """How the doctor reaches the broker.

    Attributes:
        settings: the broker's settings.
        run_id: part of each client id and topic of this run, and of no other.
        clock: measures round trips.
        echo_timeout_seconds: time for a message to come back from the broker.
    """

    settings: MqttSettings
    run_id: str
    clock: Clock
    echo_timeout_seconds: float = _ECHO_TIMEOUT_SECONDS

    @classmethod
    def of(cls, settings: MqttSettings, run_id: str, clock: Clock) -> Self:
        """Return the access to the configured broker, or to the embedded one of a running bridge."""
        if settings.host is None:
            # As in `bridge/app.py`.
            settings = replace(settings, host="127.0.0.1", protocol="3.1.1", username=None, password=None, tls=None)
        return cls(settings, run_id, clock)

    @asynccontextmanager
    async def probe(
        self, name: str, *, on_message: Callable[[Message], None] | None = None, quick_ack: bool = True
    ) -> AsyncIterator[Probe]:
        """Connect a probe whose session ends with the block. Raise NotConnectedError.

        Args:
            name: part of the client id.
            on_message: called with each received message; without it `Probe.next` returns them.
            quick_ack: let the kernel acknowledge each TCP segment at once, as the bridge does.
        """
        options = SessionOptions(client_id=self._client_id(name), quick_ack=quick_ack)
        probe = Probe(self.settings, options, self.clock, on_message=on_message)
        try:
            await probe.connect()
            yield probe
        finally:
            await probe.close()

    def persistent_probe(self, name: str) -> Probe:
        """Return a probe, not yet connected, whose session stays at the broker."""
        return Probe(self.settings, SessionOptions(client_id=self._client_id(name), persistent=True), self.clock)

    def topic(self, name: str) -> str:
        """Return a topic on which no bridge listens."""
        return f"{self.settings.base_topic}/doctor/{self.run_id}/{name}"

    def _client_id(self, name: str) -> str:
        # With the bridge's client id the broker would disconnect a running bridge.
        return f"{self.settings.client_id}-doctor-{name}-{self.run_id}"
