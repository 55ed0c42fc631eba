"""Groups over HTTP: their members, and the persons that they keep."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.persons.person_system import PHOTO, PersonSystem, person, person_system
from tests.support.core import known_terminal
from tests.support.web import WebServerUnderTest


@asynccontextmanager
async def site(place: Path) -> AsyncIterator[tuple[PersonSystem, aiohttp.ClientSession]]:
    async with person_system(place) as system, WebServerUnderTest(persons=system).open() as session:
        yield system, session


async def send(session: aiohttp.ClientSession, method: str, path: str, status: int, **details: Any) -> Any:
    async with session.request(method, path, **details) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_groups_count_members_and_persons(tmp_path: Path) -> None:
    async with site(tmp_path) as (system, session):
        system.registry.put(known_terminal("T3", groups=("lobby", "yard")))
        await send(session, "PUT", "/api/groups/lobby/persons/p1", 202, json=person("p1"))
        await send(session, "PUT", "/api/groups/yard/persons/p2", 202, json=person("p2"))
        system.registry.put(known_terminal("T3", groups=("lobby",)))
        first = await send(session, "GET", "/api/groups?limit=2", 200)
        second = await send(session, "GET", f"/api/groups?limit=2&cursor={first['next']}", 200)
        assert first["items"] + second["items"] == [
            {"name": "all", "members": 3, "persons": 0},
            {"name": "lobby", "members": 3, "persons": 1},
            {"name": "yard", "members": 0, "persons": 1},
        ]
        assert (first["total"], second["next"]) == (3, None)


async def test_a_groups_persons_are_those_that_it_keeps(tmp_path: Path) -> None:
    async with site(tmp_path) as (system, session):
        for number in range(3):
            path = f"/api/groups/lobby/persons/p{number}"
            await send(session, "PUT", path, 202, json=person(f"p{number}", name=f"Name {number}"))
        await system.set(person("p9"))
        first = await send(session, "GET", "/api/groups/lobby/persons?limit=2", 200)
        second = await send(session, "GET", f"/api/groups/lobby/persons?limit=2&cursor={first['next']}", 200)
        assert [one["id"] for one in first["items"] + second["items"]] == ["p0", "p1", "p2"]
        assert (first["total"], second["next"]) == (3, None)
        found = await send(session, "GET", "/api/groups/lobby/persons?q=NAME%201", 200)
        assert [one["id"] for one in found["items"]] == ["p1"]
        assert await send(session, "GET", "/api/groups/lobby/persons/p1", 200) == found["items"][0]
        async with session.get("/api/groups/lobby/persons/p1/photo") as response:
            assert (response.status, await response.read()) == (200, base64.b64decode(PHOTO))
            etag = response.headers["ETag"]
        async with session.get("/api/groups/lobby/persons/p1/photo", headers={"If-None-Match": etag}) as response:
            assert response.status == 304
        await send(session, "PUT", "/api/terminals/T1/persons/p1", 202, json={"name": "Other"})
        shown = await send(session, "GET", "/api/persons/p1", 200)
        assert [(one["name"], one["differs"]) for one in shown["groups"]] == [("lobby", True)]
        assert {one["sn"]: one["access"] for one in shown["items"]} == {"T1": ["lobby"], "T2": ["lobby"]}
        await send(session, "DELETE", "/api/groups/lobby/persons/p1", 202)
        assert (await send(session, "GET", "/api/groups/lobby/persons", 200))["total"] == 2


async def test_a_group_without_members_keeps_its_persons_until_they_are_removed(tmp_path: Path) -> None:
    async with site(tmp_path) as (system, session):
        system.registry.put(known_terminal("T3", groups=("yard",)))
        await send(session, "PUT", "/api/groups/yard/persons/p1", 202, json=person("p1"))
        system.registry.remove("T3")
        await system.person_service.forget("T3")
        shown = await send(session, "GET", "/api/persons/p1", 200)
        assert ([one["name"] for one in shown["groups"]], shown["items"], shown["person"]["id"]) == (["yard"], [], "p1")
        assert (await send(session, "GET", "/api/persons?q=p1", 200))["total"] == 1
        await send(session, "PUT", "/api/groups/yard/persons/p2", 404, json=person("p2"))
        answer = await send(session, "DELETE", "/api/groups/yard/persons/p1", 200)
        assert (answer["command"], answer["total"], answer["outcomes"]) == ("removePerson", 0, {})
        await send(session, "GET", "/api/groups/yard/persons", 404)
        await send(session, "GET", "/api/persons/p1", 404)


@pytest.mark.parametrize(
    ("path", "status", "fault"),
    [
        ("/api/groups/none/persons", 404, "name"),
        ("/api/groups/a.b/persons", 400, "name"),
        ("/api/groups/lobby/persons/p1", 404, "id"),
        ("/api/groups/lobby/persons/p1/photo", 404, "id"),
        ("/api/groups/lobby/persons/a,b", 400, "id"),
        ("/api/groups/lobby/persons?q=%0a", 400, "q"),
        ("/api/groups/lobby/persons?delivery=pending", 400, "query"),
    ],
)
async def test_what_does_not_exist_is_named(tmp_path: Path, path: str, status: int, fault: str) -> None:
    async with site(tmp_path) as (_, session):
        answer = await send(session, "GET", path, status)
        assert [one["path"] for one in answer["errors"]] == [fault]
        assert (await send(session, "GET", "/api/groups/lobby/persons", 200))["total"] == 0
