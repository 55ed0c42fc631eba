"""An MQTT client that sends while it is connected, and never sends anything again."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tests.support.soak import mqtt_packets

_RECONNECT_SECONDS = 0.2


class LivePublisher:
    """The client.

    Args:
        name: the client id.
        port: the broker's port.
        lost: is called when a connection has ended, or if the broker does not keep a message with QoS 1.
    """

    def __init__(self, name: str, port: int, lost: Callable[[], None] = lambda: None) -> None:
        self._name = name
        self._port = port
        self._lost = lost
        self._writer: asyncio.StreamWriter | None = None
        self._packet_id = 0

    @property
    def is_connected(self) -> bool:
        return self._writer is not None

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Send a message if there is a connection."""
        if self._writer is None:
            return
        self._packet_id = self._packet_id % 65535 + 1
        self._writer.write(mqtt_packets.publish(topic, payload, qos=qos, packet_id=self._packet_id, retain=retain))

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with mqtt_packets.connection(self._port, self._name) as (reader, writer):
                    self._writer = writer
                    try:
                        while True:
                            first, body = await mqtt_packets.read_packet(reader)
                            # "No matching subscribers" also acknowledges, but the broker drops the message.
                            if first == mqtt_packets.PUBACK and len(body) > 2 and body[2] != 0:
                                self._lost()
                    finally:
                        self._writer = None
                        self._lost()
            await asyncio.sleep(_RECONNECT_SECONDS)
