"""Promise 2 on a store that cannot take anything: told aloud, kept by the broker, taken by itself once that is over.

And promise 1 beside it: doors open all the while.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from bridge.simulator.behaviour import Behaviour
from tests.support.bridge_system import BridgeSystem, bridge_system, query
from tests.support.small_disk import SmallDisk

NUMBER = 12
"""Changes while the disk is full: fewer than the broker sends ahead of their acknowledgements (20)."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk").mounted() as disk:
        yield disk


@asynccontextmanager
async def scene_with_p0(folder: Path, store: Path) -> AsyncIterator[BridgeSystem]:
    """Set the system, with one person on the terminal."""
    async with bridge_system(folder, store=store) as system, system.terminal_connected():
        await system.set_person("p0")
        await system.wait_reply("set p0", "ok")
        yield system


async def refused_aloud(system: BridgeSystem, store: Path, why: str) -> None:
    """Ask for changes that cannot be taken, and see that nobody is led to believe they were."""
    for number in range(1, NUMBER + 1):
        await system.set_person(f"p{number}")
    for number in range(1, NUMBER + 1):
        reply = await system.wait_reply(f"set p{number}", "unavailable")
        assert why in reply.json["message"]
        assert reply.json["delivered"] is False
    assert (await system.send_command("open/set", "door")).json["outcome"] == "ok"
    assert await query(store, "SELECT person_id FROM person_entry") == [("p0",)], "nothing is half done"
    assert set(system.terminal.persons) == {"p0"}
    assert [system.outcomes(f"set p{number}") for number in range(1, NUMBER + 1)] == [["unavailable"]] * NUMBER


async def taken_by_itself(system: BridgeSystem) -> None:
    """See that the same changes arrive without being asked for again."""
    for number in range(1, NUMBER + 1):
        await system.wait_reply(f"set p{number}", "accepted")
        await system.wait_reply(f"set p{number}", "ok")
    everybody = {f"p{number}" for number in range(NUMBER + 1)}
    assert set(system.terminal.persons) == everybody
    listed = await system.list_persons("in the end")
    assert {person_id: one["delivery"] for person_id, one in listed.items()} == dict.fromkeys(everybody, "confirmed")
    assert (await system.send_command("open/set", "door afterwards")).json["outcome"] == "ok"
    assert system.terminal.opened == 2


async def test_a_full_disk(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as system:
        disk.fill()
        await refused_aloud(system, store, "the store is full")
        disk.make_room()
        await taken_by_itself(system)


async def test_a_bridge_killed_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as system:
        disk.fill()
        await refused_aloud(system, store, "the store is full")
        await system.bridge.kill()
        disk.make_room()
        await system.bridge.start()
        await taken_by_itself(system)


async def test_a_bridge_started_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as system:
        disk.fill()
        await refused_aloud(system, store, "the store is full")
        await system.bridge.kill()
        system.client.heard.clear()
        await system.bridge.start()
        await system.wait_reply("set p1", "unavailable")
        disk.make_room()
        await taken_by_itself(system)


async def test_a_limit_to_the_size_of_files(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with scene_with_p0(tmp_path, store) as system:
        system.bridge.limit_file_size(1)
        await refused_aloud(system, store, "cannot be read or written")
        system.bridge.limit_file_size(None)
        await taken_by_itself(system)


async def test_another_program_that_holds_the_store_locked(tmp_path: Path) -> None:
    """Longer than the five seconds that the bridge waits for a lock."""
    store = tmp_path / "store.db"
    async with scene_with_p0(tmp_path, store) as system:
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await refused_aloud(system, store, "locked by another program")
            other.execute("ROLLBACK")
        await taken_by_itself(system)


async def test_a_disk_that_may_not_be_written_to(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as system:
        await system.bridge.kill()
        disk.set_read_only(True)
        await system.set_person("p1")
        assert "Read-only file system" in await system.bridge.start_and_fail()
        disk.set_read_only(False)
        await system.bridge.start()
        await system.wait_reply("set p1", "ok")
        assert set(await system.list_persons("in the end")) == {"p0", "p1"}


async def test_answers_of_a_terminal_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    """They wait for room as well: nothing is sent twice, and the last word comes once it is stored."""
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as system:
        system.terminal.behaviour = Behaviour(answer_delay=1)
        await system.set_person("p1")
        await system.terminal.wait_request("setPerson", 2)
        disk.fill()
        await system.bridge.wait_log("answers of terminals cannot be stored")
        assert "ok" not in system.outcomes("set p1")
        disk.make_room()
        await system.wait_reply("set p1", "ok")
        assert [request.ids for request in system.terminal.requests] == [("p0",), ("p1",)]
