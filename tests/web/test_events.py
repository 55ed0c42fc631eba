"""Server-sent events: a snapshot, then changes; streams are bounded."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest

from bridge.model.commands import Forget
from bridge.model.events import AuditWritten, PersonsChanged, WarningsChanged
from bridge.model.origin import Origin
from bridge.model.terminal import PersonCounts, Terminal, TerminalOrigin
from bridge.web.api.events import SNAPSHOT_SCHEMA
from bridge.web.context import WebLimits
from tests.support.core import ManualClock, RecordingConnection, known_terminal
from tests.support.waiting import TIMEOUT_SECONDS, until
from tests.support.web import WebServerUnderTest


@dataclass(frozen=True)
class Received:
    type: str
    id: int
    data: Any


class Stream:
    """Reads server-sent events as a browser does."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self.snapshot: Mapping[str, Any] = {}

    async def next(self, *types: str) -> Received:
        """Return the next event of one of these types; by default the next one that is no heartbeat."""
        while True:
            event = await self._next()
            if event.type in types or (not types and event.type != "heartbeat"):
                return event

    async def _next(self) -> Received:
        fields: dict[str, str] = {}
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                line = await self._content.readline()
                if not line:
                    raise EOFError
                if line == b"\n" and "data" in fields:
                    return Received(fields["event"], int(fields["id"]), orjson.loads(fields["data"]))
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    assert name in ("event", "id", "data", "retry")
                    fields[name] = value


@asynccontextmanager
async def stream(session: aiohttp.ClientSession, **query: str) -> AsyncIterator[Stream]:
    # aiohttp's reader accepts longer lines only with a larger buffer.
    async with session.get("/api/events", params=query, read_bufsize=1 << 26) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        one = Stream(response.content)
        first = await one.next()
        assert first.type == "snapshot"
        one.snapshot = first.data
        yield one


async def test_a_stream_begins_with_the_present_state_and_continues_with_changes() -> None:
    site = WebServerUnderTest()
    async with site.open() as session, stream(session) as events:
        async with session.get("/api/terminals") as response:
            assert events.snapshot["terminals"] == (await response.json())["items"]
        assert set(events.snapshot) == set(SNAPSHOT_SCHEMA["properties"])
        assert events.snapshot["bridge"]["terminals"] == {"known": 2, "online": 1, "pending": 0}
        site.registry.connected(RecordingConnection(site.registry, "T2"))
        changed = await events.next("terminal")
        assert (changed.data["sn"], changed.data["online"]) == ("T2", True)
        assert (await events.next("bridge")).data["terminals"]["online"] == 2
        async with session.post("/api/terminals/T1/open", json={"request_id": "r1"}) as response:
            reply = await response.json()
        replied = await events.next("reply")
        assert replied.data == {**reply, "source": "POST /api/terminals/T1/open", "user": None}
        assert (await events.next("terminal")).data["last_reply"]["request_id"] == "r1"
        async with session.post("/api/groups/lobby/open") as response:
            summary = await response.json()
        assert (await events.next("group_reply")).data == summary
        assert not await site.admission.may_connect("N1", "192.0.2.9")
        assert (await events.next("event")).data["type"] == "terminal_pending"
        assert (await events.next("bridge")).data["pending"] == [{"sn": "N1", "address": "192.0.2.9"}]
        site.warnings.append("the disk is full")
        site.events.publish(WarningsChanged(at=site.clock.now()))
        assert (await events.next("bridge")).data["warnings"] == ["the disk is full"]


async def test_persons_and_forgotten_terminals_are_reported() -> None:
    site = WebServerUnderTest()
    site.registry.put(Terminal(sn="A1", origin=TerminalOrigin.APPROVED))
    async with site.open() as session, stream(session) as events:
        site.persons.numbers["T1"] = PersonCounts(1, 0, 1, 0)
        site.events.publish(PersonsChanged(at=site.clock.now(), sn="T1"))
        assert (await events.next("terminal")).data["persons"]["pending"] == 1
        assert (await events.next("persons")).data == {"sn": "T1"}
        await site.admission.forget(Forget(sn="A1"), Origin(source="test"))
        assert (await events.next("terminal_removed")).data == {"sn": "A1"}


async def test_ids_ascend_and_heartbeats_arrive() -> None:
    site = WebServerUnderTest(limits=WebLimits(heartbeat_seconds=0.1))
    async with site.open() as session, stream(session) as events:
        received = [await events.next("heartbeat") for _ in range(3)]
    assert [one.id for one in received] == sorted({one.id for one in received})
    assert all(set(one.data) == {"at"} for one in received)


async def test_new_entries_of_the_log_are_announced_at_most_once_a_second() -> None:
    site = WebServerUnderTest(limits=WebLimits(heartbeat_seconds=0.5))
    async with site.open() as session, stream(session, types="log") as events:
        for _ in range(5):
            site.events.publish(AuditWritten(at=site.clock.now()))
        assert (await events.next("log")).data == {}
        # No second one: nothing has changed since.
        assert {(await events.next("log", "heartbeat")).type for _ in range(4)} == {"heartbeat"}
        site.events.publish(AuditWritten(at=site.clock.now()))
        assert (await events.next("log")).data == {}


async def test_a_stream_can_be_limited() -> None:
    site = WebServerUnderTest()
    async with (
        site.open() as session,
        stream(session, types="terminal,persons", terminals="T2,T9") as some,
        stream(session, types="reply", terminals="") as replies,
    ):
        assert [one["sn"] for one in some.snapshot["terminals"]] == ["T2"]
        assert replies.snapshot["terminals"] == []
        await session.post("/api/terminals/T1/open")
        site.registry.connected(RecordingConnection(site.registry, "T2"))
        site.events.publish(PersonsChanged(at=site.clock.now(), sn="T1"))
        assert (await some.next()).data["sn"] == "T2"
        assert (await some.next()).data == {"sn": "T1"}
        assert (await replies.next()).type == "reply"


async def test_a_terminals_state_is_sent_at_most_once_a_second() -> None:
    clock = ManualClock()
    site = WebServerUnderTest(clock=clock)
    async with site.open() as session, stream(session, types="terminal,reply") as events:
        for number in range(3):
            async with session.post("/api/terminals/T1/open", json={"request_id": f"r{number}"}):
                pass
            assert (await events.next("reply")).data["request_id"] == f"r{number}"
            if number == 0:
                assert (await events.next()).data["last_reply"]["request_id"] == "r0"
        site.registry.connected(RecordingConnection(site.registry, "T2"))
        # The two later states of T1 wait; otherwise they would arrive first.
        assert (await events.next()).data["sn"] == "T2"
        clock.seconds += 1
        assert (await events.next()).data["last_reply"]["request_id"] == "r2"


async def test_text_of_others_cannot_forge_an_event() -> None:
    site = WebServerUnderTest()
    site.registry.put(known_terminal("T3", name="x\n\nevent: bridge\ndata: {}\n\n\u2028\r<b>"))
    async with site.open() as session, stream(session, terminals="T3") as events:
        assert events.snapshot["terminals"][0]["name"] == "x\n\nevent: bridge\ndata: {}\n\n\u2028\r<b>"
        site.registry.connected(RecordingConnection(site.registry, "T3"))
        assert (await events.next()).type == "terminal"


async def test_ten_thousand_terminals_fit_into_a_snapshot() -> None:
    site = WebServerUnderTest()
    for number in range(10_000):
        site.registry.put(known_terminal(f"S{number}"))
    async with site.open() as session, stream(session) as events:
        assert len({one["sn"] for one in events.snapshot["terminals"]}) == 10_002


async def test_a_slow_listener_is_cut_off_and_gets_a_new_snapshot() -> None:
    site = WebServerUnderTest(limits=WebLimits(max_waiting_events=50))
    for number in range(200):
        site.registry.put(known_terminal(f"S{number}", name="x" * 60_000))
    async with site.open() as session, stream(session, types="reply") as quick:
        slow = socket.create_connection(("127.0.0.1", site.server.port))
        try:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: site.server.open_connections >= 2)
            before = site.server.open_connections
            number = 0
            while site.server.open_connections >= before:
                async with session.post("/api/terminals/T1/open", json={"request_id": f"r{number}"}) as response:
                    # On a loaded machine a press beside 12 MB of events can be `expired`; its reply is sent too.
                    assert response.status in (200, 504)
                # The quick one reads on, and misses nothing.
                assert (await quick.next("reply")).data["request_id"] == f"r{number}"
                number += 1
                assert number < 500
        finally:
            slow.close()
        async with stream(session, terminals="T1") as again:
            assert again.snapshot["terminals"][0]["last_reply"]["request_id"] == f"r{number - 1}"


async def test_too_many_streams_are_refused() -> None:
    site = WebServerUnderTest(limits=WebLimits(max_listeners=2))
    async with site.open() as session, stream(session), stream(session), session.get("/api/events") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert (await response.json())["outcome"] == "unavailable"


async def test_a_closed_stream_makes_room() -> None:
    site = WebServerUnderTest(limits=WebLimits(max_listeners=1, heartbeat_seconds=0.05))
    async with site.open() as session:
        for _ in range(3):
            status = 503
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while status == 503:
                    await asyncio.sleep(0.02)
                    async with session.get("/api/events") as response:
                        status = response.status
            assert status == 200


async def test_a_stop_ends_the_streams() -> None:
    site = WebServerUnderTest()
    async with site.open() as session, stream(session) as events:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await site.server.stop()
        with pytest.raises(EOFError):
            await events.next("never")


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("types=", "types"),
        ("types=all", "types"),
        ("types=terminal,,reply", "types"),
        ("terminals=a.b", "terminals"),
        ("terminals=T1,", "terminals"),
        ("terminals=" + ",".join(f"S{number}" for number in range(201)), "terminals"),
        ("limit=1", "query"),
    ],
)
async def test_a_wrong_choice_is_invalid(query: str, fault: str) -> None:
    async with WebServerUnderTest().open() as session, session.get(f"/api/events?{query}") as response:
        assert response.status == 400
        assert (await response.json())["errors"][0]["path"] == fault
