"""The packets that the bridge reads and writes without paho, compared with paho's own reading, and over connections."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt import _packet as paho_packet
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.reasoncodes import ReasonCode

from bridge.mqtt.client.connection import Message, Publication
from bridge.mqtt.client.packets import (
    PacketSpan,
    encode_puback,
    encode_publish,
    find_packet,
    read_puback,
    read_publish,
)
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.mqtt_connection import CONNACK_3, CONNACK_5, Client, Protocol, Visit, scripted_broker, settings_for

VERSIONS = {True: MQTTProtocolVersion.MQTTv5, False: MQTTProtocolVersion.MQTTv311}
PUBACK_TYPE, PUBREC_TYPE, PUBCOMP_TYPE = 4, 5, 7


def packet(first: int, body: bytes) -> bytes:
    """Return a packet with its header."""
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | 0x80 if length else digit)
        if not length:
            return bytes((first, *encoded)) + body


def span_of(data: bytes) -> PacketSpan:
    span = find_packet(data, 0)
    assert isinstance(span, PacketSpan)
    return span


PROPERTIES = [
    b"\x00",
    b"\x05\x08\x00\x02to",
    b"\x06\x09\x00\x03\x00\xff\x01",
    b"\x0b\x09\x00\x03\x00\xff\x01\x08\x00\x02to",
    b"\x02\x01\x01",
    b"\x07\x26\x00\x01k\x00\x01v",
    b"\x0a\x08\x00\x02to\x08\x00\x02to",
    b"\x05\x08\x00\x02\xff\xfe",
    b"\x04\x08\x00\x01\x00",
    b"\x06\x08\x00\x03\xef\xbb\xbf",
    b"\x03\x08\x00\x09",
    b"\x7f",
    b"\x80\x01" + b"\x09\x00\x7d" + b"c" * 125,
    b"\xff\xff\xff\xff\x7f",
]
"""Correct and malformed properties of a PUBLISH: Response Topic, Correlation Data and others."""


@st.composite
def publish_bodies(draw: st.DrawFn) -> bytes:
    """Bodies of PUBLISH packets, correct ones and damaged ones."""
    topic = draw(st.sampled_from([b"a", b"facebridge/terminal/T1/open/set", b"", "tür".encode(), b"\xff", b"\x00"]))
    identifier = draw(st.sampled_from([b"", b"\x00\x01", b"\xff\xff", b"\x00\x00"]))
    properties = draw(st.sampled_from([b"", *PROPERTIES]))
    body = len(topic).to_bytes(2, "big") + topic + identifier + properties + draw(st.binary(max_size=40))
    cut = draw(st.integers(0, 12))
    return body[: len(body) - cut] if draw(st.booleans()) else body


@given(first=st.integers(0x30, 0x3F), body=publish_bodies() | st.binary(max_size=60), is_5=st.booleans())
@example(first=0x32, body=b"\x00\x01a\x00\x07\x00hi", is_5=True)
@example(first=0x32, body=b"\x00\x01a\x00\x07hi", is_5=False)
def test_a_publish_that_is_read_without_paho_is_what_paho_reads(first: int, body: bytes, is_5: bool) -> None:
    data = b"before" + packet(first, body) + b"after"
    span = find_packet(data, 6)
    assert isinstance(span, PacketSpan)
    read = read_publish(data, 6, span, is_5=is_5)
    if read is None:
        return
    expected = paho_packet.decode_publish(first, body, VERSIONS[is_5])
    assert read.topic == expected.topic.decode()
    assert (read.payload, read.qos, read.retain, read.dup) == (
        expected.payload, expected.qos, expected.retain, expected.dup,
    )  # fmt: skip
    assert read.packet_id == expected.mid
    assert read.response_topic == getattr(expected.properties, "ResponseTopic", None)
    assert read.correlation_data == getattr(expected.properties, "CorrelationData", None)


@pytest.mark.parametrize("is_5", [True, False])
@pytest.mark.parametrize(("flags", "qos", "retain", "dup"), [(0, 0, 0, 0), (2, 1, 0, 0), (0xB, 1, 1, 1), (1, 0, 1, 0)])
def test_the_usual_forms_of_publish_need_no_paho(is_5: bool, flags: int, qos: int, retain: int, dup: int) -> None:
    identifier = b"\x12\x34" if qos else b""
    data = packet(0x30 | flags, b"\x00\x03a/b" + identifier + (b"\x00" if is_5 else b"") + b"PRESS")
    read = read_publish(data, 0, span_of(data), is_5=is_5)
    assert read == ("a/b", b"PRESS", qos, bool(retain), bool(dup), 0x1234 if qos else 0, None, None)


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (0x34, b"\x00\x01a\x00\x07\x00hi"),
        (0x36, b"\x00\x01a\x00\x07\x00hi"),
        (0x32, b"\x00\x01a\x00\x00\x00hi"),
        (0x32, b"\x00\x01a\x00"),
        (0x30, b"\x00\x00\x00hi"),
        (0x30, b"\x00"),
        (0x30, b"\x00\x09a\x00hi"),
        *((0x32, b"\x00\x01a\x00\x07" + properties) for properties in PROPERTIES[4:12] + PROPERTIES[13:]),
    ],
)
def test_other_forms_are_left_to_paho(first: int, body: bytes) -> None:
    data = packet(first, body)
    assert read_publish(data, 0, span_of(data), is_5=True) is None


@given(body=st.binary(max_size=6))
@example(body=b"\x00\x07")
@example(body=b"\x00\x07\x87")
@example(body=b"\x00\x07\x10\x00")
def test_a_puback_that_is_read_without_paho_is_what_paho_reads(body: bytes) -> None:
    data = packet(0x40, body)
    read = read_puback(data, span_of(data))
    if read is None:
        return
    packet_id, code = read
    try:
        expected = paho_packet.decode_puback(0x40, body, MQTTProtocolVersion.MQTTv5)
    except MalformedPacket:
        # paho knows no name for this code. The session gives it as a number.
        assert len(body) > 2
        return
    assert packet_id == expected.mid
    assert ReasonCode(4, identifier=code) == expected.reason if len(body) > 2 else code == 0


@given(
    topic=st.sampled_from(["a", "facebridge/terminal/T1/reply", "tür"]),
    payload=st.binary(max_size=300),
    packet_id=st.none() | st.integers(1, 65535),
    retain=st.booleans(),
    is_5=st.booleans(),
    correlation_data=st.none() | st.binary(max_size=1024),
)
def test_paho_reads_what_is_written(
    topic: str, payload: bytes, packet_id: int | None, retain: bool, is_5: bool, correlation_data: bytes | None
) -> None:
    given_data = correlation_data if is_5 else None
    data = encode_publish(
        topic.encode(), payload, packet_id=packet_id, retain=retain, is_5=is_5, correlation_data=given_data
    )
    span = span_of(data)
    assert span.end == len(data)
    read = paho_packet.decode_publish(data[0], data[span.body :], VERSIONS[is_5])
    assert (read.topic, read.payload, read.qos, read.retain, read.dup, read.mid) == (
        topic.encode(), payload, int(packet_id is not None), retain, False, packet_id or 0,
    )  # fmt: skip
    assert getattr(read.properties, "CorrelationData", None) == given_data


def test_a_topic_with_wildcards_is_not_written() -> None:
    with pytest.raises(ValueError, match="wildcards"):
        encode_publish(b"a/#", b"", packet_id=None, retain=False, is_5=True)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_the_end_of_a_packet_is_found_only_when_it_is_complete(size: int) -> None:
    data = packet(0x30, bytes(size))
    header = len(data) - size
    assert find_packet(data, 0) == PacketSpan(header, len(data))
    for length in {*range(1, 8), len(data) - 1} - {0}:
        if length < len(data):
            missing = find_packet(data[:length], 0)
            assert isinstance(missing, int)
            assert length < missing <= len(data)


# Over connections.

TEXTS = [b"%d" % number for number in range(40)]


def mixed_packets(is_5: bool) -> Iterator[bytes]:
    """Yield messages of QoS 0 and 1, some of which paho must read, and other packets in between."""
    for number, text in enumerate(TEXTS):
        identifier = (number + 1).to_bytes(2, "big") if number % 2 else b""
        properties = PROPERTIES[number % 6] if is_5 else b""
        yield packet(0x32 if number % 2 else 0x30, b"\x00\x01a" + identifier + properties + text)
        if number % 3 == 0:
            # An acknowledgement of a publish that the client does not know, and the answer to a ping.
            yield encode_puback(9) + b"\xd0\x00"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 100_000])
async def test_messages_keep_their_order_however_the_stream_is_cut(protocol: Protocol, step: int) -> None:
    stream = b"".join(mixed_packets(protocol == "5"))
    acknowledged: list[bytes] = []
    done = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.next()
        visit.send(CONNACK_5 if protocol == "5" else CONNACK_3)
        for start in range(0, len(stream), step):
            visit.send(stream[start : start + step])
            if step < 64:
                await asyncio.sleep(0)
        while True:
            kind, body = await visit.next()
            if kind == PUBACK_TYPE:
                acknowledged.append(body[:2])
            if len(acknowledged) == len(TEXTS) // 2:
                done.set()

    async with scripted_broker(script) as port, Client(settings_for(port, protocol)).running() as client:
        assert [(await client.next()).payload for _ in TEXTS] == TEXTS
        async with asyncio.timeout(10):
            await done.wait()
    assert acknowledged == [(number + 1).to_bytes(2, "big") for number in range(1, len(TEXTS), 2)]


async def test_a_qos_2_message_between_others_arrives_at_its_second_half() -> None:
    kinds: list[int] = []
    done = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.next()
        first = packet(0x32, b"\x00\x01a\x00\x01\x00first")
        exactly_once = packet(0x34, b"\x00\x01a\x00\x02\x00exactly once")
        visit.send(CONNACK_5 + first + exactly_once + packet(0x30, b"\x00\x01a\x00between") + packet(0x62, b"\x00\x02"))
        while PUBCOMP_TYPE not in kinds:
            kinds.append((await visit.next())[0])
        done.set()
        await visit.next()

    async with scripted_broker(script) as port, Client(settings_for(port)).running() as client:
        messages = [await client.next() for _ in range(3)]
        async with asyncio.timeout(10):
            await done.wait()
    assert [(one.payload, one.qos) for one in messages] == [(b"first", 1), (b"between", 0), (b"exactly once", 2)]
    assert kinds == [PUBACK_TYPE, PUBREC_TYPE, PUBCOMP_TYPE]


@pytest.mark.parametrize("size", [0, 100, 8_000, 70_000, 3_000_000])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_payloads_of_every_size_pass_a_real_broker(
    mosquitto: Mosquitto, protocol: Protocol, size: int, qos: int
) -> None:
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def subscribe() -> None:
        await client.connection.subscribe(["a"], qos=2)

    client = Client(settings_for(mosquitto.port, protocol), on_connect=subscribe)
    async with client.running(), mqtt_client(mosquitto.port) as publisher:
        for _ in range(3):
            await publisher.publish("a", payload, qos=qos)
        received = [await client.next() for _ in range(3)]
        await client.connection.publish(Publication("a", payload, qos=1))
        received.append(await client.next())
    assert [one.payload == payload for one in received] == [True] * 4
    assert [one.qos for one in received] == [qos] * 3 + [1]


async def test_the_socket_continues_when_the_broker_reads_again(mosquitto: Mosquitto) -> None:
    payload = b"x" * 200_000
    received: list[Message] = []
    all_received = asyncio.Event()

    def note(message: Message) -> None:
        received.append(message)
        if len(received) == 100:
            all_received.set()

    async with Client(settings_for(mosquitto.port), topics=("a",), on_message=note).running() as client:
        mosquitto.freeze()
        waiting = [client.connection.publish_nowait(Publication("a", payload)) for _ in range(100)]
        await asyncio.sleep(0.2)
        mosquitto.thaw()
        async with asyncio.timeout(30):
            await asyncio.gather(*(one for one in waiting if one is not None))
            await all_received.wait()
    assert {len(one.payload) for one in received} == {len(payload)}
