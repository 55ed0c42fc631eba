"""A photo for many terminals is read and escaped once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.model.person_entry import PersonEntry
from bridge.persons.delivery.frames import FrameWriter
from bridge.protocol.requests import SetPersonRequest, decode_request
from bridge.store.person_queries import entry as entry_of
from bridge.store.photos import PLAIN, read_photo
from tests.persons.person_system import PersonSystem, person, person_system

TERMINALS = 20


class CountedPhotos:
    """Counts the photos that are read, and waits before it returns one."""

    def __init__(self, system: PersonSystem) -> None:
        self.system = system
        self.reads = 0
        self.may_return = asyncio.Event()

    async def load(self, sha256: str) -> bytes | None:
        self.reads += 1
        await self.may_return.wait()
        return await self.system.read(read_photo, PLAIN, sha256)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    async with person_system(tmp_path) as system:
        yield system


async def stored_person(system: PersonSystem) -> PersonEntry:
    await system.set(person("p1"))
    entry = await system.read(entry_of, "T1", "p1")
    assert entry is not None
    return entry


async def test_a_photo_for_many_terminals_is_read_once(system: PersonSystem) -> None:
    entry = await stored_person(system)
    photos = CountedPhotos(system)
    frames = FrameWriter(photos.load)
    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(frames.write(entry, msgid=f"m{number}", key=None)) for number in range(TERMINALS)]
        await asyncio.sleep(0)
        photos.may_return.set()
    assert photos.reads == 1
    sent = [decode_request(task.result()) for task in writing]
    assert [request.msgid for request in sent] == [f"m{number}" for number in range(TERMINALS)]
    assert len({request.person.photo for request in sent if isinstance(request, SetPersonRequest)}) == 1


async def test_a_cancelled_reader_of_a_photo_does_not_block_others(system: PersonSystem) -> None:
    entry = await stored_person(system)
    photos = CountedPhotos(system)
    frames = FrameWriter(photos.load)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(frames.write(entry, msgid="m1", key=None))
        second = group.create_task(frames.write(entry, msgid="m2", key=None))
        await asyncio.sleep(0)
        first.cancel()
        photos.may_return.set()
    assert first.cancelled()
    assert decode_request(second.result()).msgid == "m2"
