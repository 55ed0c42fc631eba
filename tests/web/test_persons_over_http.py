"""Persons over HTTP, with a real store: where they are, where not yet, and why."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import update

from bridge.protocol.replies import TerminalReply
from bridge.store.tables import PHOTO as PHOTO_TABLE
from tests.persons.person_system import OTHER_PHOTO, PHOTO, PersonSystem, person, person_system, silent
from tests.support.web import WebServerUnderTest


async def get(session: aiohttp.ClientSession, path: str, status: int = 200, **query: Any) -> Any:
    async with session.get(path, params=query) as response:
        assert response.status == status, await response.text()
        return await response.json()


@asynccontextmanager
async def site(place: Path, **details: Any) -> AsyncIterator[tuple[PersonSystem, aiohttp.ClientSession]]:
    async with person_system(place, **details) as system, WebServerUnderTest(persons=system).open() as session:
        yield system, session


def refuse(msgid: str) -> TerminalReply | None:
    return TerminalReply(msgid, None, 7, "no face found")


async def test_a_terminals_persons_are_those_of_a_reply_to_get_persons(tmp_path: Path) -> None:
    async with site(tmp_path) as (system, session):
        system.connect("T1")
        await system.set(person("p1", weekly={"default": "08:00-18:00"}), person("p2", enabled=False), person("p3"))
        await system.settled()
        await system.remove("p3")
        await system.settled()
        system.connect("T1", silent)
        await system.remove("p1")
        page = await get(session, "/api/terminals/T1/persons")
        assert page["items"] == await system.persons("T1")
        assert [(one["id"], one["wanted"]) for one in page["items"]] == [("p1", "removed"), ("p2", "disabled")]
        assert page["total"] == 2
        first = await get(session, "/api/terminals/T1/persons", limit=1)
        second = await get(session, "/api/terminals/T1/persons", limit=1, cursor=first["next"])
        assert [first["items"], second["items"], second["next"]] == [page["items"][:1], page["items"][1:], None]
        assert await get(session, "/api/terminals/T1/persons/p2") == page["items"][1]
        await system.remove_everyone()
        (everyone,) = (await get(session, "/api/terminals/T1/persons"))["items"]
        assert (everyone["id"], everyone["wanted"], everyone["delivery"]) == (None, "removed", "pending")


async def test_a_person_shows_where_and_why_not(tmp_path: Path) -> None:
    async with site(tmp_path, sns=("T1", "T2", "T3", "T4")) as (system, session):
        system.connect("T1")
        system.connect("T2", refuse)
        for sn in ("T1", "T2", "T3"):
            await system.set(person("p1"), sn=sn)
        await system.set(person("p1", photo=OTHER_PHOTO, name="New name"), sn="T4")
        await system.settled("T1")
        await system.settled("T2")
        shown = await get(session, "/api/persons/p1")
        assert (shown["id"], shown["person"]["name"]) == ("p1", "New name")
        assert shown["terminals"] == {"desired": 4, "confirmed": 1, "pending": 2, "refused": 1}
        assert [
            (one["sn"], one["name"], one["online"], one["delivery"], one["status"], one["message"], one["differs"])
            for one in shown["items"]
        ] == [
            ("T1", "Front door", True, "confirmed", 0, "ok", True),
            ("T2", "Terminal T2", True, "refused", 7, "no face found", True),
            ("T3", "Terminal T3", False, "pending", None, None, True),
            ("T4", "Terminal T4", False, "pending", None, None, False),
        ]
        assert (shown["total"], shown["next"]) == (4, None)
        part = await get(session, "/api/persons/p1", limit=3)
        rest = await get(session, "/api/persons/p1", limit=3, cursor=part["next"])
        assert part["items"] + rest["items"] == shown["items"]
        # The name on one terminal, the refusal on another one: the list shows the person as "New name", refused.
        for text, total in (("NEW", 1), ("other", 0)):
            assert (await get(session, "/api/persons", delivery="refused", q=text))["total"] == total
        refused = await get(session, "/api/persons", delivery="refused")
        assert [(one["id"], one["name"]) for one in refused["items"]] == [("p1", "New name")]


async def test_persons_are_paged_by_id(tmp_path: Path) -> None:
    async with site(tmp_path) as (system, session):
        ids = [f"p{number}" for number in range(5)]
        await system.set(*map(person, ids))
        await system.set(*map(person, ids[:2]), sn="T2")
        first = await get(session, "/api/persons", limit=3)
        second = await get(session, "/api/persons", limit=3, cursor=first["next"])
        assert [[one["id"] for one in page["items"]] for page in (first, second)] == [ids[:3], ids[3:]]
        assert [first["items"][0]["terminals"]["desired"], second["items"][0]["terminals"]["desired"]] == [2, 1]
        assert [first["total"], second["total"], second["next"]] == [5, 5, None]


@pytest.mark.parametrize(
    ("path", "status", "fault"),
    [
        ("/api/persons/p9", 404, "id"),
        ("/api/persons/a%20b", 400, "id"),
        ("/api/persons/%5B%5D", 400, "id"),
        ("/api/persons/" + "1" * 65, 400, "id"),
        ("/api/persons/%F0%9F%98%80", 400, "id"),
        ("/api/terminals/T9/persons", 404, "sn"),
        ("/api/terminals/a.b/persons", 400, "sn"),
        ("/api/terminals/T1/persons/p9", 404, "id"),
        ("/api/terminals/T1/persons/a,b", 400, "id"),
        ("/api/terminals/T9/persons/p1", 404, "sn"),
        ("/api/persons?delivery=lost", 400, "delivery"),
        ("/api/persons?q=%00", 400, "q"),
        ("/api/persons?cursor=WyJcdTAwMDAiXQ", 400, "cursor"),
    ],
)
async def test_what_does_not_exist_is_named(tmp_path: Path, path: str, status: int, fault: str) -> None:
    async with site(tmp_path) as (_, session):
        answer = await get(session, path, status)
    assert [one["path"] for one in answer["errors"]] == [fault]


async def test_a_photo_is_sent_once_and_again_after_a_change(tmp_path: Path) -> None:
    path = "/api/terminals/T1/persons/p1/photo"
    async with site(tmp_path) as (system, session):
        await system.set(person("p1"))
        async with session.get(path) as response:
            assert (response.status, response.content_type) == (200, "image/jpeg")
            assert await response.read() == base64.b64decode(PHOTO)
            assert response.headers["Cache-Control"] == "private, no-cache"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            etag = response.headers["ETag"]
        for known, status in ((etag, 304), (f'"x", W/{etag}', 304), ("*", 304), ('"x"', 200), ("x", 200)):
            async with session.get(path, headers={"If-None-Match": known}) as response:
                assert response.status == status, known
                assert response.headers["ETag"] == etag
                assert (await response.read() == b"") == (status == 304)
        async with session.head(path) as response:
            assert (response.status, response.headers["ETag"]) == (200, etag)
        await system.set(person("p1", photo=OTHER_PHOTO))
        async with session.get(path, headers={"If-None-Match": etag}) as response:
            assert (response.status, await response.read()) == (200, base64.b64decode(OTHER_PHOTO))
            assert response.headers["ETag"] != etag


async def test_a_photo_that_is_not_there_is_404(tmp_path: Path) -> None:
    async with site(tmp_path) as (system, session):
        await system.set(person("p1"))
        await system.remove("p1")
        for path, fault in (("T1/persons/p1", "id"), ("T1/persons/p9", "id"), ("T9/persons/p1", "sn")):
            answer = await get(session, f"/api/terminals/{path}/photo", 404)
            assert answer["errors"][0]["path"] == fault
        await system.set(person("p2"))
        await system.database.write(lambda connection: connection.execute(update(PHOTO_TABLE).values(key_id="lost")))
        answer = await get(session, "/api/terminals/T1/persons/p2/photo", 404)
        assert answer["errors"][0]["path"] == "photo"
