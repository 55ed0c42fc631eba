"""The few MQTT 5 packets of a client that decides itself when each byte is sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PUBACK = 0x40
"""The first byte of a PUBACK."""

_CONNECT_SECONDS = 20.0
"""Longer than a frozen broker needs."""


@asynccontextmanager
async def connection(port: int, client_id: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect with a clean start and without a keep-alive.

    Raises:
        OSError: the broker is away.
        IncompleteReadError: the broker has closed the connection.
        TimeoutError: the broker does not answer.
    """
    async with asyncio.timeout(_CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        identifier = client_id.encode()
        body = b"\0\x04MQTT\x05\x02\0\0\0" + len(identifier).to_bytes(2) + identifier
        writer.write(b"\x10" + _length(len(body)) + body)
        async with asyncio.timeout(_CONNECT_SECONDS):
            await read_packet(reader)
        yield reader, writer
    finally:
        writer.close()


def publish(topic: str, payload: bytes, *, qos: int, packet_id: int, dup: bool = False, retain: bool = False) -> bytes:
    """Return a PUBLISH."""
    name = topic.encode()
    body = len(name).to_bytes(2) + name + (packet_id.to_bytes(2) if qos else b"") + b"\0" + payload
    return bytes((0x30 | dup << 3 | qos << 1 | retain,)) + _length(len(body)) + body


def pubrel(packet_id: int) -> bytes:
    """Return a PUBREL."""
    return b"\x62\x02" + packet_id.to_bytes(2)


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the first byte of the next packet, and everything after its length."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return first, await reader.readexactly(length)


def _length(number: int) -> bytes:
    encoded = bytearray()
    while True:
        number, byte = divmod(number, 128)
        encoded.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(encoded)
