"""No person change is lost over restarts, kills and failures of the store."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.protocol.requests import SetPersonRequest
from tests.persons.person_system import person, person_system, requests, sent
from tests.support.file_size import file_size_limit
from tests.support.postgresql import PostgreSQL
from tests.support.waiting import until

KILLS = 5


async def test_a_restart_continues_with_pending_changes(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        connection = system.connect()
        await system.set(person("p1"))
        await system.settled()
        connection.reset("gone")
        await system.set(person("p2"), request_id="r2")
        await system.remove_everyone(sn="T2", request_id="all")
    async with person_system(tmp_path) as system:
        assert system.person_service.counts("T1") == PersonCounts(desired=2, confirmed=1, pending=1)
        connection = system.connect()
        await system.settled()
        assert sent(connection) == ["set p2"]
        system.connect("T2")
        final_replies = await system.final_replies(3)
        assert [(final_reply.reply.request_id, final_reply.reply.outcome) for final_reply in final_replies] == [
            (None, Outcome.OK),
            ("r2", Outcome.OK),
            ("all", Outcome.OK),
        ]
        assert final_replies[1].origin.correlation_data == b"\x007"
        assert final_replies[1].reply.duration_ms == 0


async def test_terminals_that_connect_before_the_service_starts(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"))
    async with person_system(tmp_path, connected=("T1",)) as system:
        await system.settled()


async def test_a_duration_over_a_boot_is_unknown(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"))
    async with person_system(tmp_path, boot_id="another boot") as system:
        system.connect()
        (final_reply,) = await system.final_replies(1)
        assert final_reply.reply.duration_ms is None


async def test_answers_just_before_the_stop_are_stored(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        connection = system.connect()
        await system.set(person("p1"))
        await until(lambda: connection.frames)
    async with person_system(tmp_path) as system:
        assert system.person_service.counts("T1") == PersonCounts(desired=1, confirmed=1)


async def test_final_replies_are_handed_out_until_they_are_published(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        system.connect()
        await system.set(person("p1"), request_id="r1")
        await system.set(person("p2"), request_id="r2")
        await system.settled()
        outbox = system.person_service.outbox
        first = await outbox.next_entries(1)
        second = await outbox.next_entries(5)
        assert [entry.reply.request_id for entry in (*first, *second)] == ["r1", "r2"]
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(outbox.next_entries(5))
            await asyncio.sleep(0)
            outbox.rewind()
        assert waiting.result() == [*first, *second]
        await outbox.published([first[0].id])
    async with person_system(tmp_path) as system:
        assert await system.person_service.outbox.next_entries(5) == second
        await system.person_service.outbox.published([second[0].id])
    async with person_system(tmp_path) as system:
        await system.sync(request_id="r3", sn="T2")
        assert await system.final_outcomes(1) == [("r3", None, "ok")]


async def test_a_locked_store_changes_nothing(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"))
        before = system.person_service.counts("T1")
        with closing(sqlite3.connect(tmp_path / "store.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await system.set(person("p2"), {"id": "p3"}) == [Outcome.UNAVAILABLE] * 2
            assert await system.remove("p1", "p4") == [Outcome.UNAVAILABLE] * 2
            assert await system.remove_everyone() == [Outcome.UNAVAILABLE]
            other.rollback()
        assert system.person_service.counts("T1") == before
        assert await system.delivery() == {"p1": "pending"}
        assert await system.set(person("p2")) == [Outcome.ACCEPTED]


async def test_a_change_whose_caller_is_cancelled_is_stored_and_sent(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        connection = system.connect()
        with closing(sqlite3.connect(tmp_path / "store.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.TaskGroup() as group:
                change = group.create_task(system.set(person("p1"), request_id="r"))
                await until(lambda: system.transactions.running)
                change.cancel()
            other.rollback()
        assert await system.final_outcomes(1) == [("r", "p1", "ok")]
        assert sent(connection) == ["set p1"]


async def test_a_full_disk_stores_no_part_of_a_change(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p0"), request_id="r0")
        many = [person(f"p{number}") for number in range(300)]
        with file_size_limit((tmp_path / "store.db-wal").stat().st_size + 20_000):
            assert await system.set(*many, request_id="r1") == [Outcome.UNAVAILABLE] * 300
            assert await system.delivery() == {"p0": "pending"}
        assert await system.set(*many, request_id="r2") == [Outcome.ACCEPTED] * 300
        assert await system.final_outcomes(1) == [("r0", "p0", "superseded")]
        connection = system.connect()
        await system.settled()
        assert len(connection.frames) == 300


STREAM = """
import asyncio, sys
from pathlib import Path
from bridge.model.events import PersonSettled
from tests.persons.person_system import person, person_system

async def main(place: str, first: int) -> None:
    async with person_system(Path(place) if place.startswith("/") else place) as system:
        system.events.subscribe(
            PersonSettled,
            lambda event: print("settled", event.reply.request_id, event.reply.outcome.value, flush=True),
            name="stream",
        )
        system.connect()
        number = first
        while True:
            await system.set(person(f"p{number % 7}", name=f"v{number}"), request_id=str(number))
            print("accepted", number, flush=True)
            number += 1

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def run_and_kill(place: Path | str, first: int, lines: int) -> list[list[str]]:
    """Send a stream of changes, and kill the process after so many lines of its output."""
    process = subprocess.Popen(
        [sys.executable, "-c", STREAM, str(place), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    said = []
    with process.stdout:
        for line in process.stdout:
            said.append(line.split())
            if len(said) == lines:
                process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # The last line may be incomplete.
    return [words for words in said if len(words) > 1]


async def test_kill_at_any_moment(tmp_path: Path) -> None:
    await kill_at_any_moment(tmp_path)


@pytest.mark.slow
async def test_kill_at_any_moment_on_postgresql(postgresql: PostgreSQL) -> None:
    await kill_at_any_moment(await postgresql.new_url())


async def kill_at_any_moment(place: Path | str) -> None:
    randomness = Random(20261124)
    accepted: list[int] = []
    confirmed: set[int] = set()
    first = 0
    for _ in range(KILLS):
        said = await asyncio.to_thread(run_and_kill, place, first, randomness.randrange(1, 120))
        accepted += [int(words[1]) for words in said if words[0] == "accepted"]
        confirmed |= {int(words[1]) for words in said if words[0] == "settled" and words[2] == "ok"}
        # One more may have been stored and not printed.
        first = max(accepted, default=first) + 2
    assert len(accepted) > 50

    async with person_system(place) as system:
        pending = system.person_service.counts("T1").pending
        connection = system.connect()
        await system.settled()
        held = {listed["id"]: int(listed["name"][1:]) for listed in await system.persons("T1")}
        for number in accepted:
            assert held[f"p{number % 7}"] >= number, f"change {number} was lost"
        assert len(connection.frames) == pending
        resent = {
            int(request.person.name[1:]) for request in requests(connection) if isinstance(request, SetPersonRequest)
        }
        assert len(resent) == pending
        assert not resent & confirmed
        await system.sync(request_id="end")
        published: list[str | None] = []
        while "end" not in published:
            published += [entry.reply.request_id for entry in await system.person_service.outbox.next_entries(100)]
        assert set(published) >= {str(number) for number in accepted}
