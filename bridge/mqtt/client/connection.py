"""A connection to the broker that comes back by itself."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock
from bridge.core.tasks import BackgroundTasks
from bridge.mqtt.client.messages import Message, NotConnectedError, SubscriptionRefusedError, Will
from bridge.mqtt.client.paho_session import PahoSession
from bridge.mqtt.client.reasons import LOST, LOST_REPEATEDLY

__all__ = [
    "ConnectionStatus",
    "Message",
    "MqttConnection",
    "NotConnectedError",
    "SubscriptionRefusedError",
    "Will",
]

_LOGGER = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
"""Seconds between attempts: doors are opened over this connection, so it is back soon after the broker is. Each is
cut by up to a half at random, so that a hundred bridges do not fall upon a broker that has just started."""

_STEADY = 10.0
"""Seconds a connection must last before the next attempt is quick again: two clients of one id throw each other out."""

_SUSPICIOUS = 3
"""Connections in a row that break sooner, until that is suspected: Mosquitto, and any broker over MQTT 3.1.1, hangs up
on the earlier client without a word."""

_FAILED_GREETING = "what it begins with failed; the bridge's log says why"

_NOT_YET = "not connected yet"
"""The problem before the first attempt has ended."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """How a connection is.

    Attributes:
        connected: whether it is there.
        problem: why not, for people.
    """

    connected: bool
    problem: str | None


class MqttConnection:
    """Connects while `run` runs, and again with jittered backoff."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        clock: Clock,
        random: Random,
        persistent: bool,
        will: Will | None,
        on_message: Callable[[Message], None],
        on_connect: Callable[[], Awaitable[None]],
        on_disconnect: Callable[[], None],
    ) -> None:
        """Build the connection.

        Args:
            settings: of the broker.
            client_id: the broker knows it by.
            clock: messages are dated with.
            random: spreads attempts.
            persistent: the broker keeps the session, and a message until `acknowledge`; else everything starts clean.
            will: published by the broker when the connection breaks.
            on_message: called with what comes in, in order.
            on_connect: sends the wanted set again; cancelled when the connection breaks.
            on_disconnect: called when a connection that was made is gone.
        """
        self._settings = settings
        self._client_id = client_id
        self._clock = clock
        self._random = random
        self._persistent = persistent
        self._will = will
        self._on_message = on_message
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._session: PahoSession | None = None
        self._problem: str | None = _NOT_YET
        self._told: str | None = None

    @property
    def protocol5(self) -> bool:
        """Whether it speaks MQTT 5."""
        return self._settings.protocol == "5"

    @property
    def status(self) -> ConnectionStatus:
        """How it is now."""
        return ConnectionStatus(self._session is not None and self._session.connected, self._problem)

    async def run(self) -> None:
        """Connect, again and again, until cancelled; then disconnect so that no will is published."""
        pause = _FIRST_PAUSE
        short_lived = 0
        while True:
            problem, lasted = await self._connect_once()
            if lasted > _STEADY:
                pause = _FIRST_PAUSE
                short_lived = 0
                self._told = None
            elif lasted > 0:
                short_lived += 1
                if problem == LOST and short_lived >= _SUSPICIOUS:
                    problem = LOST_REPEATEDLY
            self._problem = problem
            self._tell(problem)
            await asyncio.sleep(pause * self._random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def subscribe(self, topics: Sequence[str], qos: int = 1) -> None:
        """Subscribe, and return once the broker has confirmed; stored messages stay away with MQTT 5.

        Raises:
            NotConnectedError: the broker is away, or went.
            SubscriptionRefusedError: it does not allow one.
        """
        await self._connected().subscribe(topics, qos)

    def publish_nowait(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        correlation_data: bytes | None = None,
    ) -> None:
        """Publish now or not at all. Raises NotConnectedError."""
        self._connected().publish(topic, payload, qos, retain=retain, correlation_data=correlation_data)

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 1,
        retain: bool = False,
        correlation_data: bytes | None = None,
    ) -> None:
        """Publish, and return once the broker has acknowledged it.

        Raises:
            NotConnectedError: the broker is away, or went before; it may have the message all the same.
        """
        await self._connected().publish_and_wait(topic, payload, qos, retain=retain, correlation_data=correlation_data)

    def acknowledge(self, message: Message) -> None:
        """Let the broker drop a message; nothing happens for one of an earlier connection."""
        # A packet id of an earlier connection may mean another message by now.
        if self._session is not None and message.session is self._session:
            self._session.acknowledge(message)

    def _connected(self) -> PahoSession:
        if self._session is None or not self._session.connected:
            raise NotConnectedError
        return self._session

    async def _connect_once(self) -> tuple[str, float]:
        """Make one connection and stay until it ends; return why it did, and how many seconds it lasted."""
        session = PahoSession(
            self._settings,
            self._client_id,
            self._clock,
            persistent=self._persistent,
            will=self._will,
            on_message=self._on_message,
        )
        self._session = session
        work = BackgroundTasks()
        made_at: float | None = None
        try:
            await session.connect()
            made_at = self._clock.boottime()
            self._problem = None
            _LOGGER.info("connected to the broker as %s", self._client_id)
            work.start(self._greet(session), name=f"what {self._client_id} begins with")
            problem = await session.wait_ended()
            return problem, self._clock.boottime() - made_at
        except NotConnectedError as error:
            return str(error), 0
        finally:
            await work.stop()
            await session.close()
            self._session = None
            if made_at is not None:
                self._on_disconnect()

    async def _greet(self, session: PahoSession) -> None:
        try:
            await self._on_connect()
        except NotConnectedError:
            return
        except Exception:
            # Left connected it would be deaf, and nobody would know.
            session.abort(_FAILED_GREETING)
            raise

    def _tell(self, problem: str) -> None:
        """Say what is wrong once, not at each attempt."""
        if problem != self._told:
            _LOGGER.warning("%s is not connected: %s; trying again until it is", self._client_id, problem)
            self._told = problem
