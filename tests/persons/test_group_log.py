"""The log lines of changes of memberships, from the start of the persons' service to the end of the jobs."""

from pathlib import Path

import pytest

from tests.persons.person_system import person, person_system
from tests.persons.test_groups import GroupSystem
from tests.support.core import known_terminal
from tests.support.waiting import until

PERSONS = 60


async def keep_persons(folder: Path, *groups: str) -> None:
    """Let groups keep persons; afterwards T1 is in all of them."""
    async with person_system(folder, terminals=[known_terminal("T1", groups=groups)]) as system:
        for group in groups:
            await GroupSystem(system).set(group, *(person(f"{group}{number:03}") for number in range(PERSONS)))
        await GroupSystem(system).jobs_done()


def lines(caplog: pytest.LogCaptureFixture, level: str = "INFO") -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name.startswith("bridge.") and one.levelname == level]


async def test_the_start_names_who_joined_and_left_what(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="bridge")
    await keep_persons(tmp_path, "old", "staff")
    assert not [line for line in lines(caplog) if "follow" in line]
    terminals = [known_terminal("T1", groups=("staff",)), known_terminal("T2", groups=("old", "staff"))]
    async with person_system(tmp_path, terminals=terminals) as system:
        assert "persons follow changes of groups since the last start: T1 left old; T2 joined old, staff" in [
            # `all` keeps no person, but T2 is new in it.
            line.replace("joined all, old, staff", "joined old, staff")
            for line in lines(caplog)
        ]
        await GroupSystem(system).jobs_done()
        await until(lambda: any(line.startswith("all persons have followed") for line in lines(caplog)))
    caplog.clear()
    async with person_system(tmp_path, terminals=terminals):
        assert not [line for line in lines(caplog) if "follow" in line]


async def test_the_start_names_only_the_first_of_many_terminals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="bridge")
    await keep_persons(tmp_path, "staff")
    terminals = [known_terminal(f"T{number:02}", groups=("staff",)) for number in range(30)]
    async with person_system(tmp_path, terminals=terminals):
        (line,) = [line for line in lines(caplog) if "since the last start" in line]
    assert line.count(" joined ") + line.count(" left ") == 20
    assert line.endswith("; and 11 more terminals")


async def test_a_long_change_is_logged_while_it_runs_and_at_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.persons.batches.PROGRESS_SECONDS", 0)
    monkeypatch.setattr("bridge.persons.batches.MEMBERSHIP_ROWS", 1)
    monkeypatch.setattr("bridge.persons.batches.BATCH_SECONDS", 0)
    caplog.set_level("INFO", logger="bridge")
    await keep_persons(tmp_path, "staff")
    terminals = [known_terminal("T1", groups=("staff",)), known_terminal("T2", groups=("staff",))]
    async with person_system(tmp_path, terminals=terminals) as system:
        await until(lambda: "persons still follow changes of groups: T2 joined all, staff" in lines(caplog))
        await until(lambda: "all persons have followed changes of groups: T2 joined all, staff" in lines(caplog))
        assert len(await GroupSystem(system).access("T2")) == PERSONS
    messages = lines(caplog)
    assert messages.index("persons still follow changes of groups: T2 joined all, staff") < messages.index(
        "all persons have followed changes of groups: T2 joined all, staff"
    )


async def test_the_start_names_groups_with_persons_and_without_members(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="bridge")
    await keep_persons(tmp_path, "old", "staff")
    assert lines(caplog, "WARNING") == []
    async with person_system(tmp_path, terminals=[known_terminal("T1", groups=("staff",))]) as system:
        assert lines(caplog, "WARNING") == [f"group old keeps {PERSONS} persons and has no members"]
        await GroupSystem(system).remove("old", *(f"old{number:03}" for number in range(1, PERSONS)))
    caplog.clear()
    async with person_system(tmp_path, terminals=[known_terminal("T1")]):
        assert lines(caplog, "WARNING") == [
            "group old keeps 1 person and has no members",
            f"group staff keeps {PERSONS} persons and has no members",
        ]
