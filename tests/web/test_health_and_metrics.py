"""Health, readiness, metrics and the terminals' state over HTTP."""

import asyncio
from typing import Any

import pytest

from bridge.core.ports import DesiredPersons
from bridge.core.terminal_state import terminal_state
from bridge.model.events import TerminalRefused
from bridge.model.terminal import PersonCounts
from tests.support.core import RecordingConnection, known_terminal
from tests.support.persons import NoPersons
from tests.support.web import WebServerUnderTest


async def test_health_and_readiness() -> None:
    site = WebServerUnderTest()
    async with site.open() as session:
        async with session.get("/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with session.get("/readyz") as response:
            assert (response.status, (await response.json())["status"]) == (200, "ok")
        site.statuses["intake"] = "nothing listens on broker:1883"
        site.store_answers = False
        async with session.get("/readyz") as response:
            answer = await response.json()
            assert (response.status, answer["status"]) == (503, "not ready")
        async with session.get("/healthz") as response:
            assert response.status == 200
    assert answer["checks"] == {
        "broker (live)": "ok",
        "broker (intake)": "nothing listens on broker:1883",
        "store": "does not answer or cannot be written to",
    }


async def test_simultaneous_readiness_requests_share_one_query_of_the_store() -> None:
    site = WebServerUnderTest()
    queries = 0
    answered = asyncio.Event()

    async def query() -> bool:
        nonlocal queries
        queries += 1
        await answered.wait()
        return True

    site.store_reachable = query
    async with site.open() as session:
        requests = [asyncio.get_running_loop().create_task(session.get("/readyz")) for _ in range(20)]
        await asyncio.sleep(0.1)
        answered.set()
        assert {(await one).status for one in requests} == {200}
        assert queries == 1
        async with session.get("/readyz"):
            assert queries == 2


async def test_terminals_have_the_same_state_as_over_mqtt() -> None:
    site = WebServerUnderTest()
    async with site.open() as session:
        async with session.get("/api/terminals") as response:
            shown = (await response.json())["items"]
        async with session.get("/api/terminals/T1") as response:
            assert await response.json() == shown[0]
        assert shown[0].items() > terminal_state(site.registry.members("all")[0], PersonCounts()).items()
        async with session.head("/api/terminals/T1") as response:
            assert response.status == 200
        for path, status in (("/api/terminals/T9", 404), ("/api/terminals/a.b", 400), ("/api/terminals/a%2Fb", 400)):
            async with session.get(path) as response:
                assert (response.status, (await response.json())["errors"][0]["path"]) == (status, "sn")
    assert [(one["sn"], one["online"]) for one in shown] == [("T1", True), ("T2", False)]
    assert shown[0]["name"] == "Front door"


async def test_other_tasks_run_while_ten_thousand_terminals_are_described() -> None:
    site = WebServerUnderTest()
    for number in range(10_000):
        site.registry.put(known_terminal(f"S{number}"))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with site.open() as session:
        counting = asyncio.get_running_loop().create_task(others())
        async with session.get("/api/terminals?limit=1000&q=s9") as response:
            page = await response.json()
            assert (len(page["items"]), page["total"]) == (1_000, 1_111)
        counting.cancel()
    assert turns > 50


async def test_metrics_count_without_names() -> None:
    site = WebServerUnderTest()
    async with site.open() as session:
        for sn in ("T1", "T2", "T9"):
            await session.post(f"/api/terminals/{sn}/open", json={"request_id": "r-1"})
        await session.post("/api/groups/lobby/reboot")
        site.events.publish(TerminalRefused(at=site.clock.now(), sn="X1", address="192.0.2.9", reason="no"))
        site.registry.connected(RecordingConnection(site.registry, "T1"))
        async with session.get("/metrics") as response:
            text = await response.text()
            assert response.content_type == "text/plain"
    for line in (
        'facebridge_commands_total{command="open",outcome="ok"} 1.0',
        'facebridge_commands_total{command="open",outcome="offline"} 1.0',
        'facebridge_commands_total{command="open",outcome="invalid"} 1.0',
        'facebridge_commands_total{command="reboot",outcome="ok"} 1.0',
        'facebridge_command_seconds_bucket{command="open",le="0.001"}',
        'facebridge_command_seconds_bucket{command="open",le="60.0"} 3.0',
        'facebridge_terminals{state="known"} 2.0',
        'facebridge_terminals{state="online"} 1.0',
        'facebridge_terminals{state="pending"} 0.0',
        'facebridge_persons{state="refused"} 0.0',
        'facebridge_queue_length{queue="presses"} 3.0',
        'facebridge_broker_connected{connection="live"} 1.0',
        "facebridge_terminals_refused_total 1.0",
        "facebridge_terminals_replaced_total 1.0",
        'facebridge_build_info{version="',
    ):
        assert f"\n{line}" in text
    for name in ("T1", "T2", "T9", "X1", "Front door", "192.0.2", "r-1", "lobby"):
        assert name not in text


async def test_metrics_count_persons_of_groups_without_their_names() -> None:
    site = WebServerUnderTest()
    site.persons.kept = {"lobby": 3, "all": 4, "abandoned": 5}
    async with site.open() as session, session.get("/metrics") as response:
        text = await response.text()
    assert 'facebridge_group_persons{members="some"} 7.0' in text
    assert 'facebridge_group_persons{members="none"} 5.0' in text
    assert "abandoned" not in text


async def test_metrics_sum_up_persons_and_show_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    person_service: DesiredPersons = NoPersons()
    counts: Any = lambda _self, _sn: PersonCounts(desired=5, confirmed=2, pending=2, refused=1)  # noqa: E731  a fake
    monkeypatch.setattr(type(person_service), "counts", counts)
    site = WebServerUnderTest()
    site.statuses["live"] = "nothing listens"
    async with site.open() as session, session.get("/metrics") as response:
        text = await response.text()
    assert 'facebridge_persons{state="pending"} 4.0' in text
    assert 'facebridge_persons{state="refused"} 2.0' in text
    assert 'facebridge_broker_connected{connection="live"} 0.0' in text
    assert 'facebridge_broker_connected{connection="intake"} 1.0' in text
    assert "nothing listens" not in text
