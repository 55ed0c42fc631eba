"""Persons are copied between terminals, and removed everywhere."""

from pathlib import Path

from bridge.import_export.copying import copy_persons, find_persons
from bridge.import_export.purging import purge, unconfirmed
from bridge.store.person_queries import entries_everywhere, page
from bridge.store.photos import PLAIN, read_photo
from tests.import_export.transfer_system import ignore, transfer_system
from tests.persons.person_system import OTHER_PHOTO, person, sent
from tests.support.waiting import until


async def test_an_exchanged_device_gets_the_persons_of_the_old_one(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1"), person("2", photo=OTHER_PHOTO), person("3"), sn="GONE")
        await system.person_system.remove("3", sn="GONE")
        connection = system.person_system.connect("T2")
        found = await find_persons(system.database, ["GONE"])
        assert found == {"GONE": ["1", "2"]}
        assert await copy_persons(system.context, found, "T2", ignore) == 2
        await until(lambda: sent(connection) == ["set 1", "set 2"])
        await system.person_system.settled("T2")
        assert await copy_persons(system.context, found, "T2", ignore) == 0
        assert {one.reply.sn for one in system.replies} == {"T2"}


async def test_a_terminal_that_joins_a_group_gets_the_newest_of_each_person(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1", name="New"), person("2"))
        await system.person_system.set(person("1", name="Old"), person("3"), sn="T2")
        await system.person_system.set({"id": "1", "name": "Newest"})
        found = await find_persons(system.database, ["T1", "T2"])
        assert await copy_persons(system.context, found, "T3", ignore) == 3
        names = {entry.person_id: entry.person and entry.person.name for entry in await system.read(page, "T3", "", 9)}
        assert names == {"1": "Newest", "2": "Name of 2", "3": "Name of 3"}


async def test_a_purged_person_is_gone_once_every_terminal_has_confirmed_it(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1", photo=OTHER_PHOTO), person("2"))
        await system.person_system.set(person("1", photo=OTHER_PHOTO), sn="FORGOTTEN")
        connection = system.person_system.connect("T1")
        await system.person_system.settled()
        first, _ = await system.read(page, "T1", "", 9)
        assert first.person is not None
        done = await purge(system.context, "1", ["T1", "T2"])
        assert (done.sns, done.dropped) == (["T1", "T2"], ["FORGOTTEN"])
        assert await system.read(entries_everywhere, "1") != []
        assert await system.read(page, "FORGOTTEN", "", 9) == []
        await until(lambda: sent(connection)[-1] == "remove 1")
        await until(lambda: system.person_system.person_service.counts("T1").pending == 0)
        # The other one is not connected, and may hold the person from before.
        assert [entry.sn for entry in await unconfirmed(system.database, done, "1")] == ["T2"]
        other = system.person_system.connect("T2")
        await until(lambda: system.person_system.person_service.counts("T2").pending == 0)
        assert sent(other) == ["remove 1"]
        assert await unconfirmed(system.database, done, "1") == []
        assert await system.read(entries_everywhere, "1") == []
        assert await system.read(read_photo, PLAIN, first.person.photo) is None


async def test_a_person_that_is_set_again_is_not_unconfirmed(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1"))
        done = await purge(system.context, "1", ["T1"])
        await system.person_system.set(person("1"))
        assert await unconfirmed(system.database, done, "1") == []
