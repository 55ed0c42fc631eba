"""Promise 2 with a store that cannot be written: the bridge reports it, and stores the changes later without help.

The broker keeps the changes meanwhile, and doors open all the time (promise 1).
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest

from bridge.simulator.behaviour import Behaviour
from tests.support.bridge_system import BridgeSystem, bridge_system, query
from tests.support.small_disk import SmallDisk

CHANGES = 12
"""Changes while the store cannot be written; the broker sends up to 20 before it waits for an acknowledgement."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk").mounted() as disk:
        yield disk


@asynccontextmanager
async def system_with_p0(folder: Path, store: Path, module: str = "bridge") -> AsyncIterator[BridgeSystem]:
    """Start a system whose terminal is connected and holds the person p0."""
    async with bridge_system(folder, store=store, module=module) as system, system.terminal_connected():
        await system.set_person("p0")
        await system.wait_reply("set p0", "ok")
        yield system


async def publish_changes_that_cannot_be_stored(system: BridgeSystem, store: Path, reason: str) -> None:
    """Publish changes, and check that each is answered `unavailable`, that none is stored, and that a door opens."""
    for number in range(1, CHANGES + 1):
        await system.set_person(f"p{number}")
    for number in range(1, CHANGES + 1):
        reply = await system.wait_reply(f"set p{number}", "unavailable")
        assert reason in reply.json["message"]
        assert reply.json["delivered"] is False
    assert (await system.send_command("open/set", "door")).json["outcome"] == "ok"
    assert await query(store, "SELECT person_id FROM person_entry") == [("p0",)], "no change is stored in part"
    assert set(system.terminal.persons) == {"p0"}
    assert [system.outcomes(f"set p{number}") for number in range(1, CHANGES + 1)] == [["unavailable"]] * CHANGES


async def ready(system: BridgeSystem) -> tuple[int, str]:
    """Return the status of `/readyz` and what it says of the store."""
    async with aiohttp.ClientSession() as session, session.get(f"{system.bridge.web_url}/readyz") as response:
        return response.status, (await response.json())["checks"]["store"]


async def wait_until_all_are_stored(system: BridgeSystem) -> None:
    """Check that the same changes reach the terminal although no client publishes them again."""
    for number in range(1, CHANGES + 1):
        await system.wait_reply(f"set p{number}", "accepted")
        await system.wait_reply(f"set p{number}", "ok")
    everyone = {f"p{number}" for number in range(CHANGES + 1)}
    assert set(system.terminal.persons) == everyone
    listed = await system.list_persons("at the end")
    assert {person_id: one["delivery"] for person_id, one in listed.items()} == dict.fromkeys(everyone, "confirmed")
    assert (await system.send_command("open/set", "door afterwards")).json["outcome"] == "ok"
    assert system.terminal.opened == 2


async def test_full_disk(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with system_with_p0(tmp_path, store) as system:
        disk.fill()
        await publish_changes_that_cannot_be_stored(system, store, "the store is full")
        assert await ready(system) == (503, "does not answer or cannot be written to")
        assert system.bridge.log.count("changes cannot be stored now: the store is full") == 1
        disk.free_space()
        await wait_until_all_are_stored(system)
        assert await ready(system) == (200, "ok")
        assert "the store can be written to again" in system.bridge.log


async def test_bridge_killed_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with system_with_p0(tmp_path, store) as system:
        disk.fill()
        await publish_changes_that_cannot_be_stored(system, store, "the store is full")
        await system.bridge.kill()
        disk.free_space()
        await system.bridge.start()
        await wait_until_all_are_stored(system)


async def test_bridge_started_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with system_with_p0(tmp_path, store) as system:
        disk.fill()
        await publish_changes_that_cannot_be_stored(system, store, "the store is full")
        await system.bridge.kill()
        system.client.heard.clear()
        await system.bridge.start()
        await system.wait_reply("set p1", "unavailable")
        disk.free_space()
        await wait_until_all_are_stored(system)


async def test_limit_on_the_size_of_files(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with system_with_p0(tmp_path, store) as system:
        system.bridge.limit_file_size(1)
        await publish_changes_that_cannot_be_stored(system, store, "cannot be read or written")
        system.bridge.limit_file_size(None)
        await wait_until_all_are_stored(system)


async def test_another_program_locks_the_store_longer_than_the_bridge_waits(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with system_with_p0(tmp_path, store, "tests.support.bridge_with_short_lock_timeout") as system:
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await publish_changes_that_cannot_be_stored(system, store, "locked by another program")
            other.execute("ROLLBACK")
        await wait_until_all_are_stored(system)


async def test_read_only_disk(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with system_with_p0(tmp_path, store) as system:
        await system.bridge.kill()
        disk.set_read_only(True)
        await system.set_person("p1")
        assert "Read-only file system" in await system.bridge.start_and_fail()
        disk.set_read_only(False)
        await system.bridge.start()
        await system.wait_reply("set p1", "ok")
        assert set(await system.list_persons("at the end")) == {"p0", "p1"}


async def test_answer_of_a_terminal_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    """The bridge stores the answer later: it sends nothing twice, and publishes `ok` only once it is stored."""
    store = disk.folder / "store.db"
    async with system_with_p0(tmp_path, store) as system:
        system.terminal.behaviour = Behaviour(answer_delay=1)
        await system.set_person("p1")
        await system.terminal.wait_request("setPerson", 2)
        disk.fill()
        await system.bridge.wait_log("answers of terminals cannot be stored")
        assert "ok" not in system.outcomes("set p1")
        disk.free_space()
        await system.wait_reply("set p1", "ok")
        assert [request.ids for request in system.terminal.requests] == [("p0",), ("p1",)]
