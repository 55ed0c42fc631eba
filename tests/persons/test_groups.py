"""Groups keep persons: setting, joining, leaving and removing (docs/persons.md)."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import current_thread

import pytest
from sqlalchemy import Connection, event

from bridge.core.ports import PersonCommand
from bridge.model.commands import PersonChange, RemovePersons, SetPersons
from bridge.model.person import ALWAYS
from bridge.model.reply import Outcome, Reply
from bridge.protocol.requests import SetPersonRequest
from bridge.store import group_change_queries, group_queries, person_queries
from tests.persons.person_system import ORIGIN, OTHER_PHOTO, PersonSystem, person, person_system, requests, sent
from tests.support.core import known_terminal


class GroupSystem:
    """A persons' service whose terminals change their groups."""

    def __init__(self, system: PersonSystem) -> None:
        self.system = system

    async def put(self, sn: str, *groups: str) -> None:
        """Let a terminal be in these groups."""
        self.system.registry.put(known_terminal(sn, groups=groups))
        await self.system.person_service.follow_groups(sn)

    async def change(self, group: str, change: PersonChange) -> Sequence[Reply]:
        sns = tuple(known.terminal.sn for known in self.system.registry.members(group))
        command = PersonCommand(group=group, sns=sns, change=change, origin=ORIGIN)
        (replies,) = await self.system.person_service.change([command])
        return replies

    async def set(self, group: str, *persons: object) -> list[tuple[str | None, str]]:
        return [(one.sn, one.outcome.value) for one in await self.change(group, SetPersons(persons=persons))]

    async def remove(self, group: str, *ids: str) -> None:
        await self.change(group, RemovePersons(ids=ids))

    async def jobs_done(self) -> None:
        """Wait until no job is running."""

        def unfinished(connection: Connection) -> bool:
            return bool(
                group_queries.membership_jobs(connection)
                or group_queries.group_removals(connection)
                or group_change_queries.has_changes(connection)
                or person_queries.jobs(connection)
            )

        while await self.system.read(unfinished):
            await asyncio.sleep(0.002)

    async def access(self, sn: str) -> dict[str, tuple[str, list[str]]]:
        """Return name and access of each person of a terminal."""
        await self.jobs_done()
        return {
            one["id"]: (one["name"], one["access"])
            for one in await self.system.persons(sn)
            if one["wanted"] != "removed"
        }

    async def kept(self, group: str) -> dict[str, str]:
        """Return the names of the persons that a group keeps."""
        page = await self.system.read(group_queries.kept_page, group, "", 1000)
        assert self.system.person_service.group_size(group) == len(page)
        return {one.person.id: one.person.name for one in page}


@pytest.fixture
async def groups(tmp_path: Path) -> AsyncIterator[GroupSystem]:
    async with person_system(tmp_path, sns=()) as system:
        yield GroupSystem(system)


async def test_a_terminal_that_joins_gets_the_persons_of_the_group(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    assert await groups.set("staff", person("p1"), person("p2", name="Bo")) == [("T1", "accepted"), ("T1", "accepted")]
    await groups.put("T2", "staff")
    assert await groups.access("T2") == {"p1": ("Name of p1", ["staff"]), "p2": ("Bo", ["staff"])}
    connection = groups.system.connect("T2")
    await groups.system.settled("T2")
    assert sent(connection) == ["set p1", "set p2"]
    replies = await groups.system.final_replies(2)
    assert [(one.reply.outcome, one.reply.message) for one in replies] == [(Outcome.OK, "joined group staff: ok")] * 2


async def test_a_terminal_that_leaves_keeps_only_what_it_holds_otherwise(groups: GroupSystem) -> None:
    await groups.put("T1", "staff", "guests")
    await groups.set("staff", person("p1"), person("p2"), person("p3"))
    await groups.set("guests", person("p2", name="Guest"))
    await groups.system.set(person("p3", name="Own"))
    await groups.put("T1", "guests")
    assert await groups.access("T1") == {"p2": ("Guest", ["guests"]), "p3": ("Own", ["terminal"])}
    connection = groups.system.connect("T1")
    await groups.system.settled("T1")
    assert sent(connection) == ["remove p1", "set p2", "set p3"]
    assert await groups.kept("staff") == {"p1": "Name of p1", "p2": "Name of p2", "p3": "Name of p3"}


async def test_leaving_counts_first_and_only_the_difference_is_sent(groups: GroupSystem) -> None:
    await groups.put("T1", "old")
    await groups.put("T2", "new")
    await groups.set("old", person("p1"), person("p2"), person("p3"))
    await groups.set("new", person("p1"), person("p2", name="Other"), person("p4"))
    connection = groups.system.connect("T1")
    await groups.system.settled("T1")
    connection.frames.clear()
    await groups.put("T1", "new")
    assert await groups.access("T1") == {
        "p1": ("Name of p1", ["new"]),
        "p2": ("Other", ["new"]),
        "p4": ("Name of p4", ["new"]),
    }
    await groups.system.settled("T1")
    assert sorted(sent(connection)) == ["remove p3", "set p2", "set p4"]


async def test_the_newest_change_of_several_joined_groups_wins(groups: GroupSystem) -> None:
    await groups.put("T1", "a", "b")
    await groups.set("a", person("p1", name="first"))
    await groups.set("b", person("p1", name="second"))
    await groups.set("all", person("p2", name="everywhere"))
    await groups.set("a", {"id": "p1", "name": "third"})
    await groups.put("T2", "a", "b")
    assert await groups.access("T2") == {"p1": ("third", ["a", "b"]), "p2": ("everywhere", ["all"])}


async def test_a_partial_change_adds_no_access(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.put("T2", "staff")
    await groups.system.set(person("p1"))
    assert await groups.set("staff", {"id": "p1", "name": "Bo"}) == [("T1", "accepted"), ("T2", "invalid")]
    assert await groups.access("T1") == {"p1": ("Bo", ["terminal"])}
    assert await groups.kept("staff") == {}
    await groups.set("staff", person("p2"))
    await groups.system.remove("p2", sn="T2")
    assert await groups.set("staff", {"id": "p2", "enabled": False}) == [("T1", "accepted"), ("T2", "invalid")]
    await groups.put("T3", "staff")
    assert await groups.access("T3") == {"p2": ("Name of p2", ["staff"])}
    (shown,) = await groups.system.persons("T3")
    assert shown["enabled"] is False


async def test_a_removal_from_the_group_removes_everywhere(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", person("p1"))
    await groups.system.set(person("p1"))
    assert await groups.access("T1") == {"p1": ("Name of p1", ["terminal", "staff"])}
    await groups.remove("staff", "p1")
    assert await groups.access("T1") == {}
    assert await groups.kept("staff") == {}


async def test_a_removal_from_the_terminal_lasts_until_a_newer_set(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", person("p1"))
    await groups.system.remove("p1")
    assert await groups.access("T1") == {}
    await groups.put("T1")
    await groups.put("T1", "staff")
    assert await groups.access("T1") == {"p1": ("Name of p1", ["staff"])}


async def test_everyone_is_removed_from_a_group(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", *(person(f"p{number:03}") for number in range(120)))
    await groups.system.set(person("own"))
    await groups.change("staff", RemovePersons(ids=None))
    assert await groups.kept("staff") == {}
    await groups.set("staff", person("new"))
    await groups.put("T2", "staff")
    assert await groups.access("T2") == {"new": ("Name of new", ["staff"])}
    assert await groups.access("T1") == {"new": ("Name of new", ["staff"])}


async def test_a_change_during_a_job_counts_after_it(groups: GroupSystem, tmp_path: Path) -> None:
    await groups.put("T1", "staff")
    count = 400
    await groups.set("staff", *(person(f"p{number:03}") for number in range(count)))
    groups.system.registry.put(known_terminal("T2", groups=("staff",)))
    await groups.system.person_service.follow_groups("T2")
    # The last ones have not had their turn.
    assert await groups.system.read(group_queries.membership_jobs)
    last, last_but_one, other = f"p{count - 1:03}", f"p{count - 2:03}", f"p{count - 3:03}"
    await groups.system.remove(last, sn="T2")
    await groups.system.set({"id": last_but_one, "name": "changed"}, sn="T2")
    await groups.set("staff", {"id": other, "name": "in the group"})
    held = await groups.access("T2")
    assert len(held) == count - 1
    assert last not in held
    assert held[last_but_one] == ("changed", ["staff"])
    assert held[other] == ("in the group", ["staff"])


async def test_two_changes_of_memberships_count_before_a_command(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", *(person(f"p{number:03}") for number in range(400)))
    await groups.put("T2", "staff")
    await groups.put("T2")
    assert len(await groups.system.read(group_queries.membership_jobs)) == 2
    # T2 has received and lost the last person.
    assert await groups.system.set({"id": "p399", "name": "Bo"}, sn="T2") == [Outcome.INVALID]
    assert await groups.access("T2") == {}


async def test_the_persons_of_several_joined_groups_come_in_the_order_of_their_changes(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    ids = [f"p{number:02}" for number in range(60)]
    for number, person_id in enumerate(ids):
        await groups.set("staff" if number % 3 else "all", person(person_id))
    await groups.put("T2", "staff")
    assert list(await groups.access("T2")) == ids
    connection = groups.system.connect("T2")
    await groups.system.settled("T2")
    assert sent(connection) == [f"set {person_id}" for person_id in ids]


async def test_leaving_is_not_repeated_after_a_later_change_has_joined_again(
    groups: GroupSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    await groups.put("T1", "staff", "many")
    await groups.put("T2", "staff")
    await groups.set("many", *(person(f"p{number:03}") for number in range(400)))
    await groups.set("staff", person("ada"))
    monkeypatch.setattr("bridge.persons.batches.MEMBERSHIP_ROWS", 1)
    monkeypatch.setattr("bridge.persons.batches.BATCH_SECONDS", 0)
    await groups.put("T2", "many")
    while (await groups.system.read(group_queries.membership_jobs))[0].left_after is not None:
        await asyncio.sleep(0)
    await groups.put("T2", "many", "staff")
    # Each change applies both unfinished jobs to the person.
    for name in ("Bo", "Cy"):
        assert await groups.system.set({"id": "ada", "name": name}, sn="T2") == [Outcome.ACCEPTED]
    assert len(await groups.system.read(group_queries.membership_jobs)) == 2
    (shown,) = await groups.system.persons("T2", "ada")
    assert (shown["name"], shown["access"]) == ("Cy", ["staff"])


@pytest.mark.parametrize(
    "change",
    [
        RemovePersons(ids=None),
        RemovePersons(ids=("p099",)),
        SetPersons(persons=[person("p099", name="New")]),
        SetPersons(persons=[{"id": "p099", "name": "New"}]),
    ],
    ids=["everyone removed", "removed", "set", "changed"],
)
async def test_a_terminal_that_has_left_keeps_the_values_from_before_a_later_change_of_the_group(
    groups: GroupSystem, change: PersonChange, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The removal of everyone deletes 50 rows while a change of memberships is applied to one person.
    monkeypatch.setattr("bridge.persons.batches.MEMBERSHIP_ROWS", 1)
    monkeypatch.setattr("bridge.persons.batches.BATCH_SECONDS", 0)
    await groups.put("T1", "staff")
    await groups.put("T2")
    await groups.set("staff", *(person(f"p{number:03}") for number in range(100)))
    await groups.system.set(person("p099", name="Own"), sn="T2")
    await groups.put("T2", "staff")
    await groups.put("T2")
    assert len(await groups.system.read(group_queries.membership_jobs)) == 2
    await groups.change("staff", change)
    assert await groups.access("T2") == {"p099": ("Name of p099", ["terminal"])}


async def test_the_removal_of_everyone_also_counts_for_persons_that_have_yet_to_come(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", *(person(f"p{number:03}") for number in range(400)))
    await groups.put("T2", "staff")
    assert await groups.system.read(group_queries.membership_jobs)
    await groups.system.remove_everyone(sn="T2")
    assert await groups.access("T2") == {}


async def test_what_a_group_keeps_later_than_the_join_comes_only_as_a_change(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.put("T2")
    await groups.set("staff", *(person(f"p{number:03}") for number in range(400)))
    await groups.system.set(person("own", card="77"), sn="T2")
    await groups.put("T2", "staff")
    await groups.set("staff", person("own", name="New"))
    assert await groups.system.read(group_queries.membership_jobs)
    await groups.system.set({"id": "own", "visitor": True}, sn="T2")
    (shown,) = await groups.system.persons("T2", "own")
    # A set leaves the fields that it does not name; joining would have replaced them.
    assert (shown["name"], shown["card"], shown["access"]) == ("New", "77", ["terminal", "staff"])


async def test_memberships_are_compared_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with person_system(tmp_path, sns=()) as system:
        groups = GroupSystem(system)
        await groups.put("T1", "staff")
        await groups.put("T2")
        await groups.set("staff", person("p1"))
    async with person_system(tmp_path, sns=("T2",)) as system:
        groups = GroupSystem(system)
        assert "T1 left all, staff" in caplog.text
        assert "group staff keeps 1 person and has no members" in caplog.text
        assert await groups.access("T2") == {}
        await groups.put("T2", "staff")
        assert await groups.access("T2") == {"p1": ("Name of p1", ["staff"])}
        assert await groups.access("T1") == {}
        await groups.change("staff", RemovePersons(ids=None))
        assert await groups.access("T2") == {}


async def test_a_photo_of_a_group_is_kept(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", person("p1", photo=OTHER_PHOTO))
    await groups.put("T1")
    await groups.jobs_done()
    connection = groups.system.connect("T1")
    await groups.system.settled("T1")
    await groups.put("T1", "staff")
    await groups.jobs_done()
    await groups.system.settled("T1")
    (shown,) = [one for one in requests(connection) if isinstance(one, SetPersonRequest)]
    assert shown.person.photo is not None


async def test_forgotten_terminals_leave_the_groups_persons(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", person("p1"))
    await groups.system.person_service.forget("T1")
    groups.system.registry.remove("T1")
    assert await groups.kept("staff") == {"p1": "Name of p1"}
    assert await groups.system.read(group_queries.memberships) == {}


async def test_fields_that_contradict_what_the_group_keeps_change_nothing(groups: GroupSystem) -> None:
    await groups.put("T1", "staff")
    await groups.set("staff", person("p1", valid_from="2027-01-01T00:00:00Z"))
    await groups.system.set({"id": "p1", "valid_from": None})
    assert await groups.set("staff", {"id": "p1", "valid_until": "2026-01-01T00:00:00Z"}) == [("T1", "invalid")]
    (shown,) = await groups.system.persons("T1")
    assert shown["valid_until"] is None


async def statements(groups: GroupSystem, change: PersonChange) -> int:
    """Return the number of statements that a change of the group `staff` runs; background jobs read meanwhile."""
    executed: list[str] = []

    def note(*arguments: object) -> None:
        if current_thread().name == "store writer":
            executed.append(str(arguments[2]))

    event.listen(groups.system.database.engine, "before_cursor_execute", note)
    await groups.change("staff", change)
    event.remove(groups.system.database.engine, "before_cursor_execute", note)
    return len(executed)


async def test_the_number_of_statements_does_not_depend_on_the_number_of_members(groups: GroupSystem) -> None:
    changes: list[PersonChange] = [
        SetPersons(persons=[person("p1"), person("p2")]),
        SetPersons(persons=[{"id": "p1", "name": "Bo"}]),
        RemovePersons(ids=("p1", "p2")),
    ]
    first: list[int] = []
    few: list[int] = []
    many: list[int] = []
    # From the second time on, each change supersedes an earlier one.
    for members, counted in ((2, first), (2, few), (20, many)):
        for number in range(members):
            await groups.put(f"T{number}", "staff")
        for change in changes:
            await groups.jobs_done()
            counted.append(await statements(groups, change))
    assert few == many


async def test_commands_of_one_transaction_see_each_other(groups: GroupSystem) -> None:
    # With this many members, the first change is written before the second reads.
    for number in range(120):
        groups.system.registry.put(known_terminal(f"T{number}", groups=("staff",)))
    await groups.set("staff", person("p1"))
    sns = tuple(known.terminal.sn for known in groups.system.registry.members("staff"))
    changes = [
        PersonCommand(group="staff", sns=sns, change=SetPersons(persons=[{"id": "p1", "card": "77"}]), origin=ORIGIN),
        PersonCommand(sn="T0", sns=("T0",), change=SetPersons(persons=[{"id": "p1", "name": "Bo"}]), origin=ORIGIN),
    ]
    await groups.system.person_service.change(changes)
    (shown,) = await groups.system.persons("T0")
    assert (shown["name"], shown["card"]) == ("Bo", "77")


@pytest.mark.parametrize("way", ["set", "join"])
async def test_a_person_who_is_added_again_before_the_removal_is_confirmed_loses_the_weekly_rule(
    groups: GroupSystem, way: str
) -> None:
    await groups.put("T2", "staff")
    await groups.set("staff", person("p1"))
    await groups.put("T1")
    await groups.system.set(person("p1", weekly={"default": "08:00-17:00"}))
    connection = groups.system.connect("T1")
    await groups.system.settled("T1")
    connection.reset("gone")
    await groups.system.remove("p1")
    if way == "set":
        await groups.system.set(person("p1"))
    else:
        await groups.put("T1", "staff")
        await groups.jobs_done()
    connection = groups.system.connect("T1")
    await groups.system.settled("T1")
    (request,) = requests(connection)
    assert isinstance(request, SetPersonRequest)
    assert request.person.weekly == ALWAYS.by_day()


async def test_a_removal_from_a_group_without_members_fails_visibly(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        command = PersonCommand(group="lobby", change=RemovePersons(ids=("p1",)), origin=ORIGIN)
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            ((reply,),) = await system.person_service.change([command])
        assert (reply.outcome, reply.sn, reply.group) == (Outcome.UNAVAILABLE, None, "lobby")
