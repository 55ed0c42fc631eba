"""Lists over HTTP: pages, filters, and what is refused."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.model.audit import AuditRecord
from bridge.model.faults import UnavailableError
from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.store.audit import StoredAudit
from bridge.store.database import Database
from tests.support.core import known_terminal
from tests.support.web import WebServerUnderTest


async def get(session: aiohttp.ClientSession, path: str, status: int = 200, **query: Any) -> Any:
    async with session.get(path, params=query) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def pages(session: aiohttp.ClientSession, path: str, **query: Any) -> list[Sequence[Mapping[str, Any]]]:
    """Return the items of every page; fail if the pages do not agree on the total."""
    found: list[Sequence[Mapping[str, Any]]] = []
    totals = set()
    cursor: dict[str, Any] = {}
    while True:
        page = await get(session, path, **query, **cursor)
        assert set(page) == {"items", "next", "total"}
        found.append(page["items"])
        totals.add(page["total"])
        if page["next"] is None:
            assert totals == {sum(map(len, found))}
            return found
        cursor = {"cursor": page["next"]}


async def test_terminals_are_paged_in_the_order_of_their_names() -> None:
    site = WebServerUnderTest()
    for number in range(5):
        site.registry.put(known_terminal(f"S{number}", name=f"{'dD'[number % 2]}oor {number}"))
    site.registry.put(known_terminal("S9", name="door 1"))
    async with site.open() as session:
        found = await pages(session, "/api/terminals", limit=3)
        assert [[one["sn"] for one in page] for page in found] == [["S0", "S1", "S9"], ["S2", "S3", "S4"], ["T1", "T2"]]
        assert [len(page) for page in await pages(session, "/api/terminals", limit=4)] == [4, 4]


@pytest.mark.parametrize(
    ("query", "sns"),
    [
        ({"q": "ÄUSSERE"}, ["A1"]),
        ({"q": "t2"}, ["T2"]),
        ({"q": "nowhere"}, []),
        ({"state": "online"}, ["T1"]),
        ({"state": "offline"}, ["T2", "A1"]),
        ({"state": "pending"}, ["T2"]),
        ({"state": "refused"}, ["A1"]),
        ({"group": "lobby"}, ["T1", "T2"]),
        ({"group": "all"}, ["T1", "T2", "A1"]),
        ({"group": "other"}, []),
        ({"group": "lobby", "state": "online", "q": "front"}, ["T1"]),
    ],
)
async def test_terminals_can_be_searched(query: Mapping[str, Any], sns: list[str]) -> None:
    site = WebServerUnderTest()
    site.registry.put(known_terminal("A1", name="Äußere Tür", area="Outside"))
    site.persons.numbers = {"T2": PersonCounts(1, 0, 1, 0), "A1": PersonCounts(1, 0, 0, 1)}
    async with site.open() as session:
        found = await get(session, "/api/terminals", **query)
        assert [one["sn"] for one in found["items"]] == sns
        assert found["total"] == len(sns)


async def test_a_terminal_shows_its_settings_but_no_secret() -> None:
    site = WebServerUnderTest()
    async with site.open() as session:
        shown = await get(session, "/api/terminals/T1")
    assert (shown["area"], shown["groups"], shown["origin"]) == (None, ["lobby"], "configured")
    assert not {"key", "username", "password"} & set(shown)


async def test_terminals_that_wait_are_listed() -> None:
    site = WebServerUnderTest()
    async with site.open() as session:
        assert await pages(session, "/api/pending") == [[]]
        for number in range(3):
            assert not await site.admission.may_connect(f"N{number}", f"192.0.2.{number}")
        found = await pages(session, "/api/pending", limit=2)
    assert [[(one["sn"], one["address"]) for one in page] for page in found] == [
        [("N0", "192.0.2.0"), ("N1", "192.0.2.1")],
        [("N2", "192.0.2.2")],
    ]
    assert datetime.fromisoformat(found[0][0]["first_seen"]) <= datetime.fromisoformat(found[0][0]["last_seen"])


AT = datetime(2026, 11, 24, 8, tzinfo=UTC)


def record(number: int, **details: Any) -> AuditRecord:
    values: dict[str, Any] = {
        "at": AT + timedelta(minutes=number),
        "command": "open",
        "sn": "T1",
        "group": None,
        "person_id": None,
        "request_id": f"r{number}",
        "source": "POST /api/terminals/T1/open",
        "user": "ada",
        "outcome": Outcome.OK,
        "status": 0,
        "message": "ok",
        "duration_ms": 1.5,
    }
    return AuditRecord(**{**values, **details})


async def test_the_log_is_paged_newest_first_and_filtered(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/store.db")
    try:
        audit = StoredAudit(database)
        await audit.add([record(number) for number in range(4)])
        await audit.add([record(4, command="setPerson", person_id="p1", sn="T2", user=None, outcome=Outcome.ACCEPTED)])
        site = WebServerUnderTest()
        site.read_audit = audit.page
        async with site.open() as session:

            async def ids(**query: Any) -> list[list[str]]:
                return [[one["request_id"] for one in page] for page in await pages(session, "/api/log", **query)]

            assert await ids(limit=2) == [["r4", "r3"], ["r2", "r1"], ["r0"]]
            assert await ids(limit=5) == [["r4", "r3", "r2", "r1", "r0"]]
            for query, expected in (
                ({"sn": "T2"}, ["r4"]),
                ({"person_id": "p1"}, ["r4"]),
                ({"command": "open", "limit": 3}, ["r3", "r2", "r1"]),
                ({"outcome": "accepted"}, ["r4"]),
                ({"user": "ada", "request_id": "r2"}, ["r2"]),
                ({"since": "2026-11-24T09:03:00+01:00"}, ["r4", "r3"]),
                ({"until": "2026-11-24T08:00:00Z"}, ["r0"]),
                ({"sn": "T9"}, []),
            ):
                assert (await ids(**query))[0] == expected
    finally:
        await database.close()


async def test_a_store_that_cannot_be_read_is_503() -> None:
    site = WebServerUnderTest()

    async def fail(*_: Any) -> Any:
        raise UnavailableError("the store is locked")

    site.read_audit = fail
    async with site.open() as session:
        answer = await get(session, "/api/log", 503)
    assert answer == {"outcome": "unavailable", "errors": [{"path": "", "message": "the store is locked"}]}


@pytest.mark.parametrize(
    ("path", "query", "fault"),
    [
        ("/api/terminals", "limit=0", "limit"),
        ("/api/terminals", "limit=1001", "limit"),
        ("/api/terminals", "limit=-1", "limit"),
        ("/api/terminals", "limit=٣", "limit"),
        ("/api/terminals", "limit=", "limit"),
        ("/api/terminals", "limit=1&limit=2", "limit"),
        ("/api/terminals", "cursor=", "cursor"),
        ("/api/terminals", "cursor=%00", "cursor"),
        ("/api/terminals", "cursor=" + "A" * 3_000, "cursor"),
        ("/api/terminals", "cursor=WyJhIl0", "cursor"),
        ("/api/terminals", "cursor=WzEsMl0", "cursor"),
        ("/api/log", "cursor=WyJhIl0", "cursor"),
        ("/api/log", "cursor=WyItMSJd", "cursor"),
        ("/api/terminals", "state=unknown", "state"),
        ("/api/terminals", "group=a/b", "group"),
        ("/api/terminals", "q=", "q"),
        ("/api/terminals", "q=%0a", "q"),
        ("/api/terminals", "q=" + "a" * 65, "q"),
        ("/api/terminals", "stat=online", "query"),
        ("/api/terminals/T1", "limit=1", "query"),
        ("/api/log", "sn=a b", "sn"),
        ("/api/log", "person_id=[]", "person_id"),
        ("/api/log", "command=close", "command"),
        ("/api/log", "outcome=good", "outcome"),
        ("/api/log", "since=yesterday", "since"),
        ("/api/log", "since=2026-11-24T08:00:00", "since"),
        ("/api/log", "since=0001-01-01T00:00:00%2B14:00", "since"),
        ("/api/log", "until=9999-12-31T23:59:59-14:00", "until"),
    ],
)
async def test_a_wrong_query_is_invalid(path: str, query: str, fault: str) -> None:
    async with WebServerUnderTest().open() as session:
        answer = await get(session, f"{path}?{query}", 400)
    assert answer["outcome"] == "invalid"
    assert [one["path"] for one in answer["errors"]] == [fault]
