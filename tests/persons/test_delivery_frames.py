"""What goes to many terminals is read and escaped once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.model.person_entry import PersonEntry
from bridge.persons.delivery.frames import FrameWriter
from bridge.protocol.requests import SetPersonRequest, decode_request
from bridge.store.database import Database
from bridge.store.persons import StoredPersons
from tests.persons.person_system import PersonSystem, person, person_system

TERMINALS = 20


class CountedPhotos(StoredPersons):
    """Counts what is read, and waits before it is given out."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reads = 0
        self.go_on = asyncio.Event()

    async def photo(self, sha256: str) -> bytes | None:
        self.reads += 1
        await self.go_on.wait()
        return await super().photo(sha256)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    async with person_system(tmp_path) as system:
        yield system


async def stored_person(system: PersonSystem) -> PersonEntry:
    await system.set(person("p1"))
    entry = await system.store.entry("T1", "p1")
    assert entry is not None
    return entry


async def test_a_photo_that_all_terminals_want_at_once_is_read_once(system: PersonSystem) -> None:
    entry = await stored_person(system)
    store = CountedPhotos(system.database)
    frames = FrameWriter(store)
    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(frames.write(entry, msgid=f"m{number}", key=None)) for number in range(TERMINALS)]
        await asyncio.sleep(0)
        store.go_on.set()
    assert store.reads == 1
    sent = [decode_request(task.result()) for task in writing]
    assert [request.msgid for request in sent] == [f"m{number}" for number in range(TERMINALS)]
    assert len({request.person.photo for request in sent if isinstance(request, SetPersonRequest)}) == 1


async def test_a_terminal_that_goes_away_while_a_photo_is_read_holds_up_nobody(system: PersonSystem) -> None:
    entry = await stored_person(system)
    store = CountedPhotos(system.database)
    frames = FrameWriter(store)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(frames.write(entry, msgid="m1", key=None))
        second = group.create_task(frames.write(entry, msgid="m2", key=None))
        await asyncio.sleep(0)
        first.cancel()
        store.go_on.set()
    assert first.cancelled()
    assert decode_request(second.result()).msgid == "m2"
