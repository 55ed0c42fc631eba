"""A message whose change is stored is not applied again: a redelivery of the broker, or one with `asked_at`."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from bridge.core.ports import PersonCommand
from bridge.model.commands import PersonChange, RemovePersons, SetPersons, SyncPersons
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome, Reply
from bridge.persons.maintenance import MessageExpiryJob
from bridge.protocol.replies import TerminalReply
from bridge.store.received_messages import KEPT_DELIVERIES, REMEMBERED
from bridge.store.tables import RECEIVED_MESSAGE
from tests.persons.person_system import ORIGIN, PersonSystem, person, person_system, sent
from tests.support.failing_commit import failing_commit
from tests.support.postgresql import PostgreSQL
from tests.support.waiting import until

SET_P1 = SetPersons(persons=[person("p1")], request_id="r")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PersonSystem]:
    place: Path | str = tmp_path
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        place = await server.new_url()
    async with person_system(place) as system:
        yield system


def delivery(packet_id: int, digest: str = "x", *, again: bool = False) -> ReceivedMessage:
    return ReceivedMessage(digest=digest, packet_id=packet_id, is_redelivered=again)


def dated(digest: str = "x") -> ReceivedMessage:
    return ReceivedMessage(digest=digest, is_dated=True)


async def receive(
    system: PersonSystem, message: ReceivedMessage, change: PersonChange = SET_P1, sns: Sequence[str] = ("T1",)
) -> list[Reply]:
    """Pass a message to the service; return its replies."""
    now = system.clock.boottime()
    command = PersonCommand(sns=tuple(sns), change=change, origin=ORIGIN, received_at=now, message=message)
    (replies,) = await system.person_service.change([command])
    return list(replies)


def outcomes(replies: Sequence[Reply]) -> list[tuple[str, bool]]:
    return [(reply.outcome.value, reply.is_repeated) for reply in replies]


async def number_of_messages(system: PersonSystem) -> int:
    def count(connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(RECEIVED_MESSAGE)).scalar_one()

    return await system.read(count)


async def test_a_redelivered_change_does_not_undo_a_newer_one(system: PersonSystem) -> None:
    await receive(system, delivery(1))
    await system.remove("p1")
    assert outcomes(await receive(system, delivery(1, again=True))) == [("superseded", True)]
    connection = system.connect()
    await system.settled()
    assert sent(connection) == ["remove p1"]
    assert await system.delivery() == {}


async def test_the_last_known_reply_is_given(system: PersonSystem) -> None:
    (first,) = await receive(system, delivery(1))
    assert outcomes([first]) == [("accepted", False)]
    (again,) = await receive(system, delivery(1, again=True))
    assert again.as_json() == first.as_json()
    system.connect()
    await system.settled()
    (final,) = await system.final_replies(1)
    (again,) = await receive(system, delivery(1, again=True))
    assert again.as_json() == final.reply.as_json()


async def test_each_person_of_a_list_gets_its_reply_again(system: PersonSystem) -> None:
    change = SetPersons(persons=[person("p1"), {"id": "p2", "name": "no photo"}, person("p3")])
    first = await receive(system, delivery(1), change)
    again = await receive(system, delivery(1, again=True), change)
    assert outcomes(again) == [("accepted", True), ("invalid", True), ("accepted", True)]
    assert [reply.as_json() for reply in again] == [reply.as_json() for reply in first]


async def test_a_list_gets_the_last_known_reply_of_each_person_again(system: PersonSystem) -> None:
    change = SetPersons(persons=[person("p1"), {"id": "p2", "name": "no photo"}, person("p3"), person("p1")])
    first = await receive(system, delivery(1), change, ("T1", "T2"))
    system.connect("T1", lambda msgid: TerminalReply(msgid, None, 0, "ok"))
    await system.settled("T1")
    again = await receive(system, delivery(1, again=True), change, ("T1", "T2"))
    assert [(reply.sn, reply.person_id, reply.outcome.value) for reply in again] == [
        ("T1", "p1", "superseded"),
        ("T1", "p2", "invalid"),
        ("T1", "p3", "ok"),
        ("T1", "p1", "ok"),
        ("T2", "p1", "superseded"),
        ("T2", "p2", "invalid"),
        ("T2", "p3", "accepted"),
        ("T2", "p1", "accepted"),
    ]
    assert [first[index].as_json() for index in (1, 6)] == [again[index].as_json() for index in (1, 6)]
    final = [entry.reply.as_json() for entry in await system.final_replies(4)]
    assert [reply.as_json() in final for reply in again[:4]] == [True, False, True, True]
    assert all(reply.is_repeated for reply in again)


async def test_a_sync_of_several_terminals_gets_ok_again(system: PersonSystem) -> None:
    await system.set(person("p1"))
    system.connect()
    await system.settled()
    sync = SyncPersons()
    assert outcomes(await receive(system, delivery(1), sync, ("T1", "T2"))) == [("accepted", False)] * 2
    await system.settled()
    await until(lambda: not system.transactions.running)
    assert outcomes(await receive(system, delivery(1, again=True), sync, ("T1", "T2"))) == [("ok", True)] * 2


async def test_a_long_list_gets_its_first_replies_again(system: PersonSystem) -> None:
    """Each final reply would read and write all of them."""
    change = RemovePersons(ids=tuple(f"p{number}" for number in range(101)))
    await receive(system, delivery(1), change)
    await system.set(person("p7"))
    again = await receive(system, delivery(1, again=True), change)
    assert {reply.outcome for reply in again} == {Outcome.ACCEPTED}


@pytest.mark.parametrize(
    "other",
    [delivery(1), delivery(2, again=True), delivery(1, "y", again=True), ReceivedMessage(digest="x")],
    ids=["not sent before", "another packet id", "another payload", "QoS 0"],
)
async def test_other_messages_are_applied(system: PersonSystem, other: ReceivedMessage) -> None:
    await receive(system, delivery(1))
    await system.remove("p1")
    assert outcomes(await receive(system, other)) == [("accepted", False)]
    assert await system.delivery() == {"p1": "pending"}


async def test_packet_ids_of_an_earlier_session_do_not_count(system: PersonSystem) -> None:
    await receive(system, delivery(1))
    await system.person_service.forget_deliveries()
    assert outcomes(await receive(system, delivery(1, again=True))) == [("accepted", False)]


async def test_a_packet_id_belongs_to_its_last_message(system: PersonSystem) -> None:
    await receive(system, delivery(1, "x"))
    await receive(system, delivery(1, "y"))
    assert outcomes(await receive(system, delivery(1, "x", again=True))) == [("accepted", False)]


async def test_what_was_not_stored_is_applied(system: PersonSystem) -> None:
    with failing_commit(system.database, is_stored=False, times=1):
        assert outcomes(await receive(system, delivery(1))) == [("unavailable", False)]
    assert outcomes(await receive(system, delivery(1, again=True))) == [("accepted", False)]


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
async def test_a_message_that_is_tried_again_after_a_lost_answer(system: PersonSystem, is_stored: bool) -> None:
    message = delivery(1)
    with failing_commit(system.database, is_stored=is_stored, times=1):
        assert outcomes(await receive(system, message)) == [("unavailable", False)]
    # The broker has not delivered it again: this is its first reply.
    assert outcomes(await receive(system, message)) == [("accepted", False)]
    system.connect()
    await system.settled()
    assert await system.final_outcomes(1) == [("r", "p1", "ok")]


async def test_what_was_stored_without_an_answer_is_not_applied_again(system: PersonSystem) -> None:
    with failing_commit(system.database, is_stored=True, times=1):
        assert outcomes(await receive(system, delivery(1))) == [("unavailable", False)]
    await system.remove("p1")
    assert outcomes(await receive(system, delivery(1, again=True))) == [("superseded", True)]


async def test_messages_are_remembered_over_a_restart(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await receive(system, delivery(1))
        await receive(system, dated("y"), RemovePersons(ids=("p2",)))
    async with person_system(tmp_path) as system:
        assert outcomes(await receive(system, delivery(1, again=True))) == [("accepted", True)]
        assert outcomes(await receive(system, dated("y"), RemovePersons(ids=("p2",)))) == [("accepted", True)]


async def test_only_the_newest_deliveries_are_kept(system: PersonSystem) -> None:
    change = RemovePersons(ids=("p1",))
    await receive(system, dated("dated"), change)
    requests = [
        PersonCommand(sns=("T1",), change=change, origin=ORIGIN, received_at=0, message=delivery(number))
        for number in range(1, KEPT_DELIVERIES + 11)
    ]
    await system.person_service.change(requests)
    assert await number_of_messages(system) == KEPT_DELIVERIES + 1
    assert outcomes(await receive(system, delivery(11, again=True), change)) == [("superseded", True)]
    assert outcomes(await receive(system, delivery(10, again=True), change)) == [("accepted", False)]


async def test_a_command_with_asked_at_is_carried_out_once_within_seven_days(system: PersonSystem) -> None:
    assert outcomes(await receive(system, dated())) == [("accepted", False)]
    await system.remove("p1")
    await _pass(system, REMEMBERED - timedelta(seconds=1))
    assert outcomes(await receive(system, dated())) == [("superseded", True)]
    assert await system.delivery() == {}
    assert outcomes(await receive(system, dated("another time"))) == [("accepted", False)]
    await _pass(system, timedelta(seconds=2))
    assert outcomes(await receive(system, dated())) == [("accepted", False)]


async def test_equal_commands_with_asked_at_that_arrive_together(system: PersonSystem) -> None:
    requests = [
        PersonCommand(sns=("T1", "T2"), change=SET_P1, origin=ORIGIN, received_at=0, message=message)
        for message in (dated(), dated())
    ]
    replies = [reply for replies in await system.person_service.change(requests) for reply in replies]
    assert [(reply.sn, *one) for reply, one in zip(replies, outcomes(replies), strict=True)] == [
        ("T1", "accepted", False),
        ("T2", "accepted", False),
        ("T1", "accepted", True),
        ("T2", "accepted", True),
    ]


async def test_an_invalid_command_with_asked_at_may_be_sent_again(system: PersonSystem) -> None:
    change = SetPersons(persons=[{"id": "p1", "name": "Ada"}])
    assert outcomes(await receive(system, dated(), change)) == [("invalid", False)]
    await system.set(person("p1"))
    assert outcomes(await receive(system, dated(), change)) == [("accepted", False)]


async def test_expired_and_too_many_commands_with_asked_at_are_deleted(system: PersonSystem) -> None:
    async def receive_many(prefix: str, number: int) -> None:
        requests: list[Any] = [
            PersonCommand(sns=("T1",), change=SET_P1, origin=ORIGIN, received_at=0, message=dated(f"{prefix}{index}"))
            for index in range(number)
        ]
        replies = await system.person_service.change(requests)
        assert all(reply.outcome is Outcome.ACCEPTED for one in replies for reply in one)

    await receive_many("old", 150)
    await _pass(system, REMEMBERED)
    await receive_many("new", 120)
    await MessageExpiryJob(system.transactions.context).drop_expired()
    assert await number_of_messages(system) == 120
    await MessageExpiryJob(system.transactions.context, keep=100).drop_expired()
    assert await number_of_messages(system) == 100


async def _pass(system: PersonSystem, time: timedelta) -> None:
    system.clock.seconds += time.total_seconds()  # type: ignore[attr-defined]  # a ManualClock
