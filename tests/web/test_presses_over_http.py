"""Presses over HTTP: the core's replies with their status codes (docs/http.md)."""

import asyncio
from datetime import UTC, datetime

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.commands import COMMANDS
from bridge.model.events import CommandReplied, GroupReplied
from bridge.model.reply import GroupSummary, Outcome, Reply
from bridge.protocol.replies import TerminalReply
from bridge.web.context import WebLimits
from bridge.web.errors import STATUS, WORST_FIRST, summary_response
from tests.support.core import RecordingConnection, collect
from tests.support.waiting import until
from tests.support.web import WebServerUnderTest

REPLY_KEYS = set(Reply(command="open", outcome=Outcome.OK, at=datetime.now(UTC)).as_json())


async def test_a_press_is_answered_as_over_mqtt() -> None:
    site = WebServerUnderTest()
    async with site.open() as session, session.post("/api/terminals/T1/open", json={"request_id": "r"}) as response:
        answer = await response.json()
        assert response.status == 200
    assert set(answer) == REPLY_KEYS
    assert (answer["outcome"], answer["request_id"], answer["sn"], answer["command"]) == ("ok", "r", "T1", "open")
    assert site.connection.commands == ["OpenRequest"]


async def test_a_reboot_is_a_reboot() -> None:
    site = WebServerUnderTest()
    async with site.open() as session, session.post("/api/terminals/T1/reboot") as response:
        assert (await response.json())["command"] == "reboot"
    assert site.connection.commands == ["RebootRequest"]


async def test_every_press_of_the_table_has_its_routes() -> None:
    async with WebServerUnderTest().open() as session:
        for definition in COMMANDS:
            for path in ("/api/terminals/T1", "/api/groups/lobby"):
                async with session.post(f"{path}/{definition.topic.removesuffix('/set')}") as response:
                    assert (response.status != 404) == definition.urgent, definition.name


@pytest.mark.parametrize(
    ("path", "status", "about"),
    [
        ("/api/terminals/T2/open", 409, {"sn": "T2", "outcome": "offline", "delivered": False}),
        ("/api/terminals/T9/open", 404, {"sn": "T9", "outcome": "invalid", "delivered": False}),
        ("/api/terminals/T9/reboot", 404, {"sn": "T9", "command": "reboot"}),
        ("/api/terminals/a%2Fb/open", 400, {"sn": None, "outcome": "invalid"}),
        ("/api/terminals/..%2F..%2Fopen/open", 400, {"sn": None, "outcome": "invalid"}),
        ("/api/terminals/%23/open", 400, {"sn": None, "outcome": "invalid"}),
        (f"/api/terminals/{'x' * 65}/open", 400, {"sn": None, "outcome": "invalid"}),
        ("/api/groups/nobody/open", 404, {"sn": None, "group": "nobody", "outcome": "invalid"}),
        ("/api/groups/a.b/open", 400, {"sn": None, "outcome": "invalid"}),
    ],
)
async def test_a_press_that_is_not_carried_out_gets_a_complete_reply(
    path: str, status: int, about: dict[str, object]
) -> None:
    site = WebServerUnderTest()
    events = collect(site.events, CommandReplied)
    async with site.open() as session, session.post(path) as response:
        answer = await response.json()
        assert response.status == status
    assert set(answer) >= REPLY_KEYS
    assert about.items() <= answer.items()
    assert bool(answer.get("errors")) == (answer["outcome"] == "invalid")
    assert len(events) == 1, "an event is published, as for a press over MQTT"


@pytest.mark.parametrize(
    ("answer", "taken", "status"),
    [(TerminalReply("", None, 7, "no"), True, 502), (None, True, 504), (None, False, 504)],
)
async def test_status_codes_of_a_refusal_and_a_time_out(answer: TerminalReply | None, taken: bool, status: int) -> None:
    site = WebServerUnderTest(deadline=1.0)

    def reply(msgid: str) -> TerminalReply | None:
        return None if answer is None else TerminalReply(msgid, None, answer.status, answer.message)

    connection = RecordingConnection(site.registry, "T1", reply)
    connection.is_delivered = taken
    async with site.open() as session:
        site.registry.connected(connection)
        async with session.post("/api/terminals/T1/open") as response:
            assert response.status == status
            assert (await response.json())["delivered"] is taken


async def test_a_connection_that_breaks_is_lost() -> None:
    site = WebServerUnderTest()
    site.connection.broken = True
    async with site.open() as session, session.post("/api/terminals/T1/open") as response:
        assert (response.status, (await response.json())["outcome"]) == (502, "lost")


def test_every_outcome_has_a_status_and_a_rank() -> None:
    assert set(STATUS) == set(Outcome)
    assert sorted(WORST_FIRST) == sorted(Outcome)


@given(st.lists(st.sampled_from(Outcome), min_size=1))
def test_a_group_has_status_200_only_if_every_member_succeeded(outcomes: list[Outcome]) -> None:
    now = datetime.now(UTC)
    replies = [Reply(command="open", sn=f"T{number}", outcome=one, at=now) for number, one in enumerate(outcomes)]
    response = summary_response(GroupSummary.of(replies, command="open", group="g", at=now, request_id=None))
    fine = set(outcomes) <= {Outcome.OK, Outcome.SUPERSEDED}
    assert (response.status == 200) == fine
    assert response.status in {STATUS[one] for one in outcomes}


@pytest.mark.parametrize("group", ["all", "lobby"])
async def test_a_group_gets_its_summary(group: str) -> None:
    site = WebServerUnderTest()
    events = collect(site.events, GroupReplied)
    async with (
        site.open() as session,
        session.post(f"/api/groups/{group}/open", json={"request_id": "g"}) as response,
    ):
        answer = await response.json()
    assert response.status == 409, "the worst outcome's"
    assert {"request_id": "g", "group": group, "total": 2, "failed": {"T2": "offline"}}.items() <= answer.items()
    assert answer["outcomes"] == {"ok": 1, "offline": 1}
    assert len(events) == 1


async def test_a_group_that_all_did_it_is_fine() -> None:
    site = WebServerUnderTest()
    site.registry.connected(RecordingConnection(site.registry, "T2"))
    async with site.open() as session, session.post("/api/groups/all/reboot") as response:
        assert (response.status, (await response.json())["outcomes"]) == (200, {"ok": 2})


@pytest.mark.parametrize(
    ("body", "content_type", "status", "path"),
    [
        (b"", "application/json", 200, None),
        (b"", "application/x-www-form-urlencoded", 200, None),
        (b"{}", "application/json", 200, None),
        (b"{}", "application/json; charset=utf-8", 200, None),
        (b'{"request_id": null}', "application/json", 200, None),
        (b"{", "application/json", 400, ""),
        (b"[" * 3000, "application/json", 400, ""),
        (b"null", "application/json", 400, ""),
        (b"[]", "application/json", 400, ""),
        (b'"PRESS"', "application/json", 400, ""),
        (b'{"requestid": "r"}', "application/json", 400, "requestid"),
        (b'{"request_id": 7}', "application/json", 400, "request_id"),
        (orjson.dumps({"request_id": "r" * 129}), "application/json", 400, "request_id"),
        (b"\xff", "application/json", 400, ""),
        (b"request_id=r", "application/x-www-form-urlencoded", 415, "Content-Type"),
        (b'{"request_id": "r"}', "text/plain", 415, "Content-Type"),
        (b'{"request_id": "r"}', "nonsense", 415, "Content-Type"),
        (b" " * 5000, "application/json", 413, ""),
    ],
)
async def test_a_body_is_checked(body: bytes, content_type: str, status: int, path: str | None) -> None:
    site = WebServerUnderTest()
    async with (
        site.open() as session,
        session.post("/api/terminals/T1/open", data=body, headers={"Content-Type": content_type}) as response,
    ):
        answer = await response.json()
        assert response.status == status
    if path is None:
        assert len(site.connection.frames) == 1
    else:
        assert [error["path"] for error in answer["errors"]] == [path]
        assert site.connection.frames == []


async def test_an_unknown_key_is_reported_with_the_nearest_one_and_the_request_id() -> None:
    async with (
        WebServerUnderTest().open() as session,
        session.post("/api/terminals/T1/open", json={"request_id": "r", "requestid": "s"}) as response,
    ):
        answer = await response.json()
    assert answer["request_id"] == "r"
    assert "did you mean 'request_id'" in answer["errors"][0]["message"]


async def test_a_compressed_body_is_not_unpacked() -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with (
        WebServerUnderTest().open() as session,
        session.post("/api/terminals/T1/open", data=b"\x1f\x8b", headers=headers, compress=False) as response,
    ):
        assert response.status == 415


async def test_a_body_may_arrive_in_parts() -> None:
    site = WebServerUnderTest()
    async with site.open():
        head = b"POST /api/terminals/T1/open HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = await site.send(head + b"Content-Length: 19\r\n\r\n", b'{"request_', b'id": "', b'r"}')
        assert b'"request_id":"r"' in answer
        chunked = await site.send(head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n")
        assert chunked.startswith(b"HTTP/1.1 200 ")


async def test_an_incomplete_body_times_out() -> None:
    site = WebServerUnderTest(limits=WebLimits(body_seconds=0.1))
    async with site.open():
        head = b"POST /api/terminals/T1/open HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
        assert (await site.send(head, b"{")).startswith(b"HTTP/1.1 408 ")
    assert site.connection.frames == []


async def test_events_name_the_origin_of_a_press() -> None:
    site = WebServerUnderTest()
    events = collect(site.events, CommandReplied, GroupReplied)
    async with site.open() as session:
        await session.post("/api/terminals/T1/open")
        await session.post("/api/groups/lobby/reboot")
    origins = {(event.origin.source, event.origin.user) for event in events if isinstance(event, CommandReplied)}
    assert origins == {("POST /api/terminals/T1/open", None), ("POST /api/groups/lobby/reboot", None)}


async def test_a_client_that_disconnects_does_not_stop_its_press() -> None:
    site = WebServerUnderTest(deadline=1)
    connection = RecordingConnection(site.registry, "T1", lambda _: None)
    async with site.open() as session:
        site.registry.connected(connection)
        with pytest.raises(TimeoutError):
            await session.post("/api/terminals/T1/open", timeout=aiohttp.ClientTimeout(total=0.2))
        known = site.registry.get("T1")
        assert known is not None
        await until(lambda: known.last_reply is not None)
        assert known.last_reply is not None
        assert known.last_reply.outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("target", ["terminals/T1", "groups/lobby"])
async def test_a_press_with_asked_at_is_carried_out_once(target: str) -> None:
    site = WebServerUnderTest()
    async with site.open() as session:
        press = {"request_id": "r1", "asked_at": site.clock.now().timestamp()}

        async def send(path: str, body: dict[str, object]) -> object:
            async with session.post(f"/api/{target}/{path}", json=body) as response:
                assert response.status == (200 if target == "terminals/T1" else 409)
                return await response.json()

        first, second = await asyncio.gather(send("open", press), send("open", press))
        assert first == second == await send("open", press)
        assert site.connection.commands == ["OpenRequest"]
        await send("open", press | {"request_id": "r2"})
        await send("reboot", press)
        await send("open", {"request_id": "r1"})
        await send("open", {"request_id": "r1"})
    assert site.connection.commands == ["OpenRequest", "OpenRequest", "RebootRequest", "OpenRequest", "OpenRequest"]


async def test_too_many_presses_at_once_are_unavailable() -> None:
    site = WebServerUnderTest(deadline=2.0, limits=WebLimits(max_running_presses=1))
    async with site.open() as session:
        silent = RecordingConnection(site.registry, "T1", lambda _: None)
        site.registry.connected(silent)
        first = asyncio.get_running_loop().create_task(session.post("/api/terminals/T1/open"))
        await until(lambda: silent.frames)
        async with session.post("/api/terminals/T1/open", json={"request_id": "r"}) as response:
            answer = await response.json()
            assert (response.status, answer["outcome"], answer["request_id"]) == (503, "unavailable", "r")
        assert (await first).status == 504
    assert len(silent.frames) == 1


async def test_a_running_press_is_answered_before_the_server_stops() -> None:
    site = WebServerUnderTest(deadline=5)
    late: list[str] = []
    connection = RecordingConnection(site.registry, "T1", late.append)
    async with site.open() as session:
        site.registry.connected(connection)
        press = asyncio.get_running_loop().create_task(session.post("/api/terminals/T1/open"))
        await until(lambda: late)
        stopping = asyncio.get_running_loop().create_task(site.server.stop())
        await asyncio.sleep(0.1)
        site.registry.received(connection, TerminalReply(late[0], None, 0, "ok"))
        assert (await press).status == 200
        await stopping


async def test_a_press_that_does_not_end_before_the_stop_is_unavailable() -> None:
    site = WebServerUnderTest(deadline=60)
    connection = RecordingConnection(site.registry, "T1", lambda _: None)
    async with site.open() as session:
        site.registry.connected(connection)
        press = asyncio.get_running_loop().create_task(session.post("/api/terminals/T1/open"))
        await until(lambda: connection.frames)
        async with asyncio.timeout(4):
            await site.server.stop()
        response = await press
        assert (response.status, (await response.json())["outcome"]) == (503, "unavailable")
