"""Persons are copied between terminals, and removed everywhere."""

from pathlib import Path

from bridge.import_export.context import TransferTarget
from bridge.import_export.copying import copy_persons, find_persons
from bridge.import_export.purging import is_unknown, purge, unconfirmed
from bridge.model.commands import SetPersons
from bridge.persons.changes import CopySource
from bridge.store.person_queries import entries_everywhere, page
from bridge.store.photos import PLAIN, read_photo
from tests.import_export.transfer_system import ignore, transfer_system
from tests.persons.person_system import OTHER_PHOTO, person, sent
from tests.support.core import known_terminal
from tests.support.waiting import until

MEMBERS = [known_terminal("T1", groups=("staff",)), known_terminal("T2", groups=("staff",)), known_terminal("T3")]


async def test_an_exchanged_device_gets_the_persons_of_the_old_one(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1"), person("2", photo=OTHER_PHOTO), person("3"), sn="GONE")
        await system.person_system.remove("3", sn="GONE")
        connection = system.person_system.connect("T2")
        gone, target = CopySource(sn="GONE"), TransferTarget(["T2"])
        found = await find_persons(system.database, gone)
        assert found == ["1", "2"]
        assert await copy_persons(system.context, gone, found, target, ignore) == 2
        await until(lambda: sent(connection) == ["set 1", "set 2"])
        await system.person_system.settled("T2")
        assert await copy_persons(system.context, gone, found, target, ignore) == 0
        assert {one.reply.sn for one in system.replies} == {"T2"}


async def test_a_terminal_gets_a_copy_of_what_a_group_keeps(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=MEMBERS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"), person("2"))))
        await system.person_system.set({"id": "1", "name": "On the terminal"})
        source = CopySource(group="staff")
        found = await find_persons(system.database, source)
        assert await copy_persons(system.context, source, found, TransferTarget(["T3"]), ignore) == 2
        names = {entry.person_id: entry.person and entry.person.name for entry in await system.read(page, "T3", "", 9)}
        assert names == {"1": "Name of 1", "2": "Name of 2"}
        assert await system.access("T3") == {"1": ["terminal"], "2": ["terminal"]}


async def test_a_copy_to_a_member_of_the_same_group_leaves_the_access_with_the_group(tmp_path: Path) -> None:
    """An exchanged device that leaves the group must not keep the group's persons."""
    async with transfer_system(tmp_path, terminals=MEMBERS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"), person("2"), person("3"))))
        await system.person_system.set(person("own"), {"id": "2", "name": "On the terminal"}, person("3"))
        source = CopySource(sn="T1")
        found = await find_persons(system.database, source)
        await copy_persons(system.context, source, found, TransferTarget(["T2"]), ignore)
        assert await system.access("T2") == {
            "1": ["staff"],
            "2": ["terminal", "staff"],
            "3": ["terminal", "staff"],
            "own": ["terminal"],
        }
        await copy_persons(system.context, source, found, TransferTarget(["T3"]), ignore)
        assert await system.access("T3") == {one: ["terminal"] for one in ("1", "2", "3", "own")}


async def test_a_group_keeps_a_copy_of_a_terminals_persons(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=MEMBERS) as system:
        await system.person_system.set(person("1", photo=OTHER_PHOTO), person("2"))
        connection = system.person_system.connect()
        await system.person_system.settled()
        connection.frames.clear()
        source, target = CopySource(sn="T1"), TransferTarget(["T1", "T2"], "staff")
        found = await find_persons(system.database, source)
        assert await copy_persons(system.context, source, found, target, ignore) == 2
        assert await system.kept("staff") == {"1": "Name of 1", "2": "Name of 2"}
        assert await system.access("T1") == {"1": ["terminal", "staff"], "2": ["terminal", "staff"]}
        assert await system.access("T2") == {"1": ["staff"], "2": ["staff"]}
        # The terminal that has the persons already gets nothing.
        assert sent(connection) == []
        assert {one.reply.sn for one in system.replies} == {"T2"}
        assert await copy_persons(system.context, source, found, target, ignore) == 0
        # The running bridge has noticed it: a terminal that joins gets the persons, with their photos.
        await until(lambda: system.person_system.person_service.group_size("staff") == 2)
        await system.person_system.remove("1", "2")
        system.person_system.registry.put(known_terminal("T3", groups=("staff",)))
        await system.person_system.person_service.follow_groups("T3")
        joined = system.person_system.connect("T3")
        await until(lambda: sent(joined) == ["set 1", "set 2"])


async def test_a_purged_person_leaves_groups_with_and_without_members(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=MEMBERS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"), person("2"))))
        system.person_system.registry.put(known_terminal("T2", groups=("empty",)))
        await system.change_group("empty", SetPersons(persons=(person("1"),)))
        system.person_system.registry.put(known_terminal("T2"))
        assert not await is_unknown(system.context.database, "1")
        done = await purge(system.context, "1", ["T1", "T2"])
        assert done.groups == ["empty", "staff"]
        assert await system.kept("empty") == {}
        assert await system.kept("staff") == {"2": "Name of 2"}
        assert [(one.reply.group, one.reply.person_id, one.reply.sn) for one in system.group_changes] == [
            ("empty", "1", None),
            ("staff", "1", None),
        ]
        assert "1" not in await system.access("T1")
        await until(lambda: system.person_system.person_service.group_size("empty") == 0)
        assert await is_unknown(system.context.database, "nobody")


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


async def test_a_terminal_that_the_bridge_has_approved_since_is_purged_too(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, bridge_running=True, terminals=MEMBERS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"),)))
        done = await purge(system.context, "1", ["T1"])
        assert (done.sns, done.dropped) == (["T1", "T2", "T3"], [])
        assert [entry.sn for entry in await unconfirmed(system.database, done, "1")] == ["T1", "T2", "T3"]
