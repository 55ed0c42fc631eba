"""A bridge process with a broker, one terminal, and an MQTT client that sends commands and records the replies."""

import asyncio
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.killable_bridge import KillableBridge, fixed_port_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import Heard, MqttClient
from tests.support.one_way_link import OneWayLink
from tests.support.person_stream import PHOTOS

TOPIC = "facebridge/terminal/T1"
REPLY = f"{TOPIC}/reply"
PHOTO = b64encode(PHOTOS[0]).decode()


class BridgeSystem:
    """The running parts; the terminal is disconnected until `terminal_connected`."""

    def __init__(self, bridge: KillableBridge, broker: Mosquitto, client: MqttClient) -> None:
        self.bridge = bridge
        self.broker = broker
        self.client = client
        self.terminal = SimulatedTerminal(
            bridge.terminal_url, "T1", options=ConnectionOptions(first_retry_seconds=0.05, max_retry_seconds=0.3)
        )

    @asynccontextmanager
    async def terminal_connected(self) -> AsyncIterator[SimulatedTerminal]:
        """Connect the terminal."""
        self.client.heard.clear()
        async with self.terminal.running():
            await self.client.wait_for(f"{TOPIC}/availability", lambda one: one.payload == b"online")
            yield self.terminal

    async def set_person(self, person_id: str, request_id: str | None = None, **fields: Any) -> None:
        """Publish a person change: these fields, or a complete person without any."""
        person = {"id": person_id, **(fields or {"name": f"Name of {person_id}", "photo": PHOTO})}
        payload = {"persons": [person], "request_id": request_id or f"set {person_id}"}
        await self.client.publish(f"{TOPIC}/person/set", payload, response_topic="mine", correlation_data=b"\x007")

    async def remove_person(self, person_id: str, request_id: str) -> None:
        """Publish the removal of a person."""
        await self.client.publish(f"{TOPIC}/person/remove", {"id": person_id, "request_id": request_id})

    async def remove_everyone(self, request_id: str) -> None:
        """Publish the removal of all persons."""
        payload = {"all": True, "confirm": "T1", "request_id": request_id}
        await self.client.publish(f"{TOPIC}/person/remove", payload)

    async def send_command(self, command: str, request_id: str, **payload: Any) -> Heard:
        """Publish a command and return its first reply."""
        await self.client.publish(f"{TOPIC}/{command}", {**payload, "request_id": request_id})
        return await self.client.wait_for(REPLY, lambda one: one.json["request_id"] == request_id)

    async def wait_reply(self, request_id: str, outcome: str, *, topic: str = REPLY, within: float = 30) -> Heard:
        """Return the reply with this request id and outcome; wait `within` seconds for it at most."""
        return await self.client.wait_for(
            topic,
            lambda one: (one.json["request_id"], one.json["outcome"]) == (request_id, outcome),
            within=within,
        )

    def outcomes(self, request_id: str) -> list[str]:
        """Return the outcomes of all replies to a command so far."""
        replies = [one.json for one in self.client.heard if one.topic == REPLY]
        return [reply["outcome"] for reply in replies if reply["request_id"] == request_id]

    async def list_persons(self, request_id: str) -> dict[str, dict[str, Any]]:
        """Return the persons of the terminal as the bridge lists them, by id."""
        reply = await self.send_command("person/get", request_id)
        return {person["id"]: person for person in reply.json["persons"]}

    async def wait_counts(self, **counts: int) -> None:
        """Wait until the terminal's state has these counts of persons."""
        await self.client.wait_for(f"{TOPIC}/state", lambda one: one.json["persons"] == counts)

    async def wait_online(self) -> None:
        """Wait until the bridge publishes that it is online."""
        await self.client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")

    async def stop_broker(self) -> None:
        """Stop the broker in the regular way, so that it saves its sessions."""
        await self.client.disconnect()
        await self.broker.stop()

    async def start_broker(self) -> None:
        """Start the broker again and subscribe as before."""
        await self.broker.start()
        self.client = await _subscribed_client(self.broker.port)

    async def restart_bridge(self) -> None:
        """Kill the bridge, start it again, and wait until it is online."""
        await self.bridge.kill()
        self.client.heard.clear()
        await self.bridge.start()
        await self.wait_online()


@asynccontextmanager
async def bridge_system(
    folder: Path,
    *,
    store: Path | None = None,
    link: OneWayLink | None = None,
    module: str = "bridge",
    protocol: str = "5",
) -> AsyncIterator[BridgeSystem]:
    """Start the system; at the end its log must not hold a traceback.

    Args:
        folder: for the files of the bridge and its broker.
        store: the store's file; None for one in the folder.
        link: a proxy between the bridge and the broker, if any.
        module: the module that runs the bridge.
        protocol: the MQTT version of the bridge.
    """
    (folder / "broker").mkdir()
    async with Mosquitto(folder / "broker", persistent=True) as broker:
        store_url = f"sqlite:///{store or folder / 'store.db'}"
        port = broker.port
        if link is not None:
            link.target_port, port = broker.port, link.port
        settings = fixed_port_configuration(port, ["T1"], store_url=store_url)
        settings["mqtt"]["protocol"] = protocol
        # The default: a loaded machine can keep it.
        settings["commands"]["deadline"] = 5
        bridge = KillableBridge(folder, settings, module=module)
        async with bridge.running():
            system = BridgeSystem(bridge, broker, await _subscribed_client(broker.port))
            try:
                await system.wait_online()
                yield system
            finally:
                await system.client.disconnect()
        assert "Traceback" not in bridge.full_log


async def _subscribed_client(port: int) -> MqttClient:
    client = MqttClient(port)
    await client.connect()
    await client.subscribe("facebridge/#", "mine")
    return client


async def query(store: Path, statement: str) -> list[tuple[object, ...]]:
    """Return the rows of a query; the store is opened read-only, so that the query leaves no trace."""

    def read() -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()

    return await asyncio.to_thread(read)
