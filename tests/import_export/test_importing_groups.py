"""Imports on a group change what the group keeps, and its members (docs/persons.md)."""

from pathlib import Path

from bridge.import_export.differences import DifferenceKind
from bridge.model.commands import RemovePersons, SetPersons
from tests.import_export.transfer_system import transfer_system
from tests.persons.person_system import PHOTO, person, sent
from tests.support.core import known_terminal
from tests.support.waiting import until

MEMBERS = ("T1", "T2")
TERMINALS = [*(known_terminal(sn, groups=("staff",)) for sn in MEMBERS), known_terminal("T3")]


async def test_the_group_keeps_the_persons_of_the_file_and_the_bridge_notices_it(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        service = system.person_system.person_service
        connection = system.person_system.connect()
        photos = system.picture("1")
        file = system.write({"id": "1", "name": "Ada"})
        imported = await system.import_(file, MEMBERS, group="staff", photos=photos)
        assert imported.differences.group is not None
        assert imported.differences.group.counts == {DifferenceKind.NEW: 1}
        assert imported.differences.totals() == {DifferenceKind.NEW: 2}
        assert await system.kept("staff") == {"1": "Ada"}
        await until(lambda: sent(connection) == ["set 1"])
        await until(lambda: service.group_size("staff") == 1)
        assert await system.access("T2") == {"1": ["staff"]}
        # The bridge lets a terminal that joins later have them.
        system.person_system.registry.put(known_terminal("T3", groups=("staff",)))
        await service.follow_groups("T3")
        await until(lambda: service.counts("T3").desired == 1)


async def test_a_person_that_is_the_same_everywhere_changes_nothing(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"), person("2"))))
        await system.person_system.set({"id": "2", "name": "Other"}, sn="T2")
        file = system.write(*({"id": one, "name": f"Name of {one}", "photo": PHOTO} for one in ("1", "2")))
        imported = await system.import_(file, MEMBERS, group="staff")
        assert imported.differences.group is not None
        assert (imported.differences.group.persons, imported.differences.group.unchanged) == ([], 2)
        assert [(one.reply.sn, one.reply.person_id) for one in system.replies] == [("T2", "2")]


async def test_persons_of_the_members_become_those_of_the_group(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        await system.person_system.set(person("1"))
        file = system.write({"id": "1", "name": "Name of 1", "photo": PHOTO})
        await system.import_(file, MEMBERS, group="staff")
        assert await system.access("T1") == {"1": ["terminal", "staff"]}
        assert [one.reply.sn for one in system.replies] == ["T2"]


async def test_an_import_on_a_terminal_gives_access_through_the_terminal(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"),)))
        await system.import_(system.write({"id": "1", "name": "Ada", "photo": PHOTO}))
        assert await system.access("T1") == {"1": ["terminal", "staff"]}


async def test_a_row_without_a_photo_changes_what_is_kept_and_gives_no_access(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"),)))
        await system.person_system.set(person("2"))
        await system.person_system.set(person("2"), sn="T2")
        await system.person_system.remove("1", sn="T2")
        imported = await system.import_(
            system.write({"id": "1", "name": "Ada"}, {"id": "2", "name": "Bo"}), MEMBERS, group="staff"
        )
        assert imported.late == []
        assert imported.differences.group is not None
        assert imported.differences.group.absent == {"1": ["T2"]}
        assert imported.differences.group.incomplete == {"2"}
        assert await system.kept("staff") == {"1": "Ada"}
        assert await system.access("T2") == {"2": ["terminal"]}


async def test_pruning_removes_what_the_group_keeps_and_nothing_else(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"), person("2"))))
        await system.person_system.set(person("2"), person("own"))
        file = system.write({"id": "1"})
        _, differences = await system.check(file, MEMBERS, group="staff", prune=True)
        assert differences.group is not None
        assert (differences.group.removed, differences.group.held) == (["2"], 2)
        assert differences.removed() == {"T1": ["2"], "T2": ["2"]}
        assert differences.group.others == {"own"}
        await system.import_(file, MEMBERS, group="staff", prune=True)
        assert await system.kept("staff") == {"1": "Name of 1"}
        # However the person got there.
        assert await system.access("T1") == {"1": ["staff"], "own": ["terminal"]}
        assert await system.access("T2") == {"1": ["staff"]}


async def test_a_group_without_members_is_imported_and_pruned(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1"), person("2"))))
        for sn in MEMBERS:
            system.person_system.registry.put(known_terminal(sn))
        file = system.write({"id": "1", "name": "Ada"}, {"id": "3", "name": "Cy", "photo": PHOTO})
        await system.import_(file, (), group="staff")
        # The bridge notices a change that touches no terminal.
        await until(lambda: system.person_system.person_service.group_size("staff") == 3)
        await system.import_(file, (), group="staff", prune=True)
        assert await system.kept("staff") == {"1": "Ada", "3": "Cy"}
        await until(lambda: system.person_system.person_service.group_size("staff") == 2)
        # No terminal has a reply, so the audit gets records of the group.
        recorded = [(one.reply.command, one.reply.group, one.reply.person_id) for one in system.group_changes]
        assert recorded == [("setPerson", "staff", "1"), ("setPerson", "staff", "3"), ("removePerson", "staff", "2")]
        _, differences = await system.check(system.write({"id": "9", "name": "New"}), (), group="staff")
        assert [str(fault) for fault in differences.faults] == [
            "row 2: photo: is missing: a new person needs a photo, as 'photo' or 'photo_file'"
        ]


async def test_fields_that_contradict_what_the_group_keeps_are_a_fault(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, terminals=TERMINALS) as system:
        await system.change_group("staff", SetPersons(persons=(person("1", valid_from="2027-01-01"),)))
        await system.change_group("all", RemovePersons(ids=("1",)))
        file = system.write({"id": "1", "valid_until": "2026-01-01"})
        _, differences = await system.check(file, MEMBERS, group="staff")
        assert [fault.places for fault in differences.faults] == [("group staff",)]


async def test_terminals_that_join_and_leave_during_an_import_are_members_as_the_bridge_says(tmp_path: Path) -> None:
    async with transfer_system(tmp_path, bridge_running=True, terminals=TERMINALS) as system:
        service = system.person_system.person_service
        await system.change_group("staff", SetPersons(persons=(person("old"), person("1"))))

        async def join_and_leave() -> None:
            for sn, groups in {"T3": ("staff",), "T2": ()}.items():
                system.person_system.registry.put(known_terminal(sn, groups=groups))
                await service.follow_groups(sn)

        file = system.write({"id": "1", "name": "Ada"}, {"id": "2", "name": "Bo", "photo": PHOTO})
        await system.import_(file, MEMBERS, group="staff", prune=True, between=join_and_leave)
        await until(lambda: [service.counts(sn).desired for sn in ("T1", "T2", "T3")] == [2, 0, 2])
        assert await system.access("T3") == {"1": ["staff"], "2": ["staff"]}
        assert await system.access("T2") == {}
