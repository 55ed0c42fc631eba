"""Last words over a real broker: each is told, in order, over the broker's outages too."""

from typing import Literal

import pytest

from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import Reply
from tests.support.core import known_terminal
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_bridge import Bridge, running
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.waiting import until

AVAILABILITY = "facebridge/bridge/availability"
REPLY = "facebridge/terminal/T1/reply"


async def online(client: MqttClient) -> None:
    await client.wait_for(AVAILABILITY, lambda heard: heard.payload == b"online")


def settle(bridge: Bridge, number: int, response_topic: str | None = None) -> None:
    reply = Reply(
        command="setPerson",
        outcome=Outcome.OK,
        at=bridge.clock.now(),
        sn="T1",
        person_id="1",
        request_id=str(number),
    )
    origin = Origin(source="test", response_topic=response_topic, correlation_data=b"mark" if response_topic else None)
    bridge.outbox.add(reply, origin)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_last_words_are_told_in_order_and_dropped(mosquitto: Mosquitto, protocol: Literal["5", "3.1.1"]) -> None:
    bridge = Bridge(mosquitto.port, protocol)
    for number in range(120):
        settle(bridge, number, "answers/1" if number == 7 else None)
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", "answers/#") as client,
        running(bridge, known_terminal("T1")),
    ):
        told = await client.wait_for_all(REPLY, 120)
        assert [one.json["request_id"] for one in told] == [str(number) for number in range(120)]
        assert {(one.qos, one.retain) for one in told} == {(1, False)}
        answer = await client.wait_for("answers/1")
        assert answer.json["request_id"] == "7"
        assert answer.correlation_data == (b"mark" if protocol == "5" else None)
        await bridge.outbox.emptied.wait()


async def test_a_response_topic_is_looked_at_again(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        settle(bridge, 1, "facebridge/terminal/T1/open/set")
        await bridge.outbox.emptied.wait()
        await client.wait_for(REPLY)
        assert "facebridge/terminal/T1/open/set" not in client.topics()


async def test_a_last_word_during_an_outage_is_told_once_the_broker_is_back(mosquitto: Mosquitto) -> None:
    async with running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge:
        async with mqtt_client(mosquitto.port, AVAILABILITY) as client:
            await online(client)
        await mosquitto.stop()
        settle(bridge, 1)
        settle(bridge, 2)
        await mosquitto.start()
        async with mqtt_client(mosquitto.port, REPLY) as client:
            told = await client.wait_for_all(REPLY, 2, within=20)
            assert [one.json["request_id"] for one in told] == ["1", "2"]
        await bridge.outbox.emptied.wait()


async def test_what_a_full_store_cannot_drop_is_told_once(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, AVAILABILITY, REPLY) as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.outbox.full = True
        settle(bridge, 1)
        await until(lambda: bridge.outbox.attempts == 2)
        settle(bridge, 2)
        # As a connection does that broke and came back.
        bridge.outbox.rewind()
        bridge.outbox.full = False
        await client.wait_for(REPLY, lambda heard: heard.json["request_id"] == "2")
        await bridge.outbox.emptied.wait()
        assert [one.json["request_id"] for one in client.heard if one.topic == REPLY] == ["1", "2"]
