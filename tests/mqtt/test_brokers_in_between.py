"""Two Mosquittos with a bridge between them: what `asked_at` holds that the lease cannot see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from bridge.core.clock import Clock
from tests.support.core import RecordingConnection, known_terminal
from tests.support.freezing_proxy import FreezingProxy
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_bridge import Bridge, running
from tests.support.mqtt_client import MqttClient, mqtt_client

Protocol = Literal["5", "3.1.1"]

DEADLINE = 2.0
OPEN = "facebridge/terminal/T1/open/set"
REPLY = "facebridge/terminal/T1/reply"


@dataclass(frozen=True)
class Brokers:
    """The publisher is at the far broker, Facebridge at the near one.

    Attributes:
        far: its broker.
        publisher: a client of it.
        client: a client of the near broker.
        link: the connection from the near broker to the far one.
        bridge: Facebridge.
        connection: of its terminal.
    """

    far: Mosquitto
    publisher: MqttClient
    client: MqttClient
    link: FreezingProxy
    bridge: Bridge
    connection: RecordingConnection

    def outcomes(self) -> list[str]:
        """Return the outcomes that were published so far."""
        return [one.json["outcome"] for one in self.client.heard if one.topic == REPLY]


@asynccontextmanager
async def brokers(folder: Path, protocol: Protocol) -> AsyncIterator[Brokers]:
    for name in ("near", "far"):
        (folder / name).mkdir()
    async with Mosquitto(folder / "far") as far, FreezingProxy(far.port).running() as link:
        version = "mqttv50" if protocol == "5" else "mqttv311"
        options = (
            *("connection far", f"address 127.0.0.1:{link.port}", "topic facebridge/# both 1"),
            *(f"bridge_protocol_version {version}", "restart_timeout 1", "notifications false"),
        )
        async with (
            Mosquitto(folder / "near", options) as near,
            mqtt_client(near.port, "facebridge/#") as client,
            mqtt_client(far.port, "facebridge/#") as publisher,
            running(Bridge(near.port, protocol, deadline=DEADLINE), known_terminal("T1")) as bridge,
        ):
            await client.wait_for("facebridge/bridge/availability", lambda message: message.payload == b"online")
            await publisher.wait_for("facebridge/bridge/availability", lambda message: message.payload == b"online")
            yield Brokers(far, publisher, client, link, bridge, bridge.connect("T1"))


def asked_now() -> dict[str, object]:
    return {"asked_at": Clock().now().timestamp()}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_press_that_waits_between_two_brokers_expires(tmp_path: Path, protocol: Protocol) -> None:
    async with brokers(tmp_path, protocol) as system:
        await system.publisher.publish(OPEN, asked_now())
        assert (await system.client.wait_for(REPLY)).json["outcome"] == "ok"
        system.link.freeze()
        await system.publisher.publish(OPEN, asked_now())
        await asyncio.sleep(DEADLINE + 1)
        system.link.thaw()
        await system.client.wait_for_all(REPLY, 2)
        assert system.outcomes() == ["ok", "expired"]
        assert system.connection.commands == ["OpenRequest"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_press_that_is_retained_at_a_far_broker_is_not_carried_out_again_at_reconnects(
    tmp_path: Path, protocol: Protocol
) -> None:
    async with brokers(tmp_path, protocol) as system:
        await system.publisher.publish(OPEN, asked_now(), retain=True)
        first = await system.client.wait_for(REPLY)
        opened = len(system.connection.commands)
        await asyncio.sleep(DEADLINE)
        for number in (2, 3):
            system.link.break_connections()
            await system.client.wait_for_all(REPLY, number)
        assert len(system.connection.commands) == opened
        replies = [one for one in system.client.heard if one.topic == REPLY]
        assert all(one.payload == first.payload or one.json["outcome"] == "invalid" for one in replies)


async def test_over_mqtt_5_a_press_that_is_retained_at_a_far_broker_is_invalid_without_asked_at(tmp_path: Path) -> None:
    async with brokers(tmp_path, "5") as system:
        await system.publisher.publish(OPEN, "PRESS", retain=True)
        await system.client.wait_for(REPLY)
        for number in (2, 3):
            system.link.break_connections()
            await system.client.wait_for_all(REPLY, number)
        assert set(system.outcomes()) == {"invalid"}
        assert system.connection.commands == []
