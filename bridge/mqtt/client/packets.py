"""The MQTT packets of a press and its reply, as bytes: PUBLISH and PUBACK with QoS 0 and 1.

paho builds a message, `Properties` and a `ReasonCode` for each packet, reads its header byte by byte and takes six
locks: a third of the processor time of an open (measured with py-spy). These functions read and write the usual forms
of the two packets. They return None for every other form, and paho reads that packet: QoS 2, rare properties,
everything malformed. So paho alone decides what is a protocol error.
"""

from typing import NamedTuple

PUBLISH = 0x30
PUBACK = 0x40
_TYPE_MASK = 0xF0
_QOS_MASK = 0x06
_QOS_1 = 0x02
_DUP = 0x08
_RETAIN = 0x01

_MAX_LENGTH_BYTES = 4
"""Bytes of a packet's remaining length (MQTT 5, section 1.5.5)."""

_RESPONSE_TOPIC = 0x08
_CORRELATION_DATA = 0x09
"""Identifiers of properties (MQTT 5, section 2.2.2.2)."""

_NO_PROPERTIES = b"\0"

_ONE_BYTE_LENGTHS = [bytes((length,)) for length in range(0x80)]


class ReceivedPublish(NamedTuple):
    """A PUBLISH with QoS 0 or 1; the fields are those of `bridge.mqtt.client.messages.Message`."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    response_topic: str | None
    correlation_data: bytes | None


class PacketSpan(NamedTuple):
    """The place of a complete packet in a buffer: the first byte after its header, and the first byte after it."""

    body: int
    end: int


def find_packet(data: bytes, start: int) -> PacketSpan | int:
    """Return the place of the packet that begins at `start`.

    Returns:
        If the packet is not complete, the number of bytes that it has, as far as its beginning says. A packet whose
        length is malformed ends after the length, so that paho reports it.
    """
    available = len(data) - start
    if available > 1 and (length := data[start + 1]) < 0x80:
        # The usual case: a length of one byte.
        end = start + 2 + length
        return PacketSpan(start + 2, end) if end <= len(data) else end - start
    length = 0
    for index in range(1, _MAX_LENGTH_BYTES + 1):
        if index >= available:
            return index + 1
        value = data[start + index]
        length |= (value & 0x7F) << (7 * (index - 1))
        if value < 0x80:
            end = start + index + 1 + length
            return PacketSpan(start + index + 1, end) if end <= len(data) else end - start
    # One byte more: paho refuses a length of five bytes.
    end = start + _MAX_LENGTH_BYTES + 2
    return PacketSpan(end, end) if end <= len(data) else end - start


def read_publish(data: bytes, start: int, span: PacketSpan, *, is_5: bool) -> ReceivedPublish | None:
    """Return the PUBLISH that begins at `start`, None for one that paho must read."""
    first, (position, end) = data[start], span
    if end - position < 2:
        return None
    topic_start = position + 2
    position = topic_end = topic_start + (data[position] << 8 | data[position + 1])
    qos = first & _QOS_MASK
    packet_id = 0
    if qos == _QOS_1 and position + 2 <= end:
        packet_id = data[position] << 8 | data[position + 1]
        position += 2
    if (packet_id == 0) != (qos == 0) or topic_end == topic_start or position > end:
        return None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    if is_5:
        if position >= end:
            return None
        if data[position]:
            properties = _read_properties(data, position, end)
            if properties is None:
                return None
            response_topic, correlation_data, position = properties
        else:
            position += 1
    try:
        topic = data[topic_start:topic_end].decode()
    except UnicodeDecodeError:
        return None
    return ReceivedPublish(
        topic,
        data[position:end],
        qos >> 1,
        bool(first & _RETAIN),
        bool(first & _DUP),
        packet_id,
        response_topic,
        correlation_data,
    )


def _read_properties(data: bytes, position: int, end: int) -> tuple[str | None, bytes | None, int] | None:
    """Return Response Topic, Correlation Data and the position behind the properties; None for any other property."""
    length = data[position]
    position += 1
    if length >= 0x80:
        if position >= end or data[position] >= 0x80:
            return None
        length = length & 0x7F | data[position] << 7
        position += 1
    stop = position + length
    if stop > end:
        return None
    values: dict[int, bytes] = {}
    while position < stop:
        identifier = data[position]
        if identifier not in (_RESPONSE_TOPIC, _CORRELATION_DATA) or identifier in values or position + 3 > stop:
            return None
        value_start = position + 3
        position = value_start + (data[position + 1] << 8 | data[position + 2])
        if position > stop:
            return None
        values[identifier] = data[value_start:position]
    response_topic: str | None = None
    if (encoded := values.get(_RESPONSE_TOPIC)) is not None:
        try:
            response_topic = encoded.decode()
        except UnicodeDecodeError:
            return None
        # paho refuses some of the other characters (MQTT 5, section 1.5.4).
        if not response_topic.isprintable():
            return None
    return response_topic, values.get(_CORRELATION_DATA), stop


def read_puback(data: bytes, span: PacketSpan) -> tuple[int, int] | None:
    """Return the packet id and the reason code of a PUBACK, None for one that paho must read."""
    position, end = span
    size = end - position
    if size < 2:
        return None
    packet_id = data[position] << 8 | data[position + 1]
    if size == 2:
        return packet_id, 0
    # A reason code (MQTT 5), and then no properties.
    if size == 3 or (size == 4 and data[position + 3] == 0):
        return packet_id, data[position + 2]
    return None


def encode_puback(packet_id: int) -> bytes:
    """Return the PUBACK of a received message."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def encode_publish(
    topic: bytes,
    payload: bytes,
    *,
    packet_id: int | None,
    retain: bool,
    is_5: bool,
    correlation_data: bytes | None = None,
) -> bytes:
    """Return a PUBLISH.

    Args:
        topic: its topic in UTF-8, at most 65,535 bytes.
        payload: its payload.
        packet_id: its packet id; None for QoS 0.
        retain: whether the broker stores it.
        is_5: whether it is of MQTT 5, in which every PUBLISH has properties.
        correlation_data: a property of MQTT 5, at most 65,535 bytes.

    Raises:
        ValueError: the topic contains a wildcard.
    """
    if b"+" in topic or b"#" in topic:
        raise ValueError("a message cannot be published on a topic with wildcards")
    first, identifier = PUBLISH | retain, b""
    if packet_id is not None:
        first |= _QOS_1
        identifier = packet_id.to_bytes(2, "big")
    properties = b""
    if is_5:
        properties = _NO_PROPERTIES
        if correlation_data is not None:
            one = bytes((_CORRELATION_DATA,)) + len(correlation_data).to_bytes(2, "big") + correlation_data
            properties = _encode_length(len(one)) + one
    size = 2 + len(topic) + len(identifier) + len(properties) + len(payload)
    return b"".join(
        (bytes((first,)), _encode_length(size), len(topic).to_bytes(2, "big"), topic, identifier, properties, payload)
    )


def _encode_length(length: int) -> bytes:
    """Return a Variable Byte Integer (MQTT 5, section 1.5.5)."""
    if length < 0x80:
        return _ONE_BYTE_LENGTHS[length]
    encoded = bytearray()
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def packet_type(first: int) -> int:
    """Return the type of a packet from its first byte: `PUBLISH`, `PUBACK` or another number."""
    return first & _TYPE_MASK
