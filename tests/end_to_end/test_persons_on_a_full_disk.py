"""Promise 2 on a store that cannot take anything: told aloud, kept by the broker, taken by itself once that is over.

And promise 1 beside it: doors open all the while.
"""

import asyncio
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from bridge.simulator.behaviour import Behaviour
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.mortal_bridge import MortalBridge, steady_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import Heard, MqttClient, mqtt_client
from tests.support.person_stream import PHOTOS
from tests.support.small_disk import SmallDisk

TOPIC = "facebridge/terminal/T1"
REPLY = f"{TOPIC}/reply"
NUMBER = 12
"""Changes while the disk is full: fewer than the broker sends ahead of their acknowledgements (20)."""

RECOVERY = 30.0
"""Seconds: the bridge looks at most every ten whether the store takes something again."""

PHOTO = b64encode(PHOTOS[0]).decode()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk").mounted() as disk:
        yield disk


class Scene:
    """A bridge whose store is on a disk of its own, the broker, somebody who asks for changes, and a terminal."""

    def __init__(self, bridge: MortalBridge, client: MqttClient, terminal: SimulatedTerminal, store: Path) -> None:
        self.bridge = bridge
        self.client = client
        self.terminal = terminal
        self.store = store

    async def set(self, person_id: str, **fields: Any) -> None:
        person = {"id": person_id, "name": f"Name of {person_id}", "photo": PHOTO, **fields}
        await self.client.publish(f"{TOPIC}/person/set", {"persons": [person], "request_id": f"set {person_id}"})

    async def open(self, request_id: str) -> Heard:
        await self.client.publish(f"{TOPIC}/open/set", {"request_id": request_id})
        return await self.client.wait_for(REPLY, lambda one: one.json["request_id"] == request_id)

    async def listed(self, request_id: str) -> dict[str, str]:
        await self.client.publish(f"{TOPIC}/person/get", {"request_id": request_id})
        reply = await self.client.wait_for(
            REPLY, lambda one: one.json["request_id"] == request_id and one.json["outcome"] == "ok", within=RECOVERY
        )
        return {person["id"]: person["delivery"] for person in reply.json["persons"]}

    async def told(self, person_id: str, outcome: str) -> Heard:
        return await self.client.wait_for(
            REPLY,
            lambda one: (one.json["request_id"], one.json["outcome"]) == (f"set {person_id}", outcome),
            within=RECOVERY,
        )

    def outcomes(self, person_id: str) -> list[str]:
        return [
            one.json["outcome"]
            for one in self.client.heard
            if one.topic == REPLY and one.json["request_id"] == f"set {person_id}"
        ]


@asynccontextmanager
async def scene(folder: Path, store: Path) -> AsyncIterator[Scene]:
    """Set it, with p0 on the terminal."""
    (folder / "broker").mkdir()
    async with Mosquitto(folder / "broker", persistent=True) as broker:
        settings = steady_configuration(broker.port, ["T1"], store_url=f"sqlite:///{store}")
        bridge = MortalBridge(folder, settings)
        async with bridge.running(), mqtt_client(broker.port, "facebridge/#") as client:
            terminal = SimulatedTerminal(bridge.terminal_url, "T1", first_retry=0.05, last_retry=0.3)
            async with terminal.running():
                one = Scene(bridge, client, terminal, store)
                await client.wait_for(f"{TOPIC}/availability", lambda one: one.payload == b"online")
                await client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")
                await one.set("p0")
                await one.told("p0", "ok")
                yield one
        assert "Traceback" not in bridge.said


async def refused_aloud(scene: Scene, why: str) -> None:
    """Ask for changes that cannot be taken, and see that nobody is led to believe they were."""
    for number in range(1, NUMBER + 1):
        await scene.set(f"p{number}")
    for number in range(1, NUMBER + 1):
        reply = await scene.told(f"p{number}", "unavailable")
        assert why in reply.json["message"]
        assert reply.json["delivered"] is False
    assert (await scene.open("door")).json["outcome"] == "ok"
    assert await _held_by_store(scene.store) == {"p0"}, "nothing is half done"
    assert set(scene.terminal.persons) == {"p0"}
    assert not any("accepted" in scene.outcomes(f"p{number}") for number in range(1, NUMBER + 1))


async def _held_by_store(store: Path) -> set[str]:
    """Look into the store from outside, without a trace."""

    def read() -> set[str]:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return {row[0] for row in connection.execute("SELECT person_id FROM person_entry")}

    return await asyncio.to_thread(read)


async def taken_by_itself(scene: Scene) -> None:
    """See that the same changes arrive without being asked for again."""
    for number in range(1, NUMBER + 1):
        await scene.told(f"p{number}", "accepted")
        await scene.told(f"p{number}", "ok")
    everybody = {f"p{number}" for number in range(NUMBER + 1)}
    assert set(scene.terminal.persons) == everybody
    assert await scene.listed("in the end") == dict.fromkeys(everybody, "confirmed")
    assert (await scene.open("door afterwards")).json["outcome"] == "ok"
    assert scene.terminal.opened == 2


async def test_a_full_disk(tmp_path: Path, disk: SmallDisk) -> None:
    async with scene(tmp_path, disk.folder / "store.db") as one:
        disk.fill()
        await refused_aloud(one, "the store is full")
        disk.make_room()
        await taken_by_itself(one)


async def test_a_bridge_killed_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    async with scene(tmp_path, disk.folder / "store.db") as one:
        disk.fill()
        await refused_aloud(one, "the store is full")
        await one.bridge.kill()
        disk.make_room()
        await one.bridge.start()
        await taken_by_itself(one)


async def test_a_bridge_started_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    async with scene(tmp_path, disk.folder / "store.db") as one:
        disk.fill()
        await refused_aloud(one, "the store is full")
        await one.bridge.kill()
        one.client.heard.clear()
        await one.bridge.start()
        await one.told("p1", "unavailable")
        disk.make_room()
        await taken_by_itself(one)


async def test_a_limit_to_the_size_of_files(tmp_path: Path) -> None:
    async with scene(tmp_path, tmp_path / "store.db") as one:
        one.bridge.limit_files(1)
        await refused_aloud(one, "cannot be read or written")
        one.bridge.limit_files(None)
        await taken_by_itself(one)


async def test_another_program_that_holds_the_store_locked(tmp_path: Path) -> None:
    """Longer than the five seconds that the bridge waits for a lock."""
    async with scene(tmp_path, tmp_path / "store.db") as one:
        with closing(sqlite3.connect(one.store, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await refused_aloud(one, "locked by another program")
            other.execute("ROLLBACK")
        await taken_by_itself(one)


async def test_a_disk_that_may_not_be_written_to(tmp_path: Path, disk: SmallDisk) -> None:
    async with scene(tmp_path, disk.folder / "store.db") as one:
        await one.bridge.kill()
        disk.set_read_only(True)
        await one.set("p1")
        assert "Read-only file system" in await one.bridge.start_in_vain()
        disk.set_read_only(False)
        await one.bridge.start()
        await one.told("p1", "ok")
        assert await one.listed("in the end") == {"p0": "confirmed", "p1": "confirmed"}


async def test_answers_of_a_terminal_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    """They wait for room as well: nothing is sent twice, and the last word comes once it is stored."""
    async with scene(tmp_path, disk.folder / "store.db") as one:
        one.terminal.behaviour = Behaviour(answer_delay=1)
        await one.set("p1")
        await one.terminal.wait_request("setPerson", 2)
        disk.fill()
        await one.bridge.wait_log("answers of terminals cannot be stored")
        assert "ok" not in one.outcomes("p1")
        disk.make_room()
        await one.told("p1", "ok")
        assert [request.ids for request in one.terminal.requests] == [("p0",), ("p1",)]
