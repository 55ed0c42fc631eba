"""Retained topics on a real broker: their order when the bridge starts, stops and reconnects."""

import asyncio
from pathlib import Path
from typing import Literal

import orjson
import pytest

from tests.support.core import known_terminal
from tests.support.freezing_proxy import FreezingProxy
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_bridge import Bridge, running
from tests.support.mqtt_client import MqttClient, mqtt_client

Protocol = Literal["5", "3.1.1"]

AVAILABILITY = "facebridge/bridge/availability"
INFO = "facebridge/bridge/info"
BRIDGE_CONFIG = "homeassistant/device/facebridge/config"


def config(sn: str) -> str:
    return f"homeassistant/device/facebridge_{sn}/config"


async def online(client: MqttClient) -> None:
    await client.wait_for(AVAILABILITY, lambda message: message.payload == b"online")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_the_bridge_is_online_after_everything_else_is_published(
    mosquitto: Mosquitto, protocol: Protocol
) -> None:
    async with (
        mqtt_client(mosquitto.port, "#", protocol="5") as client,
        running(Bridge(mosquitto.port, protocol), known_terminal("T1"), known_terminal("T2")) as bridge,
    ):
        await online(client)
        topics = [topic for topic in client.topics() if topic != "facebridge/bridge/heartbeat"]
        assert topics[:3] == [BRIDGE_CONFIG, config("T1"), config("T2")]
        assert topics.index(AVAILABILITY) == len(topics) - 1
        assert set(topics[3:-1]) == {
            INFO,
            "facebridge/terminal/T1/availability",
            "facebridge/terminal/T1/state",
            "facebridge/terminal/T2/availability",
            "facebridge/terminal/T2/state",
        }
        assert "facebridge/bridge/heartbeat" in client.topics()[: client.topics().index(BRIDGE_CONFIG)], (
            "a heartbeat comes first"
        )
        for one in client.heard:
            assert (one.qos, one.retain) == (1, one.topic != "facebridge/bridge/heartbeat")
        await asyncio.wait_for(bridge.adapter.wait_online(), 10)
        assert (await client.wait_for("facebridge/terminal/T1/availability")).payload == b"offline"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_later_subscriber_gets_everything_retained(mosquitto: Mosquitto, protocol: Protocol) -> None:
    bridge = Bridge(mosquitto.port, protocol)
    async with running(bridge, known_terminal("T1", name="Gate")):
        async with mqtt_client(mosquitto.port, AVAILABILITY) as client:
            await online(client)
        bridge.connect("T1")
        bridge.count("T1", desired=2, confirmed=1, pending=1)
        async with mqtt_client(mosquitto.port, "#", protocol=protocol) as client:
            state = await client.wait_for(
                "facebridge/terminal/T1/state",
                lambda message: message.json["online"] and message.json["persons"]["pending"] == 1,
            )
            assert state.json.keys() == {
                "sn",
                "name",
                "online",
                "address",
                "connected_at",
                "last_seen",
                "persons",
                "last_reply",
            }
            await client.wait_for("facebridge/terminal/T1/availability", lambda message: message.payload == b"online")
            info = await client.wait_for(INFO, lambda message: message.json["terminals"]["online"] == 1)
            assert info.json["version"] == "1.2.3"
            assert info.json["protocol"] == protocol
            assert info.json["terminals"] == {"known": 1, "online": 1, "pending": 0}
            assert info.json["warnings"] == ["the broker is embedded"]
            await client.wait_for(BRIDGE_CONFIG, lambda message: message.retain)


async def test_a_clean_stop_publishes_offline_for_all_terminals_and_then_the_bridge(mosquitto: Mosquitto) -> None:
    async with mqtt_client(mosquitto.port, "facebridge/#") as client:
        async with running(Bridge(mosquitto.port, "5"), known_terminal("T1"), known_terminal("T2")) as bridge:
            await online(client)
            bridge.connect("T1")
            await client.wait_for("facebridge/terminal/T1/availability", lambda message: message.payload == b"online")
            client.heard.clear()
        await client.wait_for(AVAILABILITY, lambda message: message.payload == b"offline")
        published = [(one.topic, one.payload) for one in client.heard if one.topic.endswith("/availability")]
        assert published == [("facebridge/terminal/T1/availability", b"offline"), (AVAILABILITY, b"offline")]


async def test_everything_is_published_again_to_a_broker_that_lost_it(mosquitto: Mosquitto) -> None:
    async with running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge:
        async with mqtt_client(mosquitto.port, "#") as client:
            await online(client)
        bridge.connect("T1")
        await mosquitto.stop()
        bridge.count("T1", desired=5)
        await mosquitto.start()
        async with mqtt_client(mosquitto.port, "#") as client:
            await client.wait_for(AVAILABILITY, lambda message: message.payload == b"online", within=20)
            topics = client.topics()
            assert topics.index(BRIDGE_CONFIG) < topics.index(config("T1")) < topics.index(AVAILABILITY)
            assert (await client.wait_for("facebridge/terminal/T1/availability")).payload == b"online"
            await client.wait_for(
                "facebridge/terminal/T1/state", lambda message: message.json["persons"]["desired"] == 5
            )
            await client.publish("facebridge/terminal/T1/open/set", "PRESS")
            assert (await client.wait_for("facebridge/terminal/T1/reply")).json["outcome"] == "ok"
            await client.publish("facebridge/terminal/T1/person/set", {"id": "1"})
            await client.wait_for("facebridge/terminal/T1/reply", lambda message: message.json["outcome"] == "accepted")


async def test_events_of_an_outage_are_not_published_after_it(mosquitto: Mosquitto) -> None:
    async with running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge:
        async with mqtt_client(mosquitto.port, AVAILABILITY) as client:
            await online(client)
        await mosquitto.stop()
        bridge.admission.record_refusal("T6", "192.0.2.6", "wrong password")
        await mosquitto.start()
        async with mqtt_client(mosquitto.port, "facebridge/#") as client:
            await client.wait_for(AVAILABILITY, lambda message: message.payload == b"online", within=20)
            assert "facebridge/bridge/event" not in client.topics()


async def test_the_will_publishes_offline_when_the_connection_breaks(mosquitto: Mosquitto) -> None:
    async with (
        FreezingProxy(mosquitto.port).running() as proxy,
        mqtt_client(mosquitto.port, AVAILABILITY) as client,
        running(Bridge(proxy.port, "5")),
    ):
        await online(client)
        proxy.break_connections()
        will = await client.wait_for(AVAILABILITY, lambda message: message.payload == b"offline")
        assert (will.qos, will.retain) == (1, True)
        await client.wait_for_all(AVAILABILITY, 2, lambda message: message.payload == b"online")
        assert [one.payload for one in client.heard] == [b"online", b"offline", b"online"]


async def test_a_start_of_home_assistant_makes_discovery_published_again(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")),
    ):
        await online(client)
        client.heard.clear()
        await client.publish("homeassistant/status", "offline")
        await client.publish("homeassistant/status", "online")
        await client.wait_for(config("T1"))
        topics = [topic for topic in client.topics() if topic.endswith("/config")]
        assert topics == [BRIDGE_CONFIG, config("T1")]


async def test_discovery_follows_changes_and_ends_with_the_terminal(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "#") as client,
        running(Bridge(mosquitto.port, "5")),
    ):
        await online(client)
        admit = "facebridge/bridge/admit/set"
        await client.publish(admit, {"sn": "T5", "name": "Gate"})
        first = await client.wait_for(config("T5"))
        assert first.json["dev"]["name"] == "Gate"
        assert first.json["cmps"]["open"]["default_entity_id"] == "button.gate_open"
        await client.publish(admit, {"sn": "T5", "name": "Gate"})
        await client.publish(admit, {"sn": "T5", "area": "Yard"})
        changed = (await client.wait_for_all(config("T5"), 2))[1]
        assert changed.json["dev"]["suggested_area"] == "Yard"
        await client.publish("facebridge/bridge/forget/set", {"sn": "T5"})
        await client.wait_for("facebridge/terminal/T5/state", lambda message: message.payload == b"")
        topics = [one.topic for one in client.heard if one.payload == b""]
        assert topics[0] == config("T5"), "the entities are removed before the topics that they read"


async def test_without_discovery_nothing_is_published_to_home_assistant(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "#") as client,
        running(Bridge(mosquitto.port, "5", discovery=False), known_terminal("T1")),
    ):
        await online(client)
        await client.publish("homeassistant/status", "online")
        assert [topic for topic in client.topics() if topic.endswith("/config")] == []


async def test_the_availability_of_two_thousand_terminals_is_published_before_online(tmp_path: Path) -> None:
    terminals = [known_terminal(f"T{number}") for number in range(2_000)]
    # By default Mosquitto queues 1,000 messages for a client and drops more: a slow listener would miss some.
    async with (
        Mosquitto(tmp_path, ["max_queued_messages 0"]) as mosquitto,
        mqtt_client(mosquitto.port, AVAILABILITY, "facebridge/terminal/+/availability") as client,
        running(Bridge(mosquitto.port, "5"), *terminals) as bridge,
    ):
        await client.wait_for(AVAILABILITY, lambda message: message.payload == b"online", within=30)
        assert len([topic for topic in client.topics() if topic.startswith("facebridge/terminal/")]) == 2_000
        assert bridge.adapter.statistics().retained_unsent == 0


ACCESS_RULES = {
    "defaultACLAccess": {"publishClientSend": True, "publishClientReceive": True, "subscribe": True},
    "clients": [],
    "groups": [{"groupname": "everyone", "roles": [{"rolename": "no persons"}]}],
    "roles": [
        {
            "rolename": "no persons",
            "acls": [{"acltype": "subscribePattern", "topic": "facebridge/+/+/person/+", "allow": False}],
        }
    ],
    "anonymousGroup": "everyone",
}


async def test_presses_work_when_the_broker_refuses_the_intake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
    rules = tmp_path / "rules.json"
    rules.write_bytes(orjson.dumps(ACCESS_RULES))
    options = [f"plugin {plugin}", f"plugin_opt_config_file {rules}"]
    async with (
        Mosquitto(tmp_path, options) as mosquitto,
        mqtt_client(mosquitto.port, AVAILABILITY, INFO, "facebridge/terminal/T1/reply") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await client.wait_for(AVAILABILITY, lambda message: message.payload == b"online")
        assert "the broker refuses the subscription to facebridge/terminal/+/person/set" in caplog.text
        info = await client.wait_for(INFO)
        assert any("intake" in warning for warning in info.json["warnings"])
        bridge.connect("T1")
        await client.publish("facebridge/terminal/T1/open/set", "PRESS")
        assert (await client.wait_for("facebridge/terminal/T1/reply")).json["outcome"] == "ok"


async def test_a_stop_without_a_broker_is_quick(mosquitto: Mosquitto) -> None:
    async with running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge:
        async with mqtt_client(mosquitto.port, AVAILABILITY) as client:
            await online(client)
        await mosquitto.stop()
        began = bridge.clock.boottime()
    assert bridge.clock.boottime() - began < 3


async def test_a_stop_with_a_frozen_broker_ends_in_time(mosquitto: Mosquitto) -> None:
    async with running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge:
        async with mqtt_client(mosquitto.port, AVAILABILITY) as client:
            await online(client)
        bridge.connect("T1")
        mosquitto.freeze()
        began = bridge.clock.boottime()
    assert bridge.clock.boottime() - began < 4.5
    mosquitto.thaw()
