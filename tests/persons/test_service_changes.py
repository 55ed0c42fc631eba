"""Changes are accepted, merged and superseded in the order of their requests."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from bridge.core.ports import PersonCommand
from bridge.model.commands import RemovePersons, SetPersons
from bridge.model.events import PersonsChanged, PersonSettled
from bridge.model.origin import Origin
from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.protocol.encoding import escape_photo
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import SetPersonRequest
from bridge.simulator.faces import sample_photo
from bridge.store.tables import PHOTO as PHOTO_TABLE
from tests.persons.person_system import (
    ORIGIN,
    OTHER_PHOTO,
    PHOTO,
    PersonSystem,
    person,
    person_system,
    requests,
    sent,
    silent,
)
from tests.support.core import collect
from tests.support.waiting import until

ACCEPTED = Outcome.ACCEPTED
LARGE_PHOTO = base64.b64encode(sample_photo(3, (960, 1280))).decode()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PersonSystem]:
    async with person_system(tmp_path) as system:
        yield system


async def test_a_person_is_accepted_sent_and_reported(system: PersonSystem) -> None:
    connection = system.connect()
    ((accepted,),) = await system.change(SetPersons(persons=[person("p1", card="42")], request_id="r1"))
    assert (accepted.command, accepted.outcome, accepted.request_id, accepted.person_id, accepted.sn) == (
        "setPerson",
        ACCEPTED,
        "r1",
        "p1",
        "T1",
    )
    (final_reply,) = await system.final_replies(1)
    assert final_reply.origin == ORIGIN
    reply = final_reply.reply
    assert (reply.command, reply.outcome, reply.request_id, reply.person_id) == ("setPerson", Outcome.OK, "r1", "p1")
    assert (reply.status, reply.message, reply.delivered, reply.duration_ms) == (0, "ok", True, 0.0)
    (request,) = requests(connection)
    assert isinstance(request, SetPersonRequest)
    assert (request.msgid, request.person.name, request.person.card) == (reply.msgid, "Name of p1", "42")
    assert system.person_service.counts("T1") == PersonCounts(desired=1, confirmed=1)


async def test_each_person_of_a_list_has_its_own_outcome(system: PersonSystem) -> None:
    ((first, second, third),) = await system.change(
        SetPersons(persons=[person("p1"), {"id": "p2", "nonsense": 1}, {"name": "no id"}])
    )
    assert [reply.outcome for reply in (first, second, third)] == [ACCEPTED, Outcome.INVALID, Outcome.INVALID]
    assert [reply.person_id for reply in (first, second, third)] == ["p1", "p2", None]
    assert [fault.path for fault in second.faults] == ["persons.1.nonsense"]
    assert [fault.path for fault in third.faults] == ["persons.2.id"]
    assert await system.delivery() == {"p1": "pending"}


async def test_the_faults_of_a_single_person_have_no_position(system: PersonSystem) -> None:
    ((reply,),) = await system.change(SetPersons(persons=[{"id": "p1", "name": "New"}]))
    assert reply.outcome is Outcome.INVALID
    assert [fault.path for fault in reply.faults] == ["photo"]
    assert await system.persons("T1") == []


async def test_a_partial_change_is_merged_into_what_is_stored(system: PersonSystem) -> None:
    connection = system.connect()
    await system.set(person("p1", card="42"))
    await system.set({"id": "p1", "name": "Renamed"})
    await system.settled()
    request = requests(connection)[-1]
    assert isinstance(request, SetPersonRequest)
    assert (request.person.name, request.person.card) == ("Renamed", "42")
    (listed,) = await system.persons("T1")
    assert (listed["name"], listed["card"], listed["delivery"], "photo" in listed) == (
        "Renamed",
        "42",
        "confirmed",
        False,
    )


async def test_the_same_person_is_sent_again_though_nothing_differs(system: PersonSystem) -> None:
    connection = system.connect()
    for _ in range(3):
        await system.set(person("p1"))
        await system.settled()
    assert sent(connection) == ["set p1"] * 3


async def test_a_disabled_person_stays_stored_but_is_removed_from_the_terminal(system: PersonSystem) -> None:
    connection = system.connect()
    await system.set(person("p1"))
    await system.settled()
    await system.set({"id": "p1", "enabled": False}, request_id="off")
    assert (await system.final_outcomes(2))[1] == ("off", "p1", "ok")
    assert system.person_service.counts("T1") == PersonCounts()
    assert await system.delivery() == {"p1": "confirmed"}
    await system.set({"id": "p1", "enabled": True})
    await system.settled()
    assert sent(connection) == ["set p1", "remove p1", "set p1"]


async def test_the_removal_of_an_unknown_person_is_sent(system: PersonSystem) -> None:
    connection = system.connect()
    assert await system.remove("stranger", "other", "stranger", request_id="r1") == [ACCEPTED, ACCEPTED]
    assert await system.final_outcomes(2) == [("r1", "stranger", "ok"), ("r1", "other", "ok")]
    assert sent(connection) == ["remove stranger", "remove other"]
    assert system.person_service.counts("T1") == PersonCounts()


async def test_a_removed_person_is_new_when_set_again(system: PersonSystem) -> None:
    await system.set(person("p1"))
    await system.remove("p1")
    assert await system.delivery() == {}
    assert await system.set({"id": "p1", "name": "Back"}) == [Outcome.INVALID]
    assert await system.set(person("p1")) == [ACCEPTED]


async def test_undelivered_changes_are_superseded_in_order(system: PersonSystem) -> None:
    await system.set(person("p1"), request_id="first")
    await system.set({"id": "p1", "name": "Second"}, request_id="second")
    await system.remove("p1", request_id="third")
    assert await system.final_outcomes(2) == [("first", "p1", "superseded"), ("second", "p1", "superseded")]
    connection = system.connect()
    assert await system.final_outcomes(1) == [("third", "p1", "ok")]
    assert sent(connection) == ["remove p1"]


async def test_the_same_person_twice_in_a_list(system: PersonSystem) -> None:
    assert await system.set(person("p1"), {"id": "p1", "card": "7"}, request_id="r") == [ACCEPTED, ACCEPTED]
    assert await system.final_outcomes(1) == [("r", "p1", "superseded")]
    connection = system.connect()
    assert await system.final_outcomes(1) == [("r", "p1", "ok")]
    (request,) = requests(connection)
    assert isinstance(request, SetPersonRequest)
    assert request.person.card == "7"


async def test_the_reply_superseded_has_the_origin_of_its_request(system: PersonSystem) -> None:
    await system.set(person("p1"), request_id="r")
    await system.remove("p1")
    (final_reply,) = await system.final_replies(1)
    assert final_reply.origin == ORIGIN
    assert (final_reply.reply.command, final_reply.reply.status, final_reply.reply.delivered) == (
        "setPerson",
        None,
        None,
    )
    assert final_reply.reply.message == "a later change took its place"


async def test_removing_everyone_keeps_the_order_of_changes(system: PersonSystem) -> None:
    await system.set(person("p1"), person("p2"), request_id="before")
    await system.remove_everyone(request_id="all")
    await system.set(person("p2"), person("p3"), request_id="after")
    assert sorted(await system.final_outcomes(2)) == [("before", "p1", "superseded"), ("before", "p2", "superseded")]
    assert await system.delivery() == {"p2": "pending", "p3": "pending"}
    connection = system.connect()
    assert await system.final_outcomes(3) == [("all", None, "ok"), ("after", "p2", "ok"), ("after", "p3", "ok")]
    assert sent(connection) == ["remove everyone", "set p2", "set p3"]
    assert system.person_service.counts("T1") == PersonCounts(desired=2, confirmed=2)


async def test_no_change_overtakes_the_removal_of_everyone(system: PersonSystem) -> None:
    connection = system.connect(answer=silent)
    await system.remove_everyone()
    await system.set(person("p1"))
    await until(lambda: connection.frames)
    assert sent(connection) == ["remove everyone"]


async def test_a_later_removal_of_everyone_supersedes_the_earlier(system: PersonSystem) -> None:
    await system.remove_everyone(request_id="first")
    await system.remove_everyone(request_id="second")
    assert await system.final_outcomes(1) == [("first", None, "superseded")]
    connection = system.connect()
    assert await system.final_outcomes(1) == [("second", None, "ok")]
    assert sent(connection) == ["remove everyone"]


async def test_qos_0_is_mentioned(system: PersonSystem) -> None:
    ((reply,),) = await system.change(SetPersons(persons=[person("p1")]), origin=Origin(source="test", assured=False))
    assert reply.outcome is ACCEPTED
    assert "QoS 0" in (reply.message or "")


async def test_several_requests_are_one_change_in_their_order(system: PersonSystem) -> None:
    to_both = SetPersons(persons=[person("p1")])
    now = system.clock.boottime()
    replies = await system.person_service.change(
        [
            PersonCommand(sns=("T1",), change=to_both, origin=ORIGIN, received_at=now),
            PersonCommand(sns=("T2",), change=to_both, origin=ORIGIN, received_at=now),
            PersonCommand(sns=("T1",), change=RemovePersons(ids=("p1",)), origin=ORIGIN, received_at=now),
        ]
    )
    assert [[reply.outcome for reply in of_request] for of_request in replies] == [[ACCEPTED]] * 3
    assert (await system.delivery("T1"), await system.delivery("T2")) == ({}, {"p1": "pending"})


async def test_concurrent_changes_take_effect_in_their_order(system: PersonSystem) -> None:
    # The first has a picture to prepare in a thread, the second has none and is ready long before.
    first, second = await asyncio.gather(system.set(person("p1")), system.set({"id": "p1", "name": "Second"}))
    assert (first, second) == ([ACCEPTED], [ACCEPTED])
    (listed,) = await system.persons("T1")
    assert listed["name"] == "Second"


async def test_persons_are_listed_by_id_in_full(system: PersonSystem) -> None:
    await system.set(*(person(f"p{number:04}") for number in range(250)))
    assert list(await system.delivery()) == [f"p{number:04}" for number in range(250)]
    (one,) = await system.persons("T1", "p0042")
    assert one["id"] == "p0042"
    assert await system.persons("T1", "p9999") == []


async def test_one_photo_for_all_terminals_until_it_is_unused(system: PersonSystem) -> None:
    async def photos() -> int:
        return await system.read(
            lambda connection: int(connection.exec_driver_sql("SELECT count(*) FROM photo").scalar_one())
        )

    await system.set(person("p1"), person("p2"))
    await system.set(person("p1"), sn="T2")
    assert await photos() == 1
    await system.set({"id": "p1", "photo": OTHER_PHOTO})
    assert await photos() == 2
    await system.set({"id": "p1", "photo": PHOTO})
    assert await photos() == 1
    await system.set({"id": "p1", "enabled": False})
    await system.remove("p2")
    await system.remove_everyone(sn="T2")
    assert await photos() == 1
    await system.remove("p1")
    assert await photos() == 0


async def test_events_follow_the_commit(system: PersonSystem) -> None:
    events = collect(system.events, PersonsChanged, PersonSettled)
    await system.set(person("p1"), request_id="r")
    await system.remove("p1")
    # The caller publishes `accepted`; no event may overtake it.
    assert [type(event) for event in events] == [PersonsChanged]
    await until(lambda: len(events) == 3)
    settled = [event.reply.outcome for event in events if isinstance(event, PersonSettled)]
    assert settled == [Outcome.SUPERSEDED]


async def test_changes_take_effect_in_the_order_of_the_calls(system: PersonSystem) -> None:
    async with asyncio.TaskGroup() as group:
        # Its photo takes longer than everything that the others need.
        first = group.create_task(system.set(person("p1", photo=LARGE_PHOTO)))
        cancelled = group.create_task(system.set({"id": "p1", "card": "1"}))
        last = group.create_task(system.set({"id": "p1", "name": "Last"}))
        await asyncio.sleep(0)
        cancelled.cancel()
    assert (first.result(), last.result()) == ([ACCEPTED], [ACCEPTED])
    (listed,) = await system.persons("T1")
    assert (listed["name"], listed["card"]) == ("Last", None)


async def test_forgetting_a_terminal_sends_final_replies(system: PersonSystem) -> None:
    await system.set(person("p1"), request_id="r1")
    await system.sync(request_id="r2")
    await system.set(person("p1"), sn="T2")
    await system.person_service.forget("T1")
    assert await system.final_outcomes(2) == [("r1", "p1", "superseded"), ("r2", None, "superseded")]
    assert await system.persons("T1") == []
    assert system.person_service.counts("T1") == PersonCounts()
    assert await system.delivery("T2") == {"p1": "pending"}


async def test_a_sync_sends_everything_again(system: PersonSystem) -> None:
    await system.set(person("p1"), person("p2"), person("p3"), person("off", enabled=False), request_id="set")
    connection = system.connect()
    await system.final_outcomes(4)
    await system.set(person("p3"), request_id="again")
    connection.frames.clear()
    assert await system.sync(request_id="sync") == [ACCEPTED]
    outcomes = await system.final_outcomes(2)
    assert ("again", "p3", "ok") in outcomes
    assert outcomes[-1] == ("sync", None, "ok")
    assert sorted(set(sent(connection))) == ["set p1", "set p2", "set p3"]
    assert system.person_service.counts("T1") == PersonCounts(desired=3, confirmed=3)


async def test_a_sync_without_persons_is_ok_at_once(system: PersonSystem) -> None:
    assert await system.sync(request_id="r") == [ACCEPTED]
    (final_reply,) = await system.final_replies(1)
    assert (final_reply.reply.command, final_reply.reply.request_id, final_reply.reply.outcome) == (
        "syncPersons",
        "r",
        Outcome.OK,
    )


async def test_a_sync_with_clear_removes_everyone_first_and_keeps_the_persons(system: PersonSystem) -> None:
    await system.set(person("p1"), person("p2"))
    connection = system.connect()
    await system.final_outcomes(2)
    connection.frames.clear()
    await system.sync(request_id="r", clear=True)
    assert await system.final_outcomes(1) == [("r", None, "ok")]
    assert sent(connection) == ["remove everyone", "set p1", "set p2"]
    assert await system.delivery() == {"p1": "confirmed", "p2": "confirmed"}


async def test_a_sync_waits_for_its_own_changes_only(system: PersonSystem) -> None:
    await system.set(person("p1"), request_id="r1")
    await system.sync(request_id="s1")
    await system.sync(request_id="s2")
    await system.remove_everyone(request_id="all")
    assert await system.final_outcomes(3) == [("r1", "p1", "superseded"), ("s1", None, "ok"), ("s2", None, "ok")]


async def test_requests_go_on_waiting_during_a_sync(system: PersonSystem) -> None:
    await system.remove_everyone(request_id="all")
    await system.set(person("p1"), request_id="set")
    await system.remove("stranger", request_id="gone")
    await system.sync(request_id="s1")
    await system.sync(request_id="s2", clear=True)
    connection = system.connect()
    assert await system.final_outcomes(5) == [
        ("all", None, "ok"),
        ("gone", "stranger", "ok"),
        ("set", "p1", "ok"),
        ("s1", None, "ok"),
        ("s2", None, "ok"),
    ]
    assert sent(connection) == ["remove everyone", "remove stranger", "set p1"]


async def test_setting_the_same_picture_again_repairs_a_damaged_photo(system: PersonSystem) -> None:
    await system.set(person("p1"))
    await system.database.write(lambda connection: connection.execute(update(PHOTO_TABLE).values(jpeg=b"damaged")))
    await system.set(person("p1"))
    connection = system.connect()
    await system.settled()
    (request,) = requests(connection)
    assert isinstance(request, SetPersonRequest)
    assert request.person.photo == escape_photo(PHOTO)


async def test_a_repaired_photo_is_sent_where_the_bridge_refused_it(tmp_path: Path) -> None:
    def refuse(msgid: str) -> TerminalReply:
        return TerminalReply(msgid, None, 7, "no face")

    sns = ["T1", "T2", "T3"]
    async with person_system(tmp_path, sns=sns) as system:
        for sn in sns:
            await system.set(person("p1"), person("p2", photo=OTHER_PHOTO), sn=sn)
        system.connect("T3", refuse)
        await until(lambda: system.person_service.counts("T3").refused == 2)
    # A new process has no photos in its cache.
    async with person_system(tmp_path, sns=sns) as system:
        await system.database.write(lambda connection: connection.execute(update(PHOTO_TABLE).values(jpeg=b"damaged")))
        refusing = system.connect("T3", refuse)
        other = system.connect("T2")
        await until(lambda: system.person_service.counts("T2").refused == 2)
        connection = system.connect("T1")
        await until(lambda: system.person_service.counts("T1").refused == 2)
        await system.set(person("p1"))
        await until(lambda: sent(connection) == sent(other) == ["set p1"])
        await until(lambda: system.person_service.counts("T2") == PersonCounts(desired=2, confirmed=1, refused=1))
        assert await system.delivery("T2") == {"p1": "confirmed", "p2": "refused"}
        assert sent(refusing) == [], "the terminal itself has refused them, and would do so again"
