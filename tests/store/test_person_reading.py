"""The queries that show persons, in SQLite and in PostgreSQL."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, GroupPerson, PersonEntry, PersonJob
from bridge.model.person_summary import PersonFilter
from bridge.model.terminal import PersonCounts
from bridge.persons.reading import PersonReader
from bridge.store import group_queries, person_queries
from bridge.store.database import Database
from bridge.store.photos import PLAIN, add_photos

AT = datetime(2026, 11, 24, 8, tzinfo=UTC)
PENDING, CONFIRMED, REFUSED = DeliveryState.PENDING, DeliveryState.CONFIRMED, DeliveryState.REFUSED

NAMES = {"1001": "Ada", "1002": "ÄNNE *", "1003": "J\\ürgen [x]?", "a.b": "x_y %"}

P1, P2 = (hashlib.sha256(photo).hexdigest() for photo in (b"jpeg", b"other"))


def entry(sn: str, person_id: str | None, revision: int, **details: Any) -> PersonEntry:
    name = NAMES.get(person_id or "")
    values: dict[str, Any] = {
        "sn": sn,
        "person_id": person_id,
        "revision": revision,
        "person": None if name is None or person_id is None else Person(id=person_id, name=name, photo=P1),
        "delivery": PENDING,
        "confirmed_revision": None,
        "status": None,
        "message": None,
        "changed_at": AT + timedelta(minutes=revision),
    }
    return PersonEntry(**{**values, **details})


async def store(database: Database, *entries: PersonEntry) -> PersonReader:
    await database.write(add_photos, PLAIN, {P1: b"jpeg", P2: b"other"})
    await database.write(person_queries.put_entries, entries)
    return PersonReader(database, PLAIN)


async def test_a_terminals_persons_are_read_by_id_after_the_removal_of_everyone(database: Database) -> None:
    reader = await store(
        database,
        entry("T1", None, 1),
        entry("T1", "1002", 2, delivery=CONFIRMED),
        entry("T1", "1001", 3),
        entry("T1", "9", 4, delivery=REFUSED),
        entry("T2", "1003", 5),
    )

    async def ids(**details: Any) -> tuple[list[str | None], int]:
        entries, total = await reader.on_terminal("T1", 2, **details)
        return [one.person_id for one in entries], total

    assert await ids() == ([None, "1001"], 4)
    assert await ids(after="") == (["1001", "1002"], 4)
    assert await ids(after="1002") == (["9"], 4)
    assert await ids(wanted=PersonFilter(delivery=REFUSED)) == (["9"], 1)
    assert await ids(wanted=PersonFilter(q="100", delivery=PENDING)) == (["1001"], 1)
    assert await reader.on_terminal("T9", 2) == ([], 0)


@pytest.mark.parametrize(
    ("q", "ids"),
    [
        ("ada", ["1001"]),
        ("ADA", ["1001"]),
        ("änn", ["1002"]),
        ("JÜ", []),
        ("\\Ü", ["1003"]),
        ("100", ["1001", "1002", "1003"]),
        ("A.B", ["a.b"]),
        ("a.*", []),
        ("*", ["1002"]),
        ("?", ["1003"]),
        ("[X]", ["1003"]),
        ("]?", ["1003"]),
        ("^", []),
        ("%", ["a.b"]),
        ("X_", ["a.b"]),
        ("-", []),
        ("(", []),
        ("{1}", []),
        ("'", []),
        (" ", ["1002", "1003", "a.b"]),
    ],
)
async def test_a_search_finds_parts_of_ids_and_names_in_any_case(database: Database, q: str, ids: list[str]) -> None:
    reader = await store(database, *(entry("T1", person_id, number) for number, person_id in enumerate(NAMES, 1)))
    persons, total = await reader.persons(10, wanted=PersonFilter(q=q))
    assert ([one.id for one in persons], total) == (ids, len(ids))
    entries, total = await reader.on_terminal("T1", 10, wanted=PersonFilter(q=q))
    assert ([one.person_id for one in entries], total) == (ids, len(ids))


async def test_a_search_folds_letters_that_have_no_single_upper_case(database: Database) -> None:
    reader = await store(database, entry("T1", "1001", 1, person=Person(id="1001", name="Weiß", photo=P1)))
    for q in ("weiß", "WEISS", "weiss"):
        assert (await reader.persons(10, wanted=PersonFilter(q=q)))[1] == 1


async def test_each_person_is_listed_once_with_the_newest_values(database: Database) -> None:
    newest = Person(id="1001", name="Ada L.", photo=P2)
    reader = await store(
        database,
        entry("T1", "1001", 1, delivery=CONFIRMED),
        entry("T2", "1001", 5, person=newest, delivery=REFUSED),
        entry("T3", "1001", 6, person=None),
        entry("T3", "1002", 7, person=None, delivery=REFUSED),
        entry("T3", None, 8),
        entry("T1", "1003", 9),
    )
    persons, total = await reader.persons(2)
    assert total == 3
    assert [(one.id, one.person and one.person.name, one.counts, one.changed_at) for one in persons] == [
        ("1001", "Ada L.", PersonCounts(2, 1, 1, 1), AT + timedelta(minutes=6)),
        ("1002", None, PersonCounts(0, 0, 0, 1), AT + timedelta(minutes=7)),
    ]
    assert [one.id for one in (await reader.persons(2, after="1002"))[0]] == ["1003"]
    for state, ids in ((CONFIRMED, ["1001"]), (PENDING, ["1001", "1003"]), (REFUSED, ["1001", "1002"])):
        persons, total = await reader.persons(10, wanted=PersonFilter(delivery=state))
        assert ([one.id for one in persons], total) == (ids, len(ids))
    searched, total = await reader.persons(1, after="1001", wanted=PersonFilter(q="10", delivery=PENDING))
    assert ([one.id for one in searched], total) == (["1003"], 2)


async def test_a_person_is_shown_on_every_terminal_in_pages(database: Database) -> None:
    reader = await store(database, *(entry(f"T{number}", "1001", number) for number in range(1, 6)))
    found = await reader.everywhere("1001", 3)
    assert found is not None
    assert ([one.sn for one in found.entries], found.total, found.more) == (["T1", "T2", "T3"], 5, True)
    found = await reader.everywhere("1001", 3, after="T3")
    assert found is not None
    assert ([one.sn for one in found.entries], found.total, found.more) == (["T4", "T5"], 5, False)
    assert found.summary.counts == PersonCounts(5, 0, 5, 0)
    assert await reader.everywhere("1002", 3) is None


async def test_entries_that_a_removal_of_everyone_has_yet_to_delete_are_not_shown(database: Database) -> None:
    reader = await store(database, entry("T1", "1001", 1), entry("T1", "1002", 5), entry("T2", "1001", 2))
    job = PersonJob(sn="T1", drop_below=4)
    await database.write(person_queries.put_job, job)
    assert [one.person_id for one in (await reader.on_terminal("T1", 10))[0]] == ["1002"]
    persons, _ = await reader.persons(10)
    assert [(one.id, one.counts.desired) for one in persons] == [("1001", 1), ("1002", 1)]
    found = await reader.everywhere("1001", 10)
    assert found is not None
    assert [one.sn for one in found.entries] == ["T2"]
    assert (await reader.persons(10, wanted=PersonFilter(q="ada")))[1] == 1
    await database.write(person_queries.put_job, replace(job, drop_below=9))
    assert (await reader.on_terminal("T1", 10)) == ([], 0)


async def test_a_photo_is_read_by_its_name(database: Database) -> None:
    reader = await store(database, entry("T1", "1001", 1))
    one = await reader.one_on_terminal("T1", "1001")
    assert one is not None
    assert one.person is not None
    assert await reader.photo(one.person.photo) == b"jpeg"
    assert await reader.photo("missing") is None
    assert await reader.one_on_terminal("T2", "1001") is None


def kept(group: str, person_id: str, revision: int, **details: Any) -> GroupPerson:
    values: dict[str, Any] = {
        "group": group,
        "revision": revision,
        "person": Person(id=person_id, name=NAMES[person_id], photo=P1),
        "changed_at": AT + timedelta(minutes=revision),
    }
    return GroupPerson(**{**values, **details})


async def test_persons_of_groups_are_read_and_found(database: Database) -> None:
    reader = await store(database, entry("T1", "1001", 1))
    other = Person(id="1002", name="Newest", photo=P2)
    await database.write(
        group_queries.put_kept,
        [kept("a", "1001", 2), kept("a", "1002", 3), kept("b", "1002", 4, person=other), kept("b", "1003", 5)],
    )
    persons, total = await reader.in_group("a", 1)
    assert ([one.person.id for one in persons], total) == (["1001"], 2)
    persons, total = await reader.in_group("a", 5, after="1001")
    assert ([one.person.id for one in persons], total) == (["1002"], 2)
    persons, total = await reader.in_group("a", 5, q="ÄNN")
    assert ([one.person.id for one in persons], total) == (["1002"], 1)
    assert await reader.group_sizes() == {"a": 2, "b": 2}
    assert await reader.one_in_group("a", "1003") is None
    # Persons that no terminal has are found too, with the newest values.
    summaries, total = await reader.persons(2)
    assert [(one.id, one.person and one.person.name, one.counts.desired) for one in summaries] == [
        ("1001", "Ada", 1),
        ("1002", "Newest", 0),
    ]
    assert total == 3
    assert [one.id for one in (await reader.persons(2, after="1002"))[0]] == ["1003"]
    assert [one.id for one in (await reader.persons(5, wanted=PersonFilter(q="ÄNN")))[0]] == ["1002"]
    assert (await reader.persons(5, wanted=PersonFilter(delivery=PENDING)))[1] == 1
    found = await reader.everywhere("1002", 5)
    assert found is not None
    assert ([one.group for one in found.groups], found.entries, found.total) == (["a", "b"], [], 0)
    assert found.summary.person == other
    await database.write(group_queries.add_group_removal, "b", 9)
    assert await reader.in_group("b", 5) == ([], 0)
    assert (await reader.persons(5))[1] == 2
