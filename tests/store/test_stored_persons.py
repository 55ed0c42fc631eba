"""Queries about persons, syncs and final replies in a real store."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.person import ALWAYS, Person
from bridge.model.person_entry import DeliveryState, FinalReply, OpenSync, PersonEntry, RequestContext
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts
from bridge.store import person_queries as queries
from bridge.store.database import Database
from bridge.store.photos import PLAIN, add_photos, read_photo

PHOTO = hashlib.sha256(b"jpeg").hexdigest()
AT = datetime(2026, 11, 24, 8, 0, 0, 123000, tzinfo=UTC)
ORIGIN = Origin(source="t", user="ann", response_topic="answers", correlation_data=b"\x00\xff", assured=False)
REQUEST = RequestContext(command="setPerson", request_id="r1", origin=ORIGIN, received_at=12.5, boot_id="b")
PERSON = Person(
    id="p1",
    name="Zoë 门",
    card="42",
    id_number="7",
    photo=PHOTO,
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


async def test_entries_come_back_as_they_were_put(database: Database) -> None:
    full = entry(
        1,
        person=PERSON,
        delivery=DeliveryState.REFUSED,
        confirmed_revision=1,
        status=-3,
        message="no face",
        request=REQUEST,
        access=("", "staff"),
    )
    removal = entry(2, None)

    def put(connection: Connection) -> list[PersonEntry]:
        add_photos(connection, PLAIN, {PHOTO: b"jpeg"})
        queries.put_entries(connection, [full, removal])
        return queries.entries(connection, "T1", ["p1", None, "unknown"])

    assert await database.write(put) == [removal, full]
    assert await database.read(queries.entry, "T1", "p1") == full
    assert await database.read(queries.entry, "T2", "p1") is None
    assert await database.read(queries.pending_window, "T1", -1, -1, 10) == ([removal], [])
    assert await database.read(queries.page, "T1", "", 10) == [full]
    assert await database.read(read_photo, PLAIN, PHOTO) == b"jpeg"


async def test_a_person_without_its_photo_cannot_be_stored(database: Database) -> None:
    with pytest.raises(UnavailableError):
        await database.write(queries.put_entries, [entry(1, person=PERSON)])
    assert await database.read(queries.entry, "T1", "p1") is None


async def test_many_at_once(database: Database) -> None:
    ids = [f"p{number:04}" for number in range(1200)]
    entries = [entry(number, person_id) for number, person_id in enumerate(ids)]

    def work(connection: Connection) -> None:
        queries.put_entries(connection, entries)
        assert len(queries.entries(connection, "T1", ids)) == 1200
        seen = [len(queries.entries_below(connection, "T1", below, 300)) for below in (1000, 100)]
        assert seen == [300, 100]
        queries.drop_entries(connection, entries[:1100])
        assert queries.first_pending(connection, "T1") == 1100

    await database.write(work)
    assert len(await database.read(queries.page, "T1", "p1149", 100)) == 50
    assert [len(batch) async for batch in queries.pages(database, "T1", 60)] == [60, 40]


async def test_counts_distinguish_what_is_held_from_what_is_delivered(database: Database) -> None:
    await database.write(add_photos, PLAIN, {PHOTO: b""})
    await database.write(
        queries.put_entries,
        [
            entry(1, "held", person=PERSON, delivery=DeliveryState.CONFIRMED),
            entry(2, "on its way", person=PERSON),
            entry(3, "unfit", person=PERSON, delivery=DeliveryState.REFUSED),
            entry(4, "off", person=Person(id="off", name="Off", photo=PHOTO, enabled=False)),
            entry(5, "gone", delivery=DeliveryState.REFUSED),
            entry(6, None),
            entry(7, "elsewhere", sn="T2"),
        ],
    )
    assert await database.read(queries.counts) == {
        "T1": PersonCounts(desired=3, confirmed=1, pending=3, refused=2),
        "T2": PersonCounts(pending=1),
    }
    assert (await database.read(queries.counts, ["T2", "T3"])).keys() == {"T2"}


async def test_a_revision_is_given_out_once(database: Database) -> None:
    assert await database.write(queries.next_revisions, 3) == 1
    assert await database.write(queries.next_revisions, 0) == 4
    assert await database.write(queries.next_revisions, 1) == 4


async def test_syncs_are_stored_until_they_end(database: Database) -> None:
    def work(connection: Connection) -> None:
        queries.add_sync(connection, OpenSync(sn="T1", revision=3, request=REQUEST))
        queries.add_sync(connection, OpenSync(sn="T2", revision=4, request=REQUEST))
        queries.extend_syncs(connection, "T1", 9)
        first, second = queries.syncs(connection, ["T1", "T2", "T3"])
        assert (first.sn, first.revision, first.request, second.revision) == ("T1", 9, REQUEST, 4)
        queries.drop_syncs(connection, [first.id])
        assert queries.syncs(connection, ["T1", "T2"]) == [second]

    await database.write(work)


async def test_final_replies_are_stored_in_order_until_they_are_deleted(database: Database) -> None:
    added = [
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
    await database.write(queries.add_final_replies, added)
    assert await database.read(queries.last_final_reply_id) == 3
    stored = await database.read(queries.final_replies, 0, 3, 10)
    assert [one.reply for one in stored] == [one.reply for one in added]
    assert {one.origin for one in stored} == {ORIGIN}
    assert [one.id for one in await database.read(queries.final_replies, 1, 2, 10)] == [2]
    await database.write(queries.drop_final_replies, [1, 3])
    assert [one.id for one in await database.read(queries.final_replies, 0, 3, 10)] == [2]
    await database.write(queries.drop_final_replies, [2])
    assert await database.read(queries.last_final_reply_id) == 0
    await database.write(queries.add_final_replies, added[:1])
    # An id is not used again.
    assert await database.read(queries.last_final_reply_id) == 4


async def test_external_changes_are_taken_once(database: Database) -> None:
    await database.write(queries.note_external_changes, ["T1", "T2"])
    await database.write(queries.note_external_changes, ["T2"])
    assert sorted(await database.read(queries.external_changes)) == ["T1", "T2"]
    await database.write(queries.drop_external_changes, ["T1", "T2"])
    assert await database.read(queries.external_changes) == []


@pytest.mark.parametrize("held", [False, True])
async def test_sqlite_finds_the_next_changes_of_a_terminal_by_an_index(tmp_path: Path, held: bool) -> None:
    def plan(connection: Connection) -> str:
        query = (
            "SELECT * FROM person_entry WHERE sn = 'T1' AND delivery = 'pending' "
            f"AND held = {int(held)} AND revision > 7 ORDER BY revision LIMIT 64"
        )
        return "\n".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}"))

    database = await Database.open(f"sqlite:///{tmp_path}/store.db")
    found = await database.read(plan)
    await database.close()
    assert "ix_person_entry_sn_delivery_held_revision" in found
    assert "TEMP B-TREE" not in found
