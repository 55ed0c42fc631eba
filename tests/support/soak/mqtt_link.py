"""A TCP proxy between bridge and broker: it can be held or cut in each direction, and reads the MQTT 5 packets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

CONNECT, PUBLISH, PUBACK = 1, 3, 4

_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class LinkPacket:
    """A packet that the proxy has forwarded.

    Attributes:
        connection: the number of the connection, counted from the start of the soak.
        client_id: of the bridge's client.
        to_bridge: the direction.
        type: the packet type (MQTT 5, section 2.1.2).
        packet_id: of a PUBLISH with QoS 1 or 2 or a PUBACK; else None.
        topic: of a PUBLISH; else empty.
        payload: of a PUBLISH; else empty.
    """

    connection: int
    client_id: str
    to_bridge: bool
    type: int
    packet_id: int | None = None
    topic: str = ""
    payload: bytes = field(default=b"", repr=False)


class MqttLink:
    """The proxy; it listens on a free port.

    Args:
        target_port: the broker's port.
        forwarded: is called with each packet after its last byte was forwarded.
    """

    def __init__(self, target_port: int, forwarded: Callable[[LinkPacket], None]) -> None:
        self.port = 0
        self._target_port = target_port
        self._observers = [forwarded]
        self._to_broker = asyncio.Event()
        self._to_bridge = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._numbers = count(1)
        self.release()

    def hold(self, *, to_broker: bool, to_bridge: bool) -> None:
        """Hold back bytes in these directions; connections stay open."""
        if to_broker:
            self._to_broker.clear()
        if to_bridge:
            self._to_bridge.clear()

    def release(self) -> None:
        """Forward again, beginning with the bytes that have waited."""
        self._to_broker.set()
        self._to_bridge.set()

    def cut(self) -> None:
        """Reset all connections, discard the bytes that were held back, and forward again on new connections."""
        for writer in tuple(self._writers):
            writer.transport.abort()
        self.release()

    async def next_packet(self, matches: Callable[[LinkPacket], bool], within: float) -> bool:
        """Wait until the proxy has forwarded a packet that matches; return whether it has within this time."""
        seen = asyncio.Event()

        def observe(packet: LinkPacket) -> None:
            if matches(packet):
                seen.set()

        self._observers.append(observe)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await seen.wait()
        finally:
            self._observers.remove(observe)
        return seen.is_set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["MqttLink"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        parser = _PacketParser(next(self._numbers), self._notify)
        await asyncio.gather(
            self._forward(reader, far_writer, self._to_broker, lambda data: parser.feed(data, to_bridge=False)),
            self._forward(far_reader, writer, self._to_bridge, lambda data: parser.feed(data, to_bridge=True)),
        )
        self._writers -= ends

    def _notify(self, packet: LinkPacket) -> None:
        for observe in tuple(self._observers):
            observe(packet)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event,
        forwarded: Callable[[bytes], None],
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                await flowing.wait()
                if writer.transport.is_closing():
                    break
                writer.write(data)
                forwarded(data)
                await writer.drain()
        # A closed end closes the other one: bytes that are held back then do not matter, as with a killed process.
        writer.close()


class _PacketParser:
    """Splits both directions of a connection into packets."""

    def __init__(self, connection: int, forwarded: Callable[[LinkPacket], None]) -> None:
        self._connection = connection
        self._forwarded = forwarded
        self._client_id = ""
        self._buffers = {True: bytearray(), False: bytearray()}

    def feed(self, data: bytes, *, to_bridge: bool) -> None:
        buffer = self._buffers[to_bridge]
        buffer += data
        for first, body in _packets(buffer):
            self._handle(first, body, to_bridge)

    def _handle(self, first: int, body: bytes, to_bridge: bool) -> None:
        kind = first >> 4
        packet_id, topic, payload = None, "", b""
        if kind == CONNECT:
            # Protocol name, version, flags and keep-alive have ten bytes, then come the properties.
            rest = _without_properties(body[10:])
            self._client_id = rest[2 : 2 + int.from_bytes(rest[:2])].decode()
        elif kind == PUBACK:
            packet_id = int.from_bytes(body[:2])
        elif kind == PUBLISH:
            end = 2 + int.from_bytes(body[:2])
            topic, rest = body[2:end].decode(), body[end:]
            if first & 0b110:
                packet_id, rest = int.from_bytes(rest[:2]), rest[2:]
            payload = _without_properties(rest)
        else:
            return
        self._forwarded(
            LinkPacket(self._connection, self._client_id, to_bridge, kind, packet_id, topic, bytes(payload))
        )


def _packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Remove the complete packets from a buffer: first byte, and everything after the length."""
    while len(buffer) >= 2:
        length = _variable_integer(buffer, 1)
        if length is None or len(buffer) < length[1] + length[0]:
            return
        end = length[1] + length[0]
        packet = buffer[0], bytes(buffer[length[1] : end])
        del buffer[:end]
        yield packet


def _variable_integer(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Return a variable byte integer (MQTT 5, section 1.5.5) and the index after it; None if it is incomplete."""
    value = shift = 0
    for index in range(start, min(start + 4, len(data))):
        value |= (data[index] & 0x7F) << shift
        shift += 7
        if data[index] < 0x80:
            return value, index + 1
    return None


def _without_properties(data: bytes) -> bytes:
    length = _variable_integer(data, 0)
    assert length is not None
    return data[length[1] + length[0] :]
