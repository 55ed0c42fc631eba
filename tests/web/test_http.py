"""The HTTP API of CONTRACT, section 6, from the outside."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

from bridge.config.settings import TokenSettings
from bridge.model.outcome import Outcome
from bridge.model.secret import Secret
from bridge.protocol.replies import TerminalReply
from bridge.terminals.passwords import hash_password
from bridge.web.errors import STATUS
from tests.support.hub import WrittenConnection
from tests.support.waiting import PATIENCE, until
from tests.support.web import Site


async def test_a_press_is_answered_as_over_mqtt() -> None:
    site = Site()
    async with site.open() as session, session.post("/api/terminals/T1/open", json={"request_id": "r"}) as response:
        answer = await response.json()
        assert response.status == 200
    assert (answer["outcome"], answer["request_id"], answer["sn"], answer["command"]) == ("ok", "r", "T1", "open")
    assert site.connection.commands == ["OpenRequest"]


async def test_a_reboot_is_a_reboot() -> None:
    site = Site()
    async with site.open() as session, session.post("/api/terminals/T1/reboot") as response:
        assert (await response.json())["command"] == "reboot"
    assert site.connection.commands == ["RebootRequest"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/terminals/T2/open", 409),
        ("/api/terminals/T9/open", 404),
        ("/api/terminals/a%2Fb/open", 400),
        (f"/api/terminals/{'x' * 65}/open", 400),
        ("/api/groups/lobby/open", 409),
        ("/api/groups/nobody/open", 404),
        ("/api/groups/a.b/open", 400),
        ("/api/terminals/T1/close", 404),
        ("/api/nothing", 404),
        ("/healthz", 405),
    ],
)
async def test_what_cannot_be_done_is_told_in_json(path: str, status: int) -> None:
    async with Site().open() as session, session.post(path) as response:
        answer = await response.json()
        assert response.status == status
        assert "outcome" in answer or "outcomes" in answer


@pytest.mark.parametrize(
    ("answer", "taken", "status"),
    [(TerminalReply("", None, 7, "no"), True, 502), (None, True, 504), (None, False, 504)],
)
async def test_a_refusal_and_silence_have_their_codes(answer: TerminalReply | None, taken: bool, status: int) -> None:
    site = Site(deadline=0.3)

    def reply(msgid: str) -> TerminalReply | None:
        return None if answer is None else TerminalReply(msgid, None, answer.status, answer.message)

    connection = WrittenConnection(site.registry, "T1", reply)
    connection.taken = taken
    async with site.open() as session:
        site.registry.connected(connection)
        async with session.post("/api/terminals/T1/open") as response:
            assert response.status == status


def test_every_outcome_has_a_code() -> None:
    assert set(STATUS) == set(Outcome)


async def test_a_group_gets_its_summary() -> None:
    async with Site().open() as session, session.post("/api/groups/all/open") as response:
        answer = await response.json()
        assert (response.status, answer["total"], answer["failed"]) == (409, 2, {"T2": "offline"})


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 200),
        (b"{}", "application/json", 200),
        (b"{", "application/json", 400),
        (b"[" * 3000, "application/json", 400),
        (b"null", "application/json", 200),
        (b"[]", "application/json", 400),
        (b'{"requestid": "r"}', "application/json", 400),
        (b'{"request_id": 7}', "application/json", 400),
        (b"request_id=r", "application/x-www-form-urlencoded", 415),
        (b"\xff", "application/json", 400),
        (b" " * 5000, "application/json", 413),
    ],
)
async def test_a_body_is_checked(body: bytes, content_type: str, status: int) -> None:
    async with (
        Site().open() as session,
        session.post("/api/terminals/T1/open", data=body, headers={"Content-Type": content_type}) as response,
    ):
        assert response.status == status


async def test_terminals_are_shown_as_over_mqtt() -> None:
    site = Site()
    async with site.open() as session:
        async with session.get("/api/terminals") as response:
            shown = await response.json()
        async with session.get("/api/terminals/T1") as response:
            assert await response.json() == shown[0]
        async with session.get("/api/terminals/T9") as response:
            assert response.status == 404
    assert [(one["sn"], one["online"]) for one in shown] == [("T1", True), ("T2", False)]
    assert shown[0]["name"] == "Front door"


async def test_whoever_hangs_up_does_not_stop_a_press_half_way() -> None:
    site = Site(deadline=1)
    connection = WrittenConnection(site.registry, "T1", lambda _: None)
    async with site.open() as session:
        site.registry.connected(connection)
        with pytest.raises(TimeoutError):
            await session.post("/api/terminals/T1/open", timeout=aiohttp.ClientTimeout(total=0.2))
        known = site.registry.get("T1")
        assert known is not None
        await until(lambda: known.last_reply is not None)
        assert known.last_reply is not None
        assert known.last_reply.outcome is Outcome.TIMEOUT


WEBSITE: list[dict[str, str]] = [
    {"Host": "evil.example.org"},
    {"Host": "127.0.0.1.evil.example.org:80"},
    {"Host": "user@127.0.0.1"},
    {"Host": ""},
    {"Origin": "http://evil.example.org"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", WEBSITE)
@pytest.mark.parametrize("login", [False, True])
async def test_no_website_opens_a_door(headers: dict[str, str], login: bool) -> None:
    site = Site(username="admin", password=Secret("p")) if login else Site()
    if login:
        headers = {**headers, "Authorization": aiohttp.encode_basic_auth("admin", "p")}
    async with site.open() as session, session.post("/api/terminals/T1/open", headers=headers) as response:
        assert response.status == 403
        assert (await response.json())["errors"]
    assert site.connection.frames == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "doors.example.org"])
async def test_the_servers_own_names_are_its_own(host: str) -> None:
    site = Site(url="https://doors.example.org/page")
    async with site.open() as session:
        own = {"Host": f"{host}:{site.server.port}", "Origin": f"http://{host}:{site.server.port}"}
        for headers in (own, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "https://doors.example.org"}):
            async with session.post("/api/terminals/T1/open", headers=headers) as response:
                assert response.status == 200, headers


async def status_with(session: aiohttp.ClientSession, authorization: str | None, path: str = "/api/terminals") -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with session.get(path, headers=headers) as response:
        return response.status


async def test_with_a_login_nobody_does_without() -> None:
    token = await asyncio.to_thread(hash_password, "robots-token")
    site = Site(
        username="admin", password=Secret("p"), tokens={"robot": TokenSettings(hash=Secret(token), role="operator")}
    )
    async with site.open() as session:
        assert await status_with(session, aiohttp.encode_basic_auth("admin", "p")) == 200
        assert await status_with(session, "Bearer robots-token") == 200
        wrong: list[Any] = [
            None,
            "Bearer wrong",
            "Basic !",
            aiohttp.encode_basic_auth("admin", "q"),
            aiohttp.encode_basic_auth("x", "p"),
        ]
        for authorization in wrong:
            assert await status_with(session, authorization) == 401
        assert await status_with(session, None, "/metrics") == 401
        assert await status_with(session, None, "/healthz") == 200
        assert await status_with(session, None, "/readyz") == 200


async def test_guessing_is_slowed_down_and_costs_others_nothing() -> None:
    site = Site(username="admin", password=Secret("p"))
    async with site.open() as session:
        statuses = [await status_with(session, aiohttp.encode_basic_auth("admin", f"{n}")) for n in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert await status_with(session, None, "/healthz") == 200


async def test_health_and_readiness() -> None:
    site = Site()
    async with site.open() as session:
        async with session.get("/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with session.get("/readyz") as response:
            assert response.status == 200
        site.statuses["intake"] = "nothing listens on broker:1883"
        site.store_answers = False
        async with session.get("/readyz") as response:
            answer = await response.json()
            assert response.status == 503
    assert answer["checks"] == {
        "broker (live)": "ok",
        "broker (intake)": "nothing listens on broker:1883",
        "store": "does not answer",
    }


async def test_metrics_count_and_name_nobody() -> None:
    site = Site()
    async with site.open() as session:
        for sn in ("T1", "T2"):
            await session.post(f"/api/terminals/{sn}/open")
        async with session.get("/metrics") as response:
            text = await response.text()
            assert response.content_type == "text/plain"
    assert 'facebridge_commands_total{command="open",outcome="ok"} 1.0' in text
    assert 'facebridge_commands_total{command="open",outcome="offline"} 1.0' in text
    assert 'facebridge_terminals{state="online"} 1.0' in text
    assert 'facebridge_queue_length{queue="presses"} 3.0' in text
    assert 'facebridge_command_seconds_bucket{command="open",le="0.001"}' in text
    assert 'facebridge_broker_connected{connection="live"} 1.0' in text
    for name in ("T1", "T2", "Front door"):
        assert name not in text


async def test_answers_are_not_kept_framed_or_guessed_at() -> None:
    async with Site().open() as session, session.get("/api/terminals") as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Server"] == "facebridge"
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"G" * 100_000, b"\0\r\n\r\n"])
async def test_garbage_leaves_no_traceback(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    async with site.open() as session:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        writer.write(garbage)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            try:
                await reader.read()
            except ConnectionResetError:
                writer.close()
        writer.close()
        assert await status_with(session, None) == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def test_a_port_in_use_is_told_by_its_key() -> None:
    site = Site()
    async with site.open():
        other = Site(port=site.server.port)
        with pytest.raises(OSError, match=r"web.port: cannot listen on 127.0.0.1:\d+: Address already in use"):
            await other.server.start()
        other.verifier.close()
