"""No transaction grows with the persons of a message: long commands are stored in portions."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from bridge.core.ports import PersonCommand
from bridge.model.commands import PersonChange, RemovePersons, SetPersons, SyncPersons
from bridge.model.person_entry import RequestContext
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome, Reply
from bridge.persons import changes
from bridge.persons.entry_transaction import MAX_SYNCS
from bridge.persons.member_checks import MemberStates, read_states
from bridge.persons.portions import MAX_PERSONS
from bridge.persons.transactions import PersonTransaction
from bridge.store.tables import PERSON_ENTRY
from tests.persons.person_system import ORIGIN, PHOTO, PersonSystem, person, person_system
from tests.persons.test_groups import GroupSystem
from tests.support.core import known_terminal
from tests.support.failing_commit import failing_commit
from tests.support.row_counter import counted
from tests.support.waiting import until

PERSONS = 350
MEMBERS = 1200

IDS = tuple(f"p{number:03}" for number in range(PERSONS))


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    async with person_system(tmp_path) as system:
        yield system


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        (SetPersons(persons=[person(one) for one in IDS]), True),
        (SetPersons(persons=[{"id": one, "name": "Again"} for one in IDS]), False),
        (RemovePersons(ids=IDS), True),
        (RemovePersons(ids=IDS), False),
    ],
    ids=["set", "partial set", "remove unknown", "remove"],
)
async def test_a_long_list_for_a_terminal_is_stored_in_portions(
    system: PersonSystem, change: PersonChange, is_new: bool
) -> None:
    if not is_new:
        await system.set(*(person(one) for one in IDS))
    with counted(system.database) as counter:
        (replies,) = await system.change(change)
    assert [(reply.person_id, reply.outcome) for reply in replies] == [(one, Outcome.ACCEPTED) for one in IDS]
    rows = counter.longest
    # A removal takes longer: SQLite overwrites the photo.
    assert rows["person_entry"] == (MAX_PERSONS // 2 if isinstance(change, RemovePersons) else MAX_PERSONS)
    # Each person loses a name and gets another one.
    assert rows.pop("person_name") <= 2 * MAX_PERSONS
    assert max(rows.values()) <= MAX_PERSONS
    assert sum(rows["person_entry"] for rows in counter.transactions) == PERSONS


async def test_photos_of_one_transaction_have_a_limit(system: PersonSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.persons.portions._MAX_PHOTO_BYTES", len(PHOTO))
    with counted(system.database) as counter:
        await system.change(*(SetPersons(persons=[person(one)]) for one in IDS[:5]))
    # Base64 makes four characters of three bytes: only one photo fits.
    assert counter.longest["person_entry"] == 1


async def test_many_commands_are_stored_in_portions(system: PersonSystem) -> None:
    changes: list[PersonChange] = [SetPersons(persons=[person(one) for one in IDS[:60]]) for _ in range(3)]
    changes += [RemovePersons(ids=None)] * 50
    with counted(system.database) as counter:
        replies = await system.change(*changes)
    assert {reply.outcome for one in replies for reply in one} == {Outcome.ACCEPTED}
    assert len(replies) == len(changes)
    # The writer may take a batch of a job into the same transaction.
    assert max(counter.longest.values()) <= 2 * MAX_PERSONS


async def test_syncs_that_wait_for_a_terminal_have_a_limit(system: PersonSystem) -> None:
    await system.set(person("p1"))
    changes = [SyncPersons(request_id=f"r{number}") for number in range(MAX_SYNCS + 50)]
    with counted(system.database) as counter:
        await system.change(*changes)
    # Each sync extends the open ones, and a transaction accepts 20 of them.
    assert counter.longest["person_sync"] <= 20 * (MAX_SYNCS + 2)
    assert await system.final_outcomes(50) == [(f"r{number}", None, "superseded") for number in range(50)]
    system.connect()
    await system.settled()
    ended = await system.final_outcomes(MAX_SYNCS + 1)
    assert ended == [(None, "p1", "ok"), *((f"r{number}", None, "ok") for number in range(50, MAX_SYNCS + 50))]


async def test_each_portion_is_published_before_the_next(system: PersonSystem) -> None:
    """A terminal may answer a person of the first portion before the last portion is stored."""
    published: list[tuple[str | None, str]] = []

    def publish(_: PersonCommand, replies: Sequence[Reply]) -> None:
        published.extend((reply.person_id, reply.outcome.value) for reply in replies)

    system.connect()
    system.transactions.listen(
        lambda committed: published.extend(
            (one.reply.person_id, one.reply.outcome.value) for one in committed.final_replies
        )
    )
    command = PersonCommand(sns=("T1",), change=SetPersons(persons=[person(one) for one in IDS]), origin=ORIGIN)
    await system.person_service.change([command], publish)
    await system.settled()
    await until(lambda: len(published) == 2 * PERSONS)
    assert all(published.index((one, "accepted")) < published.index((one, "ok")) for one in IDS)


async def receive(system: PersonSystem, message: ReceivedMessage, change: PersonChange) -> list[Reply]:
    command = PersonCommand(sns=("T1",), change=change, origin=ORIGIN, message=message)
    (replies,) = await system.person_service.change([command])
    return list(replies)


async def test_an_interrupted_message_continues_with_its_next_portion(system: PersonSystem) -> None:
    change = SetPersons(persons=[{"id": one, "name": "Ada"} for one in IDS])
    await system.set(*(person(one) for one in IDS))
    message = ReceivedMessage(digest="x", packet_id=1)
    with failing_commit(system.database, is_stored=False, after=2):
        outcomes = [reply.outcome for reply in await receive(system, message, change)]
    assert outcomes == [Outcome.ACCEPTED] * 200 + [Outcome.UNAVAILABLE] * 150
    # Another requester changes a person that is stored, and one that is not.
    await system.set({"id": IDS[0], "name": "Bo"}, {"id": IDS[-1], "name": "Bo"})
    replies = await receive(system, message, change)
    assert [(reply.outcome, reply.is_repeated) for reply in replies] == [(Outcome.ACCEPTED, False)] * PERSONS
    names = {one["id"]: one["name"] for one in await system.persons("T1")}
    assert (names[IDS[0]], names[IDS[-1]]) == ("Bo", "Ada")


@pytest.mark.parametrize("dated", [False, True])
async def test_a_message_that_arrives_again_is_not_applied_again(system: PersonSystem, dated: bool) -> None:
    change = RemovePersons(ids=IDS)

    def message(*, again: bool) -> ReceivedMessage:
        packet_id = 7 if again and dated else 1
        return ReceivedMessage(digest="x", packet_id=packet_id, is_redelivered=again and not dated, is_dated=dated)

    first = await receive(system, message(again=False), change)
    await system.set(person(IDS[0]), person(IDS[-1]))
    again = await receive(system, message(again=True), change)
    assert all(reply.is_repeated for reply in again)
    assert [reply.person_id for reply in again] == [reply.person_id for reply in first] == list(IDS)
    assert {one["id"] for one in await system.persons("T1") if one["wanted"] == "present"} == {IDS[0], IDS[-1]}


async def with_members(system: PersonSystem) -> GroupSystem:
    groups = GroupSystem(system)
    sns = [f"T{number:04}" for number in range(MEMBERS)]
    for sn in sns:
        system.registry.put(known_terminal(sn, groups=("staff",)))
    for start in range(0, MEMBERS, 100):
        await system.person_service.follow_groups(*sns[start : start + 100])
    return groups


async def test_a_change_of_a_group_is_accepted_in_portions(tmp_path: Path) -> None:
    """Only the job of each member is a row; the persons of the members change in batches."""
    persons = 20
    async with person_system(tmp_path, sns=()) as system:
        groups = await with_members(system)
        with counted(system.database) as counter:
            replies = await groups.change("staff", SetPersons(persons=[person(one) for one in IDS[:persons]]))
        assert len(replies) == persons * MEMBERS
        assert {reply.outcome for reply in replies} == {Outcome.ACCEPTED}
        assert counter.longest["group_person"] == 10
        # The writer may take a batch of the job, which changes rows of members too, into the same transaction.
        assert MEMBERS <= counter.longest["group_change_member"] < 2 * MEMBERS


async def test_members_are_checked_before_the_transaction(tmp_path: Path) -> None:
    async with person_system(tmp_path, sns=()) as system:
        groups = await with_members(system)
        await system.set(person("p1"), sn="T0005")

        def hold(connection: Connection) -> None:
            """Let half of the members hold the person; a set for all would take long."""
            columns = ", ".join(column.name for column in PERSON_ENTRY.c if column.name not in ("sn", "revision"))
            connection.exec_driver_sql(
                f"INSERT INTO person_entry (sn, revision, {columns}) SELECT m.sn, 1000 + m.rowid, "
                + ", ".join(f"e.{one}" for one in columns.split(", "))
                + " FROM group_member m JOIN person_entry e ON e.sn = 'T0005' AND e.person_id = 'p1'"
                " WHERE m.group_name = 'staff' AND m.sn >= 'T0600'"
            )

        await system.database.write(hold)
        replies = await groups.change("staff", SetPersons(persons=[{"id": "p1", "name": "Bo"}]))
        accepted = {reply.sn for reply in replies if reply.outcome is Outcome.ACCEPTED}
        assert accepted == {"T0005", *(f"T{number:04}" for number in range(600, MEMBERS))}
        assert len(replies) == MEMBERS
        message = ReceivedMessage(digest="x", packet_id=1)
        change = SetPersons(persons=[{"id": "p1", "name": "Cy"}])
        sns = tuple(known.terminal.sn for known in system.registry.members("staff"))
        for again in (False, True):
            redelivered = ReceivedMessage(digest="x", packet_id=1, is_redelivered=True)
            command = PersonCommand(
                group="staff", sns=sns, change=change, origin=ORIGIN, message=redelivered if again else message
            )
            (replies,) = await system.person_service.change([command])
            assert {reply.sn for reply in replies if reply.outcome is Outcome.ACCEPTED} == accepted
            assert {reply.is_repeated for reply in replies} == {again}
            assert len(replies) == MEMBERS


async def test_a_change_by_another_program_during_the_check_is_noticed(
    system: PersonSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = GroupSystem(system)
    sns = [f"T{number:03}" for number in range(120)]
    for sn in sns:
        await groups.put(sn, "staff")

    async def read_then_remove(*arguments: Any) -> MemberStates:
        states = await read_states(*arguments)
        # As `facebridge persons purge` does, which takes no place in the order of the bridge.
        await system.transactions.run(_remove_from("T003"))
        return states

    monkeypatch.setattr("bridge.persons.service.read_states", read_then_remove)
    await groups.change("staff", SetPersons(persons=[person("p1")]))
    await groups.jobs_done()
    replies = await groups.change("staff", SetPersons(persons=[{"id": "p1", "name": "Bo"}]))
    assert [reply.sn for reply in replies if reply.outcome is Outcome.INVALID] == ["T003"]
    await groups.jobs_done()
    assert (await groups.access("T003"), await groups.access("T004")) == ({}, {"p1": ("Bo", ["staff"])})


def _remove_from(sn: str) -> Callable[[PersonTransaction], None]:
    request = RequestContext(command="removePerson", request_id=None, origin=ORIGIN, received_at=0, boot_id="b")
    return lambda transaction: changes.remove_persons(transaction, sn, ["p1"], request)


async def test_a_removal_from_a_group_without_members_is_recognised(system: PersonSystem) -> None:
    groups = GroupSystem(system)
    await groups.put("T9", "empty")
    await groups.change("empty", SetPersons(persons=[person("p1")]))
    await groups.put("T9")
    message = ReceivedMessage(digest="x", packet_id=1)
    again = ReceivedMessage(digest="x", packet_id=1, is_redelivered=True)
    for one in (message, again):
        command = PersonCommand(group="empty", change=RemovePersons(ids=("p1",)), origin=ORIGIN, message=one)
        ((reply,),) = await system.person_service.change([command])
        assert (reply.sn, reply.person_id, reply.outcome) == (None, "p1", Outcome.ACCEPTED)
        assert reply.is_repeated is (one is again)
