"""A bridge with one terminal, and somebody who asks for persons and hears what becomes of them."""

import asyncio
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

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
    """What the tests look at; the terminal is away until it is let in."""

    def __init__(self, bridge: KillableBridge, broker: Mosquitto, client: MqttClient) -> None:
        self.bridge = bridge
        self.broker = broker
        self.client = client
        self.terminal = SimulatedTerminal(bridge.terminal_url, "T1", first_retry=0.05, last_retry=0.3)

    @asynccontextmanager
    async def terminal_connected(self) -> AsyncIterator[SimulatedTerminal]:
        """Let the terminal in."""
        self.client.heard.clear()
        async with self.terminal.running():
            await self.client.wait_for(f"{TOPIC}/availability", lambda one: one.payload == b"online")
            yield self.terminal

    async def set(self, person_id: str, request_id: str | None = None, **fields: Any) -> None:
        """Ask for a person, all of it unless only fields are given."""
        person = {"id": person_id, **(fields or {"name": f"Name of {person_id}", "photo": PHOTO})}
        payload = {"persons": [person], "request_id": request_id or f"set {person_id}"}
        await self.client.publish(f"{TOPIC}/person/set", payload, response_topic="mine", correlation_data=b"\x007")

    async def remove(self, person_id: str, request_id: str) -> None:
        """Ask for a removal."""
        await self.client.publish(f"{TOPIC}/person/remove", {"id": person_id, "request_id": request_id})

    async def remove_everyone(self, request_id: str) -> None:
        """Ask for the removal of everyone."""
        payload = {"all": True, "confirm": "T1", "request_id": request_id}
        await self.client.publish(f"{TOPIC}/person/remove", payload)

    async def ask(self, command: str, request_id: str, **payload: Any) -> Heard:
        """Ask for something else and return the first reply."""
        await self.client.publish(f"{TOPIC}/{command}", {**payload, "request_id": request_id})
        return await self.client.wait_for(REPLY, lambda one: one.json["request_id"] == request_id)

    async def told(self, request_id: str, outcome: str, *, topic: str = REPLY, within: float = 30) -> Heard:
        """Wait for a reply."""
        return await self.client.wait_for(
            topic,
            lambda one: (one.json["request_id"], one.json["outcome"]) == (request_id, outcome),
            within=within,
        )

    def outcomes(self, request_id: str) -> list[str]:
        """Return what was told of a command so far."""
        replies = [one.json for one in self.client.heard if one.topic == REPLY]
        return [reply["outcome"] for reply in replies if reply["request_id"] == request_id]

    async def listed(self, request_id: str) -> dict[str, dict[str, Any]]:
        """Return what the bridge says of each person."""
        reply = await self.ask("person/get", request_id)
        return {person["id"]: person for person in reply.json["persons"]}

    async def counted(self, **counts: int) -> None:
        """Wait until the terminal's state counts its persons so."""
        await self.client.wait_for(f"{TOPIC}/state", lambda one: one.json["persons"] == counts)

    async def online(self) -> None:
        """Wait until the bridge says that it is there."""
        await self.client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")

    async def stop_broker(self) -> None:
        """End it in order."""
        await self.client.disconnect()
        await self.broker.stop()

    async def start_broker(self) -> None:
        """Start it again, and listen as before."""
        await self.broker.start()
        self.client = await _listening(self.broker.port)

    async def restart_bridge(self) -> None:
        """Kill it, start it again, and wait until it is there."""
        await self.bridge.kill()
        self.client.heard.clear()
        await self.bridge.start()
        await self.online()


@asynccontextmanager
async def bridge_system(
    folder: Path, *, store: Path | None = None, link: OneWayLink | None = None
) -> AsyncIterator[BridgeSystem]:
    """Set the system.

    Args:
        folder: of the bridge and its broker.
        store: the store's file; None for one in the folder.
        link: between the bridge and the broker, if any.
    """
    (folder / "broker").mkdir()
    async with Mosquitto(folder / "broker", persistent=True) as broker:
        store_url = f"sqlite:///{store or folder / 'store.db'}"
        port = broker.port
        if link is not None:
            link.target_port, port = broker.port, link.port
        bridge = KillableBridge(folder, fixed_port_configuration(port, ["T1"], store_url=store_url))
        async with bridge.running():
            system = BridgeSystem(bridge, broker, await _listening(broker.port))
            try:
                await system.wait_online()
                yield system
            finally:
                await system.client.disconnect()
        assert "Traceback" not in bridge.full_log


async def _listening(port: int) -> MqttClient:
    client = MqttClient(port)
    await client.connect()
    await client.subscribe("facebridge/#", "mine")
    return client


async def query(store: Path, query: str) -> list[tuple[object, ...]]:
    """Look into a store from outside, without a trace."""

    def read() -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    return await asyncio.to_thread(read)
