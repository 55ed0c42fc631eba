"""Persons, syncs and last words kept in a real store."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.person import ALWAYS, Person
from bridge.model.person_entry import DeliveryState, FinalReply, OpenSync, PersonEntry, RequestContext
from bridge.model.reply import Reply
from bridge.model.terminal import PersonCounts
from bridge.store.database import Database
from bridge.store.outbox import StoredOutbox
from bridge.store.persons import StoredPersons

AT = datetime(2026, 11, 24, 8, 0, 0, 123000, tzinfo=UTC)
ORIGIN = Origin(source="t", user="ann", response_topic="answers", correlation_data=b"\x00\xff", assured=False)
ASKED = RequestContext(command="setPerson", request_id="r1", origin=ORIGIN, received_at=12.5, boot_id="b")
PERSON = Person(
    id="p1",
    name="Zoë 门",
    card="42",
    id_number="7",
    photo="a" * 64,
    valid_from=1.5,
    valid_until=2e9,
    pass_count=0,
    visitor=True,
    weekly=ALWAYS,
    enabled=True,
)


def entry(revision: int, person_id: str | None = "p1", **details: Any) -> PersonEntry:
    values: dict[str, Any] = {
        "sn": "T1",
        "person": None,
        "delivery": DeliveryState.PENDING,
        "confirmed_revision": None,
        "status": None,
        "message": None,
        "changed_at": AT,
        **details,
    }
    return PersonEntry(person_id=person_id, revision=revision, **values)


@pytest.fixture
def persons(database: Database) -> StoredPersons:
    return StoredPersons(database)


async def test_entries_come_back_as_they_were_put(persons: StoredPersons) -> None:
    full = entry(
        1,
        person=PERSON,
        delivery=DeliveryState.REFUSED,
        confirmed_revision=1,
        status=-3,
        message="no face",
        request=ASKED,
    )
    removal = entry(2, None)
    async with persons.transaction() as transaction:
        await transaction.add_photos({"a" * 64: b"jpeg"})
        await transaction.put([full, removal])
        assert await transaction.entries("T1", ["p1", None, "nobody"]) == [removal, full]
    assert await persons.entry("T1", "p1") == full
    assert await persons.entry("T2", "p1") is None
    assert await persons.pending("T1", 10) == [removal]
    assert await persons.page("T1", "", 10) == [full]
    assert await persons.photo("a" * 64) == b"jpeg"


async def test_a_person_without_its_photo_cannot_be_kept(persons: StoredPersons) -> None:
    async def put() -> None:
        async with persons.transaction() as transaction:
            await transaction.put([entry(1, person=PERSON)])

    with pytest.raises(UnavailableError):
        await put()
    assert await persons.entry("T1", "p1") is None


async def test_many_at_once(persons: StoredPersons) -> None:
    ids = [f"p{number:04}" for number in range(1200)]
    async with persons.transaction() as transaction:
        entries = [entry(number, person_id) for number, person_id in enumerate(ids)]
        await transaction.put(entries)
        assert len(await transaction.entries("T1", ids)) == 1200
        seen = [len(batch) async for batch in transaction.scan("T1", before=1000, limit=300)]
        assert seen == [300, 300, 300, 100]
        await transaction.drop(entries[:1100])
        assert await transaction.first_pending("T1") == 1100
    assert len(await persons.page("T1", "p1149", 100)) == 50


async def test_counts_tell_apart_what_is_held_and_how_far_it_is(persons: StoredPersons) -> None:
    async with persons.transaction() as transaction:
        await transaction.add_photos({"a" * 64: b""})
        await transaction.put(
            [
                entry(1, "held", person=PERSON, delivery=DeliveryState.CONFIRMED),
                entry(2, "on its way", person=PERSON),
                entry(3, "unfit", person=PERSON, delivery=DeliveryState.REFUSED),
                entry(4, "off", person=Person(id="off", name="Off", photo="a" * 64, enabled=False)),
                entry(5, "gone", delivery=DeliveryState.REFUSED),
                entry(6, None),
                entry(7, "elsewhere", sn="T2"),
            ]
        )
    assert await persons.counts() == {
        "T1": PersonCounts(desired=3, confirmed=1, pending=3, refused=2),
        "T2": PersonCounts(pending=1),
    }


async def test_a_revision_is_given_out_once(persons: StoredPersons) -> None:
    async with persons.transaction() as transaction:
        assert await transaction.next_revisions(3) == 1
        assert await transaction.next_revisions(0) == 4
    async with persons.transaction() as transaction:
        assert await transaction.next_revisions(1) == 4


async def test_syncs_are_kept_until_they_end(persons: StoredPersons) -> None:
    async with persons.transaction() as transaction:
        await transaction.add_sync(OpenSync(sn="T1", revision=3, request=ASKED))
        await transaction.add_sync(OpenSync(sn="T2", revision=4, request=ASKED))
        await transaction.extend_syncs("T1", 9)
        first, second = await transaction.syncs(["T1", "T2", "T3"])
        assert (first.sn, first.revision, first.request, second.revision) == ("T1", 9, ASKED, 4)
        await transaction.drop_syncs([first.id])
        assert await transaction.syncs(["T1", "T2"]) == [second]


async def test_last_words_are_kept_in_order_until_they_are_dropped(persons: StoredPersons, database: Database) -> None:
    outbox = StoredOutbox(database)
    words = [
        FinalReply(
            reply=Reply(
                command="setPerson",
                outcome=outcome,
                at=AT,
                request_id="r1",
                msgid="m1",
                sn="T1",
                person_id="p1",
                status=0,
                message="ok",
                delivered=True,
                duration_ms=1.5,
            ),
            origin=ORIGIN,
        )
        for outcome in (Outcome.OK, Outcome.REFUSED, Outcome.SUPERSEDED)
    ]
    async with persons.transaction() as transaction:
        await transaction.tell(words)
        assert await transaction.last_word_id() == 3
    kept = await outbox.between(0, 3, 10)
    assert [word.reply for word in kept] == [word.reply for word in words]
    assert {word.origin for word in kept} == {ORIGIN}
    assert [word.id for word in await outbox.between(1, 2, 10)] == [2]
    await outbox.drop([1, 3])
    assert [word.id for word in await outbox.between(0, 3, 10)] == [2]
    await outbox.drop([2])
    assert await outbox.last_id() == 0
    async with persons.transaction() as transaction:
        # An id that was given out does not come again.
        await transaction.tell(words[:1])
        assert await transaction.last_word_id() == 4
