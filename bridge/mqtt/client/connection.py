"""A connection to the broker that reconnects by itself."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock
from bridge.core.tasks import BackgroundTasks
from bridge.model.faults import shorten
from bridge.mqtt.client.errors import (
    CONNECTION_LOST,
    LOST_REPEATEDLY,
    NotConnectedError,
    PacketTooLargeError,
    SubscriptionRefusedError,
)
from bridge.mqtt.client.messages import Message, Publication, SessionOptions, Will
from bridge.mqtt.client.session import MqttSession

__all__ = [
    "ConnectionHandlers",
    "ConnectionStatus",
    "Message",
    "MqttConnection",
    "NotConnectedError",
    "Publication",
    "SessionOptions",
    "SubscriptionRefusedError",
    "Will",
]

_LOGGER = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.5
_MAX_RETRY_SECONDS = 10.0
"""Time between attempts to connect. Presses go over this connection, so it must return soon after the broker does. Each
wait is shortened at random by up to a half, so that a hundred bridges do not connect at the same moment to a broker
that has just started."""

_STABLE_SECONDS = 10.0
"""Time that a connection must last before the next attempt is quick again: two clients with the same id disconnect each
other."""

_SUSPICIOUS_LOSSES = 3
"""Number of connections in a row that break earlier before the bridge suspects a second client with its id: Mosquitto,
and any broker over MQTT 3.1.1, disconnects the earlier client without giving a reason."""

_MAX_LOGGED_REFUSALS = 20
"""Topics whose refused publishes are logged, per connection."""

_ON_CONNECT_FAILED = "an internal error after connecting; the bridge's log has the details"

_NOT_YET = "not connected yet"
"""The problem before the first attempt has ended."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The state of a connection.

    Attributes:
        connected: whether it is connected.
        problem: why not, as a text for users.
    """

    connected: bool
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionHandlers:
    """What the owner of a connection does when something happens.

    Attributes:
        on_message: called with each received message, in order.
        on_connect: awaited after each connect, to subscribe and publish again; cancelled when the connection breaks.
        on_disconnect: called when an accepted connection has ended.
    """

    on_message: Callable[[Message], None]
    on_connect: Callable[[], Awaitable[None]]
    on_disconnect: Callable[[], None]


class MqttConnection:
    """A connection to the broker while `run` runs. It reconnects with jittered backoff."""

    def __init__(
        self,
        settings: MqttSettings,
        options: SessionOptions,
        handlers: ConnectionHandlers,
        clock: Clock,
        random: Random,
    ) -> None:
        """Build the connection.

        Args:
            settings: the broker's settings.
            options: what the client asks of each connection.
            handlers: what the owner does when something happens.
            clock: dates received messages.
            random: varies the time between attempts.
        """
        self._settings = settings
        self._options = options
        self._handlers = handlers
        self._clock = clock
        self._random = random
        self._session: MqttSession | None = None
        self._session_present = False
        self._problem: str | None = _NOT_YET
        self._logged_problem: str | None = None
        self._logged_refusals: set[str] = set()

    @property
    def protocol5(self) -> bool:
        """Whether the connection uses MQTT 5."""
        return self._settings.protocol == "5"

    @property
    def status(self) -> ConnectionStatus:
        """The current state."""
        return ConnectionStatus(self._session is not None and self._session.connected, self._problem)

    @property
    def session_present(self) -> bool:
        """Whether the broker had kept the session of the present connection from an earlier one."""
        return self._session_present

    async def run(self) -> None:
        """Connect, and reconnect until cancelled; then disconnect so that no will is published."""
        retry_seconds = _FIRST_RETRY_SECONDS
        short_lived = 0
        while True:
            problem, lasted_seconds = await self._connect_once()
            if lasted_seconds > _STABLE_SECONDS:
                retry_seconds = _FIRST_RETRY_SECONDS
                short_lived = 0
                self._logged_problem = None
            elif lasted_seconds > 0:
                short_lived += 1
                if problem == CONNECTION_LOST and short_lived >= _SUSPICIOUS_LOSSES:
                    problem = LOST_REPEATEDLY
            self._problem = problem
            self._log_new_problem(problem)
            await asyncio.sleep(retry_seconds * self._random.uniform(0.5, 1))
            retry_seconds = min(2 * retry_seconds, _MAX_RETRY_SECONDS)

    async def subscribe(self, topics: Sequence[str], qos: int = 1) -> None:
        """Subscribe, and wait for the broker's answer. With MQTT 5 the broker sends no stored messages.

        Raises:
            NotConnectedError: there is no connection, or it ended.
            SubscriptionRefusedError: the broker refuses a topic.
        """
        refusals = await self._connected().subscribe(topics, qos=qos)
        for topic, refusal in zip(topics, refusals, strict=False):
            if refusal is not None:
                raise SubscriptionRefusedError(topic)

    def publish_nowait(
        self, publication: Publication, *, on_lost: Callable[[], None] | None = None
    ) -> "asyncio.Future[str | None] | None":
        """Publish now or not at all, without waiting for an acknowledgement. Raise NotConnectedError if offline.

        Args:
            publication: the message.
            on_lost: called if the connection ends before the broker has acknowledged the message.

        Returns:
            The future of `MqttSession.publish`; None if the broker does not accept a message of this size.
        """
        session = self._connected()
        try:
            return session.publish(publication, on_lost=on_lost)
        except PacketTooLargeError as error:
            _LOGGER.warning(
                "the message on %s was not published: %d bytes, more than the broker accepts",
                shorten(publication.topic),
                error.size,
            )
            return None

    async def publish(self, publication: Publication) -> None:
        """Publish, and wait until the broker has acknowledged the message.

        Raises:
            NotConnectedError: there is no connection, or it ended first; the broker may have the message nevertheless.
        """
        acknowledged = self.publish_nowait(publication)
        if acknowledged is not None:
            await acknowledged

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message, so that the broker drops it. Messages of an earlier connection are ignored."""
        # The packet id may belong to another message by now.
        if self._session is not None and message.session is self._session:
            self._session.acknowledge(message)

    def abort(self, problem: str) -> None:
        """Break the current connection without DISCONNECT: the broker publishes the will, and `run` reconnects.

        Args:
            problem: the reason, as a text for users.
        """
        if self._session is not None:
            self._session.abort(problem)

    def _connected(self) -> MqttSession:
        if self._session is None or not self._session.connected:
            raise NotConnectedError
        return self._session

    async def _connect_once(self) -> tuple[str, float]:
        """Make one connection and wait until it ends; return the problem, and how many seconds it lasted."""
        session = MqttSession(
            self._settings,
            self._options,
            self._clock,
            on_message=self._handlers.on_message,
            on_publish_refused=self._publish_refused,
        )
        self._session = session
        self._logged_refusals.clear()
        work = BackgroundTasks()
        connected_at: float | None = None
        try:
            self._session_present = (await session.connect()).session_present
            connected_at = self._clock.boottime()
            self._problem = None
            _LOGGER.info("connected to the broker as %s", self._options.client_id)
            work.start(self._run_on_connect(), name=f"on_connect of {self._options.client_id}")
            problem = await session.wait_ended()
            return problem, self._clock.boottime() - connected_at
        except NotConnectedError as error:
            return str(error), 0
        finally:
            await work.stop()
            await session.close()
            self._session = None
            if connected_at is not None:
                self._handlers.on_disconnect()

    async def _run_on_connect(self) -> None:
        try:
            await self._handlers.on_connect()
        except NotConnectedError:
            return
        except Exception:
            # Reconnect: without its subscriptions this connection would receive nothing.
            self.abort(_ON_CONNECT_FAILED)
            raise

    def _publish_refused(self, topic: str, reason: str) -> None:
        if topic not in self._logged_refusals and len(self._logged_refusals) < _MAX_LOGGED_REFUSALS:
            self._logged_refusals.add(topic)
            _LOGGER.warning("the broker refuses messages on %s: %s", shorten(topic), reason)

    def _log_new_problem(self, problem: str) -> None:
        """Log a problem once, not at each attempt."""
        if problem != self._logged_problem:
            _LOGGER.warning("%s is not connected: %s; trying again until it is", self._options.client_id, problem)
            self._logged_problem = problem
