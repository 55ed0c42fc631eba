"""Keeps the lease alive: a heartbeat at a time, over the live connection."""

import asyncio
import logging
from contextlib import suppress

from bridge.mqtt.client.connection import Message, MqttConnection, NotConnectedError
from bridge.mqtt.lease import Lease

_LOGGER = logging.getLogger(__name__)

_OVERDUE = 10.0
"""Seconds until the first echo of a connection is missed aloud: echoes take milliseconds, and the lease's caution a
second or two. A broker whose access rules swallow the heartbeat says nothing itself."""


class Heartbeat:
    """Publishes heartbeats and takes their echoes."""

    def __init__(self, connection: MqttConnection, lease: Lease, topic: str) -> None:
        self._connection = connection
        self._lease = lease
        self._topic = topic
        self._ready = asyncio.Event()
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Publish a heartbeat every interval until cancelled."""
        while True:
            self._beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease.interval):
                    await self._wanted.wait()
            self._wanted.clear()

    async def wait_ready(self) -> None:
        """Begin anew on a connection whose topics are subscribed, and wait until echoes date what comes in."""
        self._lease.reset()
        self._ready.clear()
        self._wanted.set()
        try:
            async with asyncio.timeout(_OVERDUE):
                await self._ready.wait()
        except TimeoutError:
            _LOGGER.warning(
                "no prompt heartbeat comes back on %s: presses are not taken until one does; where it lasts, the "
                "broker's access rules must let this client publish and read that topic",
                self._topic,
            )
            await self._ready.wait()

    def received(self, message: Message) -> None:
        """Take what came in on the heartbeat's topic."""
        if self._lease.echo(message.payload) and self._lease.ready:
            self._ready.set()

    def _beat(self) -> None:
        if not self._connection.status.connected:
            return
        payload = self._lease.beat()
        if payload is not None:
            # QoS 1 like the presses: at QoS 0 Mosquitto lets the echo overtake presses that wait behind its window.
            with suppress(NotConnectedError):
                self._connection.publish_nowait(self._topic, payload, qos=1)
