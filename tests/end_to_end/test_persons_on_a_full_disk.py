"""Promise 2 on a store that cannot take anything: told aloud, kept by the broker, taken by itself once that is over.

And promise 1 beside it: doors open all the while.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from bridge.simulator.behaviour import Behaviour
from tests.support.person_scene import PersonScene, person_scene, rows
from tests.support.small_disk import SmallDisk

NUMBER = 12
"""Changes while the disk is full: fewer than the broker sends ahead of their acknowledgements (20)."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk").mounted() as disk:
        yield disk


@asynccontextmanager
async def scene_with_p0(folder: Path, store: Path) -> AsyncIterator[PersonScene]:
    """Set the scene, with one person on the terminal."""
    async with person_scene(folder, store=store) as scene, scene.terminal_there():
        await scene.set("p0")
        await scene.told("set p0", "ok")
        yield scene


async def refused_aloud(scene: PersonScene, store: Path, why: str) -> None:
    """Ask for changes that cannot be taken, and see that nobody is led to believe they were."""
    for number in range(1, NUMBER + 1):
        await scene.set(f"p{number}")
    for number in range(1, NUMBER + 1):
        reply = await scene.told(f"set p{number}", "unavailable")
        assert why in reply.json["message"]
        assert reply.json["delivered"] is False
    assert (await scene.ask("open/set", "door")).json["outcome"] == "ok"
    assert await rows(store, "SELECT person_id FROM person_entry") == [("p0",)], "nothing is half done"
    assert set(scene.terminal.persons) == {"p0"}
    assert [scene.outcomes(f"set p{number}") for number in range(1, NUMBER + 1)] == [["unavailable"]] * NUMBER


async def taken_by_itself(scene: PersonScene) -> None:
    """See that the same changes arrive without being asked for again."""
    for number in range(1, NUMBER + 1):
        await scene.told(f"set p{number}", "accepted")
        await scene.told(f"set p{number}", "ok")
    everybody = {f"p{number}" for number in range(NUMBER + 1)}
    assert set(scene.terminal.persons) == everybody
    listed = await scene.listed("in the end")
    assert {person_id: one["delivery"] for person_id, one in listed.items()} == dict.fromkeys(everybody, "confirmed")
    assert (await scene.ask("open/set", "door afterwards")).json["outcome"] == "ok"
    assert scene.terminal.opened == 2


async def test_a_full_disk(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as scene:
        disk.fill()
        await refused_aloud(scene, store, "the store is full")
        disk.make_room()
        await taken_by_itself(scene)


async def test_a_bridge_killed_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as scene:
        disk.fill()
        await refused_aloud(scene, store, "the store is full")
        await scene.bridge.kill()
        disk.make_room()
        await scene.bridge.start()
        await taken_by_itself(scene)


async def test_a_bridge_started_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as scene:
        disk.fill()
        await refused_aloud(scene, store, "the store is full")
        await scene.bridge.kill()
        scene.client.heard.clear()
        await scene.bridge.start()
        await scene.told("set p1", "unavailable")
        disk.make_room()
        await taken_by_itself(scene)


async def test_a_limit_to_the_size_of_files(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with scene_with_p0(tmp_path, store) as scene:
        scene.bridge.limit_files(1)
        await refused_aloud(scene, store, "cannot be read or written")
        scene.bridge.limit_files(None)
        await taken_by_itself(scene)


async def test_another_program_that_holds_the_store_locked(tmp_path: Path) -> None:
    """Longer than the five seconds that the bridge waits for a lock."""
    store = tmp_path / "store.db"
    async with scene_with_p0(tmp_path, store) as scene:
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await refused_aloud(scene, store, "locked by another program")
            other.execute("ROLLBACK")
        await taken_by_itself(scene)


async def test_a_disk_that_may_not_be_written_to(tmp_path: Path, disk: SmallDisk) -> None:
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as scene:
        await scene.bridge.kill()
        disk.set_read_only(True)
        await scene.set("p1")
        assert "Read-only file system" in await scene.bridge.start_in_vain()
        disk.set_read_only(False)
        await scene.bridge.start()
        await scene.told("set p1", "ok")
        assert set(await scene.listed("in the end")) == {"p0", "p1"}


async def test_answers_of_a_terminal_while_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    """They wait for room as well: nothing is sent twice, and the last word comes once it is stored."""
    store = disk.folder / "store.db"
    async with scene_with_p0(tmp_path, store) as scene:
        scene.terminal.behaviour = Behaviour(answer_delay=1)
        await scene.set("p1")
        await scene.terminal.wait_request("setPerson", 2)
        disk.fill()
        await scene.bridge.wait_log("answers of terminals cannot be stored")
        assert "ok" not in scene.outcomes("set p1")
        disk.make_room()
        await scene.told("set p1", "ok")
        assert [request.ids for request in scene.terminal.requests] == [("p0",), ("p1",)]
