"""Final replies over a real broker: each is published, in order, also after the broker's outages."""

import sqlite3
from contextlib import closing
from typing import Literal

import pytest

from bridge.model.origin import Origin
from bridge.model.person_entry import FinalReply
from bridge.model.reply import Outcome, Reply
from tests.support.core import ManualClock, known_terminal
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_bridge import Bridge, running
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.waiting import until

AVAILABILITY = "facebridge/bridge/availability"
REPLY = "facebridge/terminal/T1/reply"


async def online(client: MqttClient) -> None:
    await client.wait_for(AVAILABILITY, lambda message: message.payload == b"online")


def final_reply(number: int, response_topic: str | None = None) -> FinalReply:
    reply = Reply(
        command="setPerson",
        outcome=Outcome.OK,
        at=ManualClock().now(),
        sn="T1",
        person_id="1",
        request_id=str(number),
    )
    origin = Origin(source="test", response_topic=response_topic, correlation_data=b"mark" if response_topic else None)
    return FinalReply(reply=reply, origin=origin)


async def settle(bridge: Bridge, *final_replies: FinalReply) -> None:
    await bridge.store_final_replies(*final_replies)
    await bridge.outbox.load()


def is_outbox_empty(bridge: Bridge) -> bool:
    with closing(sqlite3.connect(bridge.store_file)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    return not rows


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_final_replies_are_published_in_order_and_deleted(
    mosquitto: Mosquitto, protocol: Literal["5", "3.1.1"]
) -> None:
    final_replies = [final_reply(number, "answers/1" if number == 7 else None) for number in range(120)]
    bridge = Bridge(mosquitto.port, protocol)
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", "answers/#") as client,
        running(bridge, known_terminal("T1"), final_replies=final_replies),
    ):
        replies = await client.wait_for_all(REPLY, 120)
        assert [one.json["request_id"] for one in replies] == [str(number) for number in range(120)]
        assert {(one.qos, one.retain) for one in replies} == {(1, False)}
        answer = await client.wait_for("answers/1")
        assert answer.json["request_id"] == "7"
        assert answer.correlation_data == (b"mark" if protocol == "5" else None)
        await until(lambda: is_outbox_empty(bridge))


async def test_a_stored_response_topic_is_checked_again(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        await settle(bridge, final_reply(1, "facebridge/terminal/T1/open/set"))
        await until(lambda: is_outbox_empty(bridge))
        await client.wait_for(REPLY)
        assert "facebridge/terminal/T1/open/set" not in client.topics()


async def test_a_final_reply_during_an_outage_is_published_after_it(mosquitto: Mosquitto) -> None:
    async with running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge:
        async with mqtt_client(mosquitto.port, AVAILABILITY) as client:
            await online(client)
        await mosquitto.stop()
        await settle(bridge, final_reply(1), final_reply(2))
        await mosquitto.start()
        async with mqtt_client(mosquitto.port, REPLY) as client:
            replies = await client.wait_for_all(REPLY, 2, within=20)
            assert [one.json["request_id"] for one in replies] == ["1", "2"]
        await until(lambda: is_outbox_empty(bridge))


async def test_a_final_reply_that_cannot_be_deleted_is_published_once(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        mqtt_client(mosquitto.port, AVAILABILITY, REPLY) as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        await bridge.store_final_replies(final_reply(1))
        with closing(sqlite3.connect(bridge.store_file, isolation_level=None)) as other_program:
            other_program.execute("BEGIN IMMEDIATE")
            await bridge.outbox.load()
            await until(lambda: caplog.text.count("the outbox cannot be read or emptied now") == 2)
            other_program.execute("ROLLBACK")
        await settle(bridge, final_reply(2))
        # As after a reconnection.
        bridge.outbox.rewind()
        await client.wait_for(REPLY, lambda message: message.json["request_id"] == "2")
        await until(lambda: is_outbox_empty(bridge))
        # A second copy of the first would be under way by now; the broker delivers in order.
        await settle(bridge, final_reply(3))
        await client.wait_for(REPLY, lambda message: message.json["request_id"] == "3")
        assert [one.json["request_id"] for one in client.heard if one.topic == REPLY] == ["1", "2", "3"]
