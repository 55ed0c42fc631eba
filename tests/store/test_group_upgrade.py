"""A store from before groups kept persons: access stays, no group keeps anyone, and nothing is sent again."""

from pathlib import Path

import pytest
from sqlalchemy import text

from bridge.store import group_queries
from bridge.store.engine import create_engine, parse_url
from tests.persons.person_system import person_system, sent
from tests.store.test_store_migrations import KEPT, put_back
from tests.support.core import known_terminal


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.stem)
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
