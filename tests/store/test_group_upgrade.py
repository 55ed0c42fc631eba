"""A store from before groups kept persons: access stays, no group keeps anyone, and nothing is sent again."""

from pathlib import Path

import pytest
from sqlalchemy import text

from bridge.model.person_summary import PersonFilter
from bridge.store import group_queries, person_queries, person_reading
from bridge.store.database import Database
from bridge.store.engine import create_engine, parse_url
from tests.persons.person_system import person_system, sent
from tests.store.test_store_migrations import KEPT, put_back
from tests.support.core import known_terminal


@pytest.mark.parametrize("kept", [kept for kept in KEPT if kept.stem < "0004"], ids=lambda kept: kept.stem)
async def test_an_upgraded_store_sends_nothing_again(
    kept: Path, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="bridge")
    await put_back(store_url, kept)
    engine = create_engine(parse_url(store_url))
    with engine.begin() as connection:
        confirmed = "UPDATE person_entry SET delivery = 'confirmed' WHERE sn = 'T2' AND person_id = 'p1'"
        assert connection.execute(text(confirmed)).rowcount == 1
    engine.dispose()
    terminals = [known_terminal("T1", groups=("lobby", "staff")), known_terminal("T2", groups=("lobby",))]
    async with person_system(store_url, terminals=terminals) as system:
        assert "groups keep no persons yet" in caplog.text
        assert "facebridge persons import --group" in caplog.text
        assert "follow" not in caplog.text
        for sn in ("T1", "T2"):
            held = [one for one in await system.persons(sn) if one["wanted"] != "removed"]
            assert held
            assert [one["access"] for one in held] == [["terminal"]] * len(held)
        assert await system.read(group_queries.group_sizes) == {}
        assert await system.read(group_queries.memberships) == {"T1": {"all", "lobby", "staff"}, "T2": {"all", "lobby"}}
        first, second = system.connect("T1"), system.connect("T2")
        await system.settled("T1")
        await system.settled("T2")
        # The changes that were pending before the upgrade.
        assert sent(first) == ["remove p2", "set p1"]
        assert sent(second) == ["remove p3"]
    caplog.clear()
    # What was set on the terminals stays when they leave groups.
    async with person_system(store_url, terminals=[known_terminal("T1"), known_terminal("T2")]) as system:
        first, second = system.connect("T1"), system.connect("T2")
        await system.remove("nobody", sn="T1")
        await system.remove("nobody", sn="T2")
        await system.settled("T1")
        await system.settled("T2")
        assert sent(first) == sent(second) == ["remove nobody"]
        assert not await system.read(group_queries.has_membership_jobs)


async def test_an_upgraded_store_keeps_groups_and_unfinished_changes_of_memberships(store_url: str) -> None:
    (kept,) = [kept for kept in KEPT if kept.stem == "0004"]
    await put_back(store_url, kept)
    database = await Database.open(store_url)
    (one,) = await database.read(group_queries.kept_page, "lobby", "", 10)
    assert (one.person.id, one.person.name, one.revision) == ("p1", "Name of p1", 5)
    assert await database.read(group_queries.group_removals) == [("old", 3)]
    assert await database.read(group_queries.memberships) == {"T1": {"all", "staff"}, "T2": {"all", "lobby"}}
    (job,) = await database.read(group_queries.membership_jobs)
    assert (job.id, job.sn, job.left, job.joined) == (6, "T1", frozenset(), frozenset({"staff"}))
    assert await database.read(group_queries.done, job, ["p1", "p2"]) == {"p2"}
    entry = await database.read(person_queries.entry, "T2", "p1")
    assert entry is not None
    assert entry.access == ("", "lobby")
    # The upgrade fills the names for searches.
    found, total = await database.read(person_reading.person_page, PersonFilter(q="NAME OF P"), None, 10)
    assert ([one.id for one in found], total) == (["p1", "p2"], 2)
    found, _ = await database.read(person_reading.person_page, PersonFilter(q="p3"), None, 10)
    assert [one.person for one in found] == [None]
    await database.close()
