"""The embedded broker with real paho clients."""

import asyncio
import logging
import queue
import socket
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bridge.simulator.broker import EmbeddedBroker, EmbeddedBrokerError, EmbeddedBrokerMissingError

TIMEOUT_SECONDS = 10

CONNECT = bytes.fromhex("100c00044d5154540402003c0000")


@dataclass
class Client:
    """A paho client with its own thread, as in users' tools."""

    paho: mqtt.Client
    messages: queue.Queue[mqtt.MQTTMessage] = field(default_factory=queue.Queue)
    answers: queue.Queue[str] = field(default_factory=queue.Queue)

    async def connect(self, port: int) -> str:
        self.paho.on_connect = lambda *arguments: self.answers.put(str(arguments[3]))
        self.paho.on_subscribe = lambda *_: self.answers.put("subscribed")
        self.paho.on_publish = lambda *_: self.answers.put("published")
        self.paho.on_disconnect = lambda *_: self.answers.put("disconnected")
        self.paho.on_message = lambda _client, _userdata, message: self.messages.put(message)
        await asyncio.to_thread(self.paho.connect, "127.0.0.1", port)
        self.paho.loop_start()
        return await self.answer()

    async def answer(self) -> str:
        return await asyncio.to_thread(self.answers.get, timeout=TIMEOUT_SECONDS)

    async def subscribe(self, topic: str, qos: int) -> None:
        self.paho.subscribe(topic, qos)
        assert await self.answer() == "subscribed"

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self.paho.publish(topic, payload, qos, retain)
        assert await self.answer() == "published"

    async def next(self) -> tuple[str, bytes, int, bool]:
        message = await asyncio.to_thread(self.messages.get, timeout=TIMEOUT_SECONDS)
        return message.topic, bytes(message.payload), message.qos, message.retain


class Clients:
    """The clients of a test."""

    def __init__(self) -> None:
        self._made: list[Client] = []

    def make(self, client_id: str, *, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311) -> Client:
        client = Client(mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol))
        self._made.append(client)
        return client

    async def end(self) -> None:
        for client in self._made:
            client.paho.disconnect()
        await asyncio.gather(*(asyncio.to_thread(client.paho.loop_stop) for client in self._made))


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    made = Clients()
    yield made
    await made.end()


async def test_carries_messages_both_ways_in_order(clients: Clients) -> None:
    async with EmbeddedBroker() as broker:
        one, other = clients.make("one"), clients.make("other")
        assert await one.connect(broker.port) == await other.connect(broker.port) == "Success"
        await one.subscribe("site/+/set", 1)
        await other.subscribe("site/reply", 1)
        for number in range(50):
            await other.publish("site/door/set", str(number).encode())
        assert [await one.next() for _ in range(50)] == [
            ("site/door/set", str(number).encode(), 1, False) for number in range(50)
        ]
        await one.publish("site/reply", b"done")
        assert await other.next() == ("site/reply", b"done", 1, False)


async def test_echoes_to_the_publisher_itself(clients: Clients) -> None:
    async with EmbeddedBroker() as broker:
        one = clients.make("one")
        await one.connect(broker.port)
        await one.subscribe("heartbeat", 1)
        await one.publish("heartbeat", b"1")
        assert await one.next() == ("heartbeat", b"1", 1, False)


async def test_keeps_and_clears_retained_messages(clients: Clients) -> None:
    async with EmbeddedBroker() as broker:
        one, later = clients.make("one"), clients.make("later")
        await one.connect(broker.port)
        await one.publish("state/kept", b"kept", retain=True)
        await one.publish("state/cleared", b"old", retain=True)
        await one.publish("state/cleared", b"", retain=True)
        await later.connect(broker.port)
        await later.subscribe("state/#", 1)
        assert await later.next() == ("state/kept", b"kept", 1, True)
        await one.publish("state/last", b"last")
        assert await later.next() == ("state/last", b"last", 1, False)


async def test_publishes_a_will_only_if_a_client_disconnects_abruptly(clients: Clients) -> None:
    async with EmbeddedBroker() as broker:
        watcher, abrupt, orderly = clients.make("watcher"), clients.make("abrupt"), clients.make("orderly")
        await watcher.connect(broker.port)
        await watcher.subscribe("will/#", 1)
        for client, topic in ((orderly, "will/orderly"), (abrupt, "will/abrupt")):
            client.paho.will_set(topic, b"offline", 1, retain=True)
            await client.connect(broker.port)
        orderly.paho.disconnect()
        assert await orderly.answer() == "disconnected"
        connection = abrupt.paho.socket()
        assert connection is not None
        await asyncio.to_thread(abrupt.paho.loop_stop)
        connection.close()
        assert await watcher.next() == ("will/abrupt", b"offline", 1, False)

        later = clients.make("later")
        await later.connect(broker.port)
        await later.subscribe("will/abrupt", 1)
        message = await later.next()
        assert (message[:2], message[3]) == (("will/abrupt", b"offline"), True)


async def test_delivers_a_message_as_large_as_a_photo(clients: Clients) -> None:
    async with EmbeddedBroker() as broker:
        one = clients.make("one")
        await one.connect(broker.port)
        await one.subscribe("photo", 1)
        await one.publish("photo", b"x" * 1_400_000)
        assert len((await one.next())[1]) == 1_400_000


async def test_refuses_mqtt_5(clients: Clients) -> None:
    async with EmbeddedBroker() as broker:
        assert (
            await clients.make("five", protocol=MQTTProtocolVersion.MQTTv5).connect(broker.port)
            == "Unsupported protocol version"
        )


async def test_stop_closes_every_connection_and_a_new_start_is_empty(clients: Clients) -> None:
    broker = EmbeddedBroker()
    await broker.start()
    port = broker.port
    one = clients.make("one")
    await one.connect(port)
    await one.publish("state", b"kept", retain=True)
    # A connection that never sends CONNECT.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await broker.stop()
    assert await one.answer() == "disconnected"
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(EmbeddedBrokerError, match="not running"):
        _ = broker.port
    await broker.stop()

    async with broker:
        later = clients.make("later")
        await later.connect(broker.port)
        await later.subscribe("#", 1)
        await later.publish("state", b"new")
        assert await later.next() == ("state", b"new", 1, False)


async def test_a_port_in_use_is_an_error(clients: Clients) -> None:
    async with EmbeddedBroker() as broker:
        with pytest.raises(EmbeddedBrokerError, match=f"cannot listen on 127.0.0.1:{broker.port}"):
            await EmbeddedBroker(broker.port).start()


@pytest.mark.parametrize(
    "malformed",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(50),
        b"\xff" * 50,
        bytes.fromhex("100c00044d515454040200"),
        CONNECT + b"\x30\x05\x00\x03\xff\xff\xff",
        CONNECT + b"\x82\x05\x00\x01\x00\x00",
        CONNECT + b"\xf0\xff\xff\xff\xff\xff",
    ],
    ids=bytes.hex,
)
async def test_malformed_packets_disturb_no_other_client(
    malformed: bytes, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with EmbeddedBroker() as broker:
            one = clients.make("one")
            await one.connect(broker.port)
            await one.subscribe("topic", 1)
            _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(malformed)
            await writer.drain()
            writer.write_eof()
            writer.close()
            await one.publish("topic", b"still here")
            assert await one.next() == ("topic", b"still here", 1, False)
    assert caplog.records == []


async def test_clients_that_reset_during_connect_disturb_no_other_client(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with EmbeddedBroker() as broker:
            one = clients.make("one")
            await one.connect(broker.port)
            for number in range(50):
                # A CONNECT of MQTT 3.1.1, which is accepted, or of MQTT 5, which is refused; then a reset.
                with socket.create_connection(("127.0.0.1", broker.port)) as connection:
                    connection.sendall(CONNECT if number % 2 else CONNECT.replace(b"MQTT\4", b"MQTT\5"))
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await one.subscribe("topic", 1)
            await one.publish("topic", b"still here")
            assert await one.next() == ("topic", b"still here", 1, False)
    assert caplog.records == []


async def test_without_amqtt_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(EmbeddedBrokerMissingError, match="pip install amqtt"):
        await EmbeddedBroker().start()
