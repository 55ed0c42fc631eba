"""A website in a user's browser cannot open a door or read anything (docs/http.md)."""

import socket

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.secret import Secret
from bridge.web.same_origin import authority_of, host_of
from tests.support.web import WebServerUnderTest

WEBSITE: list[dict[str, str]] = [
    {"Host": "evil.example.org"},
    {"Host": "127.0.0.1.evil.example.org:80"},
    {"Host": "localhost.evil.example.org"},
    {"Host": "evil.example.org:8099"},
    {"Host": "user@127.0.0.1"},
    {"Host": "127.0.0.1:port"},
    {"Host": "[::1"},
    {"Host": "192.0.2.1"},
    {"Host": ""},
    {"Origin": "http://evil.example.org"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything"},
]


@pytest.mark.parametrize("headers", WEBSITE, ids=str)
@pytest.mark.parametrize("login", [False, True])
async def test_a_website_cannot_open_a_door(headers: dict[str, str], login: bool) -> None:
    site = WebServerUnderTest(username="admin", password=Secret("p")) if login else WebServerUnderTest()
    if login:
        headers = {**headers, "Authorization": aiohttp.encode_basic_auth("admin", "p")}
    async with site.open() as session:
        for method, path in (
            ("POST", "/api/terminals/T1/open"),
            ("GET", "/api/terminals"),
            ("HEAD", "/api/terminals"),
            ("OPTIONS", "/api/terminals/T1/open"),
            ("GET", "/metrics"),
            ("GET", "/readyz"),
            ("GET", "/nothing"),
        ):
            async with session.request(method, path, headers=headers) as response:
                assert response.status == 403, (method, path)
                assert not [name for name in response.headers if name.startswith("Access-Control-")]
                if method != "HEAD":
                    assert [error["path"] for error in (await response.json())["errors"]] == list(headers)[:1]
    assert site.connection.frames == []


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example.org\r\n"])
async def test_exactly_one_host_header_is_needed(hosts: bytes) -> None:
    site = WebServerUnderTest()
    async with site.open():
        answer = await site.send(b"POST /api/terminals/T1/open HTTP/1.0\r\n" + hosts + b"\r\n")
    assert answer.split(b" ")[1] in (b"400", b"403")
    assert site.connection.frames == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "localhost", "LOCALHOST", "[::1]", "doors.example.org"])
async def test_the_servers_own_names_are_accepted(host: str) -> None:
    site = WebServerUnderTest(url="https://doors.example.org/page")
    async with site.open() as session:
        own = {"Host": f"{host}:{site.server.port}", "Origin": f"http://{host}:{site.server.port}"}
        for headers in (
            own,
            {**own, "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Host": host, "Origin": "https://doors.example.org"},
        ):
            async with session.post("/api/terminals/T1/open", headers=headers) as response:
                assert response.status == 200, headers


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("192.0.2.1", True),
        ("[2001:db8::1]:8099", True),
        (socket.gethostname(), True),
        ("localhost", True),
        ("doors.example.org", True),
        ("evil.example.org", False),
        (f"{socket.gethostname()}.evil.example.org", False),
    ],
)
async def test_a_server_for_other_machines_accepts_its_names_and_any_address(host: str, own: bool) -> None:
    site = WebServerUnderTest(host="0.0.0.0", username="admin", password=Secret("p"), url="https://doors.example.org")
    headers = {"Host": host, "Authorization": aiohttp.encode_basic_auth("admin", "p")}
    async with site.open() as session, session.get("/api/terminals", headers=headers) as response:
        assert response.status == (200 if own else 403)


async def test_the_message_names_the_remedy() -> None:
    async with WebServerUnderTest().open() as session, session.get("/healthz", headers={"Host": "doors"}) as response:
        assert "set web.url" in (await response.json())["errors"][0]["message"]


@given(st.text(max_size=40))
def test_any_header_value_can_be_parsed(value: str) -> None:
    for read in (host_of, authority_of):
        found = read(f"//{value}")
        assert found is None or isinstance(found, str)
