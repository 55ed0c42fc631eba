"""Changes of groups with many members: accepted in one short transaction, applied in batches."""

from collections.abc import AsyncIterator
from pathlib import Path
from threading import current_thread

import pytest
from sqlalchemy import event

from bridge.core.ports import PersonCommand
from bridge.model.commands import PersonChange, RemovePersons, SetPersons, SyncPersons
from bridge.model.reply import Outcome
from bridge.persons.batches import CHANGE_ROWS
from bridge.store import group_change_queries
from tests.persons.person_system import ORIGIN, PersonSystem, person, person_system
from tests.persons.test_groups import GroupSystem
from tests.support.core import known_terminal

MEMBERS = 120
IDS = ("p1", "p2", "p3")


@pytest.fixture(autouse=True)
def _short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each batch end after its first portion, so that commands come between batches."""
    monkeypatch.setattr("bridge.persons.batches.BATCH_SECONDS", 0)


async def start(system: PersonSystem) -> GroupSystem:
    """Let many terminals be in the group `staff`."""
    groups = GroupSystem(system)
    for number in range(MEMBERS):
        await groups.put(f"T{number:03}", "staff")
    return groups


@pytest.fixture
async def groups(tmp_path: Path) -> AsyncIterator[GroupSystem]:
    async with person_system(tmp_path, sns=()) as system:
        yield await start(system)


async def is_running(groups: GroupSystem) -> bool:
    return await groups.system.read(group_change_queries.has_changes)


async def accepted(groups: GroupSystem, change: PersonChange) -> None:
    """Change the group, and check that every member accepts it and that the change is not applied yet."""
    replies = await groups.change("staff", change)
    assert {reply.outcome for reply in replies} == {Outcome.ACCEPTED}
    assert len({reply.sn for reply in replies}) == MEMBERS
    assert await is_running(groups)


async def test_every_member_gets_the_persons_after_the_reply(groups: GroupSystem) -> None:
    await accepted(groups, SetPersons(persons=[person(one) for one in IDS], request_id="r1"))
    assert await groups.kept("staff") == {one: f"Name of {one}" for one in IDS}
    for number in (0, 60, MEMBERS - 1):
        assert await groups.access(f"T{number:03}") == {one: (f"Name of {one}", ["staff"]) for one in IDS}
    connection = groups.system.connect("T077")
    await groups.system.settled("T077")
    assert len(connection.frames) == len(IDS)
    assert sorted(await groups.system.final_outcomes(len(IDS))) == [("r1", one, "ok") for one in IDS]


async def test_a_later_change_of_a_member_counts_later(groups: GroupSystem) -> None:
    await accepted(groups, SetPersons(persons=[person(one) for one in IDS]))
    await groups.system.remove("p1", sn="T119")
    assert await groups.system.set({"id": "p2", "name": "Own"}, sn="T119") == [Outcome.ACCEPTED]
    await groups.put("T118")
    assert await is_running(groups)
    assert await groups.access("T119") == {"p2": ("Own", ["staff"]), "p3": ("Name of p3", ["staff"])}
    assert await groups.access("T118") == {}
    assert set(await groups.access("T117")) == set(IDS)


async def test_a_later_change_of_the_group_counts_later(groups: GroupSystem) -> None:
    await accepted(groups, SetPersons(persons=[person(one) for one in IDS]))
    # Whether this is valid depends on the first change.
    await accepted(groups, SetPersons(persons=[{"id": "p2", "name": "Bo"}]))
    await accepted(groups, RemovePersons(ids=("p1",)))
    for number in (0, MEMBERS - 1):
        assert await groups.access(f"T{number:03}") == {"p2": ("Bo", ["staff"]), "p3": ("Name of p3", ["staff"])}


async def test_members_that_do_not_hold_the_person_refuse_a_partial_set(groups: GroupSystem) -> None:
    await groups.system.set(person("own"), sn="T007")
    await groups.system.set(person("own", valid_from="2027-01-01T00:00:00Z"), sn="T008")
    change = SetPersons(persons=[{"id": "own", "valid_until": "2026-06-01T00:00:00Z"}])
    outcomes = {reply.sn: reply.outcome for reply in await groups.change("staff", change)}
    assert {sn for sn, outcome in outcomes.items() if outcome is Outcome.ACCEPTED} == {"T007"}
    assert set(outcomes.values()) == {Outcome.ACCEPTED, Outcome.INVALID}
    await groups.jobs_done()
    (shown,) = await groups.system.persons("T007")
    assert shown["valid_until"] == "2026-06-01T00:00:00.000+00:00"
    (shown,) = await groups.system.persons("T008")
    assert shown["valid_until"] is None
    assert await groups.access("T009") == {}


@pytest.mark.parametrize("clear", [False, True])
async def test_everything_on_many_members_changes_in_batches(groups: GroupSystem, clear: bool) -> None:
    await accepted(groups, SetPersons(persons=[person(one) for one in IDS]))
    await groups.jobs_done()
    connection = groups.system.connect("T119")
    await groups.system.settled("T119")
    connection.frames.clear()
    await accepted(groups, SyncPersons(clear=clear, request_id="again"))
    await groups.jobs_done()
    await groups.system.settled("T119")
    assert len(connection.frames) == len(IDS) + clear
    await accepted(groups, RemovePersons(ids=None))
    await groups.system.set(person("later"), sn="T118")
    assert await groups.access("T118") == {"later": ("Name of later", ["terminal"])}
    assert await groups.access("T119") == {}


async def test_a_change_survives_the_end_of_the_bridge(tmp_path: Path) -> None:
    async with person_system(tmp_path, sns=()) as system:
        await accepted(await start(system), SetPersons(persons=[person(one) for one in IDS]))
    terminals = [known_terminal(f"T{number:03}", groups=("staff",)) for number in range(MEMBERS)]
    async with person_system(tmp_path, terminals=terminals) as system:
        groups = GroupSystem(system)
        assert await is_running(groups)
        for number in (0, MEMBERS - 1):
            assert set(await groups.access(f"T{number:03}")) == set(IDS)


async def test_no_transaction_changes_more_entries_than_a_portion(groups: GroupSystem) -> None:
    rows: list[int] = []

    def begin(*_: object) -> None:
        if current_thread().name == "store writer":
            rows.append(0)

    def note(*arguments: object) -> None:
        statement, parameters, is_many = str(arguments[2]), arguments[3], arguments[5]
        if statement.startswith("INSERT INTO person_entry") and rows:
            assert isinstance(parameters, (list, tuple))
            rows[-1] += len(parameters) if is_many else 1

    event.listen(groups.system.database.engine, "begin", begin)
    event.listen(groups.system.database.engine, "before_cursor_execute", note)
    await accepted(groups, SetPersons(persons=[person(one) for one in IDS]))
    await groups.change("staff", SetPersons(persons=[{"id": one, "name": "Bo"} for one in IDS]))
    await groups.change("staff", RemovePersons(ids=IDS))
    await groups.jobs_done()
    assert sum(rows) == 3 * len(IDS) * MEMBERS
    # The writer may take the portion of the job and that of a command that waits for it into one transaction.
    assert max(rows) <= 2 * CHANGE_ROWS


async def test_forgetting_a_member_ends_the_change_there(groups: GroupSystem) -> None:
    await accepted(groups, SetPersons(persons=[person("p1")], request_id="r1"))
    await groups.system.person_service.forget("T119")
    groups.system.registry.remove("T119")
    (reply,) = await groups.system.final_replies(1)
    assert (reply.reply.sn, reply.reply.outcome, reply.reply.message) == (
        "T119",
        Outcome.SUPERSEDED,
        "the terminal was forgotten",
    )
    await groups.jobs_done()
    assert await groups.system.persons("T119") == []


async def test_commands_of_one_call_see_a_change_that_is_not_applied(groups: GroupSystem) -> None:
    sns = tuple(known.terminal.sn for known in groups.system.registry.members("staff"))
    changes = [
        PersonCommand(group="staff", sns=sns, change=SetPersons(persons=[person("p1")]), origin=ORIGIN),
        PersonCommand(group="staff", sns=sns, change=SetPersons(persons=[{"id": "p1", "card": "77"}]), origin=ORIGIN),
    ]
    for replies in await groups.system.person_service.change(changes):
        assert {reply.outcome for reply in replies} == {Outcome.ACCEPTED}
    await groups.jobs_done()
    (shown,) = await groups.system.persons("T119")
    assert shown["card"] == "77"
