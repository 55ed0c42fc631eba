"""The work of SQLite in the queries about groups does not grow with the persons that a group keeps."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from bridge.model.person import Person
from bridge.model.person_entry import GroupPerson, MembershipJob
from bridge.store import group_change_queries, group_queries
from bridge.store.database import Database
from bridge.store.photos import PLAIN, add_photos

PHOTO = hashlib.sha256(b"jpeg").hexdigest()
AT = datetime(2026, 11, 24, 8, tzinfo=UTC)

FEW, MANY = 400, 4000
JOB = MembershipJob(id=MANY + 1, sn="T1", left=frozenset(["b"]), joined=frozenset(["a"]), joined_after=100)
IDS = [f"{number:05}" for number in range(150, 160)]

QUERIES: dict[str, Callable[[Connection], object]] = {
    "kept_persons": lambda connection: group_queries.kept_persons(connection, "a", IDS),
    "kept_page": lambda connection: group_queries.kept_page(connection, "a", IDS[0], 10),
    "keeps_persons": lambda connection: group_queries.keeps_persons(connection, "a"),
    "to_join": lambda connection: group_queries.to_join(connection, JOB, 10),
    "joining": lambda connection: group_queries.joining(connection, JOB, IDS),
    "done": lambda connection: group_queries.done(connection, JOB, IDS),
}


async def test_changes_since_a_revision_are_found_by_an_index(tmp_path: Path) -> None:
    """A database that looks for each person on each terminal would read 50,000 entries for 500 members."""
    plans: list[str] = []

    def explain(connection: Connection) -> None:
        def note(*arguments: object) -> None:
            statement, parameters = str(arguments[2]), arguments[3]
            if statement.startswith("SELECT"):
                driver = connection.connection.driver_connection
                assert driver is not None
                plans.extend(str(row) for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

        event.listen(connection, "before_cursor_execute", note)
        group_change_queries.changed_since(connection, ["T1", "T2"], ["p1"], 7)

    database = await Database.open(f"sqlite:///{tmp_path}/store.db")
    await database.read(explain)
    await database.close()
    assert len(plans) == 1
    assert "ix_person_entry_sn_revision (sn=? AND revision>?)" in plans[0]


async def instructions(folder: Path, number: int, query: Callable[[Connection], object]) -> int:
    """Return the instructions that SQLite's virtual machine runs for a query with this number of kept persons."""

    def run(connection: Connection) -> int:
        driver = connection.connection.driver_connection
        assert driver is not None
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        driver.set_progress_handler(step, 1)
        try:
            assert query(connection) is not None
        finally:
            driver.set_progress_handler(None, 0)
        return count

    database = await Database.open(f"sqlite:///{folder}/{number}.db")
    try:
        await database.write(add_photos, PLAIN, {PHOTO: b"jpeg"})
        persons = [
            GroupPerson(
                group="a", revision=1 + one, person=Person(id=f"{one:05}", name="Ada", photo=PHOTO), changed_at=AT
            )
            for one in range(number)
        ]
        await database.write(group_queries.put_kept, persons)
        return await database.read(run)
    finally:
        await database.close()


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_costs_the_same_in_a_group_of_many_persons(name: str, tmp_path: Path) -> None:
    few = await instructions(tmp_path, FEW, QUERIES[name])
    many = await instructions(tmp_path, MANY, QUERIES[name])
    assert few > 10
    assert many < 1.5 * few
