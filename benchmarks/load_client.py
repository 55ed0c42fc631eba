"""The MQTT client of the load generator, as short as possible so that it does not limit what is measured.

It speaks MQTT 3.1.1 with frames made by hand. It publishes with QoS 1, ignores the acknowledgements, and subscribes
with QoS 0, so that it has nothing to acknowledge. Callbacks instead of tasks and futures: 0.03 ms of processor for a
press and its reply.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

from benchmarks.subjects.floor import mqtt_packet, remaining_length

TIMEOUT_SECONDS = 60.0
"""Time after which a step that takes milliseconds has failed."""


class LoadClient(asyncio.Protocol):
    """A connection to the broker.

    Attributes:
        on_message: is called with the payload of every message.
    """

    def __init__(self, name: str) -> None:
        self.on_message: Callable[[bytes], None] = lambda _: None
        self._name = name.encode()
        self._buffer = bytearray()
        self._packet_id = 1
        self._transport: asyncio.Transport | None = None
        self._acknowledged: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket: socket.socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        """Handle the complete packets."""
        # A broker that leaves Nagle's algorithm on waits for this acknowledgement, which Linux delays by 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        buffer = self._buffer
        buffer += data
        position = 0
        while len(buffer) >= position + 2:
            length, start = remaining_length(buffer, position + 1)
            if not start or len(buffer) < start + length:
                break
            kind = buffer[position] & 0xF0
            position = start + length
            if kind == 0x30:
                topic_end = start + 2 + int.from_bytes(buffer[start : start + 2])
                self.on_message(bytes(buffer[topic_end:position]))
            elif kind in (0x20, 0x90) and self._acknowledged is not None:
                self._acknowledged.set_result(None)
        del buffer[:position]

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Publish with QoS 1."""
        assert self._transport is not None
        self._packet_id = self._packet_id % 65535 + 1
        body = len(topic).to_bytes(2) + topic + self._packet_id.to_bytes(2) + payload
        self._transport.write(mqtt_packet(0x32, body))

    async def subscribe(self, topic: str) -> None:
        """Subscribe, and return when the broker has acknowledged it."""
        name = topic.encode()
        await self._until_acknowledged(mqtt_packet(0x82, b"\x00\x01" + len(name).to_bytes(2) + name + b"\x00"))

    async def greet(self) -> None:
        """Send CONNECT, and return when the broker has accepted it."""
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(self._name).to_bytes(2) + self._name
        await self._until_acknowledged(mqtt_packet(0x10, body))

    async def _until_acknowledged(self, packet: bytes) -> None:
        assert self._transport is not None
        self._acknowledged = asyncio.get_running_loop().create_future()
        self._transport.write(packet)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._acknowledged
        self._acknowledged = None


@asynccontextmanager
async def load_client(port: int, name: str, topics: Sequence[str]) -> AsyncIterator[LoadClient]:
    """Connect to the broker and subscribe, as long as the block lasts."""
    transport, client = await asyncio.get_running_loop().create_connection(lambda: LoadClient(name), "127.0.0.1", port)
    try:
        await client.greet()
        for topic in topics:
            await client.subscribe(topic)
        yield client
    finally:
        transport.close()
