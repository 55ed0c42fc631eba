"""Every route gives the statuses that the OpenAPI document names for requests that are refused, and no other."""

import re
from collections import defaultdict
from typing import Any

import aiohttp
import pytest

from bridge.config.settings import TokenSettings
from bridge.model.secret import Secret
from bridge.web.context import WebLimits
from tests.support.web import WebServerUnderTest
from tools.openapi import document

DOCUMENT = document()
OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}
BOSS = {"Authorization": "Bearer boss-token"}
ROBOT = {"Authorization": "Bearer robots-token"}
MAX_PHOTO_BYTES = 1_000
REFUSALS = {400, 401, 403, 408, 413, 415, 429}
"""The statuses of requests that are refused in every state of the bridge."""


def url_of(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda part: {"sn": "T1", "name": "lobby", "id": "p1"}[part[1]], path)


class Refusals:
    """Sends requests that are refused, and keeps the statuses of each route."""

    def __init__(self, site: WebServerUnderTest, session: aiohttp.ClientSession) -> None:
        self._site = site
        self._session = session
        self.statuses: dict[tuple[str, str], set[int]] = defaultdict(set)

    async def send(self, route: tuple[str, str], headers: dict[str, str], **body: Any) -> int:
        method, path = route
        async with self._session.request(method, url_of(path), headers=headers, **body) as response:
            status = response.status
            for name in OPERATIONS[route]["responses"].get(str(status), {}).get("headers", {}):
                # The store's failures have no time after which they end.
                assert name in response.headers or status == 503, (route, status, name)
        self.statuses[route].add(status)
        return status

    async def send_slowly(self, route: tuple[str, str]) -> None:
        method, path = route
        head = f"{method} {url_of(path)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BOSS['Authorization']}\r\n"
        answer = await self._site.send(head.encode() + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        self.statuses[route].add(int(answer.split(b" ", 2)[1]))


async def test_every_refusal_is_documented_and_no_other() -> None:
    tokens = {
        "robot": TokenSettings(hash=Secret("robots-token"), role="operator"),
        "boss": TokenSettings(hash=Secret("boss-token"), role="admin"),
    }
    limits = WebLimits(body_seconds=0.3, upload_seconds=0.3, max_photo_bytes=MAX_PHOTO_BYTES)
    site = WebServerUnderTest(tokens=tokens, limits=limits)
    async with site.open() as session:
        refusals = Refusals(site, session)
        for route, operation in OPERATIONS.items():
            await refusals.send(route, {**BOSS, "Origin": "http://attacker.example"})
            if "Needs the role" in operation["description"]:
                await refusals.send(route, {})
            if "requestBody" in operation:
                await refusals.send(route, BOSS, data=b"x" * 300_000)
                await refusals.send(route, {**BOSS, "Content-Type": "text/plain"}, data=b"x")
                await refusals.send(route, BOSS, json=[])
                await refusals.send_slowly(route)
            else:
                await refusals.send(route, BOSS, json={})
            if operation["description"] == "Needs the role `admin`.":
                assert await refusals.send(route, ROBOT) == 403, route
        for route in OPERATIONS:
            for number in range(11):
                if await refusals.send(route, {"Authorization": f"Bearer guess-{number}"}) != 401:
                    break
    documented = {
        route: {int(status) for status in operation["responses"]} & REFUSALS for route, operation in OPERATIONS.items()
    }
    assert {route: seen & REFUSALS for route, seen in refusals.statuses.items()} == documented
    assert site.connection.frames == []


@pytest.mark.parametrize("route", OPERATIONS, ids=" ".join)
def test_a_session_needs_the_token_where_something_is_changed(route: tuple[str, str]) -> None:
    security = OPERATIONS[route].get("security", DOCUMENT["security"])
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert {name for alternative in security for name in alternative} <= set(schemes)
    with_session = [set(alternative) for alternative in security if "session" in alternative]
    if route[1] == "/healthz":
        assert security == []
    elif route[0] == "GET":
        assert with_session == [{"session"}]
    else:
        assert with_session == [{"session", "csrf"}]
