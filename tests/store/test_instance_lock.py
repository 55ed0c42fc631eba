"""One bridge at most runs on a store, and other programs can see whether one does."""

import asyncio
import signal
import sys

import pytest

from bridge.store.errors import StoreInUseError, StoreUrlError
from bridge.store.instance_lock import instance_lock, is_bridge_running
from tests.support.waiting import TIMEOUT_SECONDS

HOLD = """
import asyncio, sys
from bridge.store.instance_lock import instance_lock

async def hold():
    async with instance_lock(sys.argv[1]):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


async def test_a_second_bridge_is_refused_until_the_first_has_ended(store_url: str) -> None:
    assert not await is_bridge_running(store_url)
    async with instance_lock(store_url):
        assert await is_bridge_running(store_url)
        with pytest.raises(StoreInUseError, match="stop it first"):
            async with instance_lock(store_url, wait_seconds=0):
                pass
    # PostgreSQL releases the lock when it has noticed the end of the connection.
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await is_bridge_running(store_url):
            await asyncio.sleep(0.01)
    async with instance_lock(store_url):
        pass


async def test_a_bridge_that_starts_waits_for_one_that_ends(store_url: str) -> None:
    ended = asyncio.Event()

    async def second() -> None:
        async with instance_lock(store_url):
            assert ended.is_set()

    async with asyncio.TaskGroup() as group, instance_lock(store_url):
        group.create_task(second())
        assert await is_bridge_running(store_url)
        ended.set()


async def test_a_missing_driver_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreUrlError, match=r"pip install 'facebridge\[postgres\]'"):
        await is_bridge_running("postgresql://me@127.0.0.1:1/x")


async def test_an_exception_in_the_block_releases_the_lock(store_url: str) -> None:
    with pytest.raises(OSError, match="mine"):
        async with instance_lock(store_url):
            raise OSError("mine")
    assert not await is_bridge_running(store_url)


async def test_a_killed_bridge_releases_the_lock(store_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, store_url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    assert await is_bridge_running(store_url)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with instance_lock(store_url):
        pass
