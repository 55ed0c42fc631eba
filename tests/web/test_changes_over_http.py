"""Changes over HTTP, with a real store: the same commands as over MQTT."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import orjson
import pytest

from bridge.config.settings import TokenSettings
from bridge.model.events import CommandReplied, Event, GroupReplied
from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA
from bridge.model.secret import Secret
from bridge.protocol.requests import SetPersonRequest
from bridge.web.context import WebLimits
from tests.persons.person_system import PHOTO, PersonSystem, person, person_system, requests, sent
from tests.support.contract import validator
from tests.support.core import collect
from tests.support.waiting import TIMEOUT_SECONDS, until
from tests.support.web import WebServerUnderTest

JPEG = base64.b64decode(PHOTO)


@dataclass
class Site:
    """A server with persons.

    Attributes:
        system: the persons.
        server: the server.
        session: a client.
        events: the published replies.
    """

    system: PersonSystem
    server: WebServerUnderTest
    session: aiohttp.ClientSession
    events: list[Event]

    async def send(self, method: str, path: str, status: int, **details: Any) -> Any:
        """Send a request; check the status and the schema; return the JSON."""
        async with self.session.request(method, path, **details) as response:
            assert response.status == status, await response.text()
            answer = await response.json()
        title = "GroupSummary" if "total" in answer else "Reply" if "command" in answer else None
        if title is not None:
            validator(title, closed=True).validate(answer)
        return answer


@asynccontextmanager
async def site(place: Path, *, limits: WebLimits | None = None, **settings: Any) -> AsyncIterator[Site]:
    async with person_system(place) as system:
        server = WebServerUnderTest(persons=system, limits=limits, **settings)
        async with server.open() as session:
            yield Site(system, server, session, collect(system.events, CommandReplied, GroupReplied))


def form(**parts: Any) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts.items():
        if isinstance(value, bytes):
            data.add_field(name, value, filename="photo.jpg", content_type="image/jpeg")
        elif isinstance(value, dict):
            data.add_field(name, orjson.dumps(value).decode(), content_type="application/json")
        else:
            data.add_field(name, value)
    return data


async def test_a_person_is_added_changed_and_removed(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        terminal = one.system.connect("T1")
        body = {"name": "Ada", "photo": PHOTO, "request_id": "r1"}
        answer = await one.send("PUT", "/api/terminals/T1/persons/p1", 202, json=body)
        assert (answer["outcome"], answer["request_id"], answer["person_id"]) == ("accepted", "r1", "p1")
        await one.system.settled()
        await one.send("PUT", "/api/terminals/T1/persons/p1", 202, json={"id": "p1", "card": "42"})
        await one.system.settled()
        answer = await one.send("DELETE", "/api/terminals/T1/persons/p1?request_id=r3", 202)
        assert (answer["command"], answer["request_id"], answer["person_id"]) == ("removePerson", "r3", "p1")
        await one.system.settled()
        assert sent(terminal) == ["set p1", "set p1", "remove p1"]
        # The final replies go where those of commands over MQTT go.
        assert await one.system.final_outcomes(3) == [("r1", "p1", "ok"), (None, "p1", "ok"), ("r3", "p1", "ok")]
        replied = [event for event in one.events if isinstance(event, CommandReplied)]
        assert [(event.reply.outcome.value, event.origin.source) for event in replied] == [
            ("accepted", "PUT /api/terminals/T1/persons/p1"),
            ("accepted", "PUT /api/terminals/T1/persons/p1"),
            ("accepted", "DELETE /api/terminals/T1/persons/p1"),
        ]


async def test_a_form_with_a_photo_adds_a_person(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        terminal = one.system.connect("T1")
        rest = {"visitor": True, "weekly": {"default": "08:00-18:00"}}
        data = form(name="Ada", photo=JPEG, person=rest)
        await one.send("PUT", "/api/terminals/T1/persons/p1", 202, data=data)
        await one.system.settled()
        (request,) = requests(terminal)
        assert isinstance(request, SetPersonRequest)
        assert (request.person.name, request.person.visitor) == ("Ada", True)
        assert unquote(request.person.photo) == PHOTO
        # A form without a new file keeps the photo.
        empty = aiohttp.FormData()
        empty.add_field("name", "Ada L.")
        empty.add_field("photo", b"", filename="", content_type="application/octet-stream")
        await one.send("PUT", "/api/terminals/T1/persons/p1", 202, data=empty)
        await one.system.settled()
        assert (await one.system.persons("T1"))[0]["name"] == "Ada L."


async def test_a_group_answers_with_its_summary(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        first, second = one.system.connect("T1"), one.system.connect("T2")
        body = {**person("p1"), "request_id": "r1"}
        answer = await one.send("PUT", "/api/groups/lobby/persons/p1", 202, json=body)
        assert (answer["outcomes"], answer["total"], answer["request_id"]) == ({"accepted": 2}, 2, "r1")
        await until(lambda: len(first.frames) == len(second.frames) == 1)
        await one.system.settled("T1")
        await one.system.settled("T2")
        await one.send("POST", "/api/groups/lobby/sync", 202)
        await one.send("DELETE", "/api/groups/all/persons/p1", 202)
        await one.system.settled("T1")
        await one.system.settled("T2")
        assert sent(first)[-1] == sent(second)[-1] == "remove p1"
        # Only T1 knows this person: the worst outcome decides.
        await one.system.set(person("p2"))
        answer = await one.send("PUT", "/api/groups/lobby/persons/p2", 400, json={"card": "7"})
        assert answer["outcomes"] == {"accepted": 1, "invalid": 1}
        answer = await one.send("DELETE", "/api/groups/nowhere/persons/p2", 404)
        assert (answer["outcome"], answer["group"]) == ("invalid", "nowhere")


async def test_a_sync_sends_everything_again(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        terminal = one.system.connect("T1")
        await one.system.set(person("p1"))
        await one.system.settled()
        answer = await one.send("POST", "/api/terminals/T1/sync", 202)
        assert (answer["command"], answer["outcome"]) == ("syncPersons", "accepted")
        await until(lambda: len(terminal.frames) == 2)
        await one.send("POST", "/api/terminals/T1/sync", 202, json={"clear": True, "confirm": "T1"})
        await until(lambda: sent(terminal) == ["set p1", "set p1", "remove everyone", "set p1"])
        answer = await one.send("POST", "/api/terminals/T1/sync", 400, json={"clear": True, "confirm": "T2"})
        assert answer["errors"][0]["path"] == "confirm"


async def test_a_change_with_asked_at_is_carried_out_once(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        terminal = one.system.connect("T1")
        body = {**person("p1"), "asked_at": one.system.clock.now().isoformat()}
        first = await one.send("PUT", "/api/terminals/T1/persons/p1", 202, json=body)
        await one.system.settled()
        again = await one.send("PUT", "/api/terminals/T1/persons/p1", 200, json=dict(reversed(body.items())))
        assert (first["outcome"], again["outcome"]) == ("accepted", "ok")
        await one.send("PUT", "/api/terminals/T1/persons/p1", 202, json={**body, "card": "7"})
        await one.system.settled()
        assert sent(terminal) == ["set p1", "set p1"]


async def test_a_terminal_is_approved_and_changed(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        assert not await one.server.admission.may_connect("N1", "192.0.2.9")
        answer = await one.send("POST", "/api/pending/N1/admit", 200, json={"name": "Garage", "groups": ["yard"]})
        assert (answer["command"], answer["outcome"], answer["sn"]) == ("admit", "ok", "N1")
        known = one.system.registry.get("N1")
        assert known is not None
        assert (known.terminal.name, known.terminal.groups) == ("Garage", ("yard",))
        assert one.server.admission.pending == ()
        await one.send("POST", "/api/pending/N1/admit", 200, json={"sn": "N1", "area": "Yard"})
        await one.send("POST", "/api/pending/N2/admit", 200)
        for body, path in (({"sn": "N2"}, "sn"), ({"title": "x"}, "title"), ({"groups": ["all"]}, "groups.0")):
            answer = await one.send("POST", "/api/pending/N1/admit", 400, json=body)
            assert [fault["path"] for fault in answer["errors"]] == [path]
        answer = await one.send("POST", "/api/pending/T1/admit", 400)
        assert "configuration" in answer["message"]


async def test_a_terminal_is_forgotten_or_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        for sn in ("N1", "N2"):
            assert not await one.server.admission.may_connect(sn, "192.0.2.9")
        await one.send("POST", "/api/pending/N1/admit", 200)
        await one.send("PUT", "/api/terminals/N1/persons/p1", 202, json=person("p1"))
        answer = await one.send("DELETE", "/api/terminals/N1?request_id=r1", 200)
        assert (answer["command"], answer["outcome"], answer["request_id"]) == ("forget", "ok", "r1")
        assert one.system.registry.get("N1") is None
        assert await one.system.persons("N1") == []
        # A terminal that only waits is refused.
        await one.send("DELETE", "/api/terminals/N2", 200)
        assert one.server.admission.pending == ()
        answer = await one.send("DELETE", "/api/terminals/N1", 404)
        assert (answer["outcome"], answer["errors"][0]["path"]) == ("invalid", "sn")
        answer = await one.send("DELETE", "/api/terminals/T1", 400)
        assert "configuration" in answer["message"]
        await one.send("DELETE", "/api/terminals/a.b", 400)


@pytest.mark.parametrize(("person_id", "part"), [("..", "~.."), (".", "~."), ("a.b@c", "a.b@c"), ("p1", "~p1")])
async def test_every_id_has_a_path(tmp_path: Path, person_id: str, part: str) -> None:
    async with site(tmp_path) as one:
        one.system.connect("T1")
        await one.send("PUT", f"/api/terminals/T1/persons/{part}", 202, json=person(person_id))
        await one.system.settled()
        async with one.session.get(f"/api/persons/{part}") as response:
            assert (response.status, (await response.json())["id"]) == (200, person_id)
        await one.send("DELETE", f"/api/terminals/T1/persons/{part}", 202)


@pytest.mark.parametrize(
    ("path", "body", "status", "fault"),
    [
        ("/api/terminals/T1/persons/p1", {"name": "Ada"}, 400, "photo"),
        ("/api/terminals/T1/persons/p1", {"id": "p2", "name": "Ada", "photo": PHOTO}, 400, "id"),
        ("/api/terminals/T1/persons/p1", {"nmae": "Ada"}, 400, "nmae"),
        ("/api/terminals/T1/persons/p1", {"persons": []}, 400, "persons"),
        ("/api/terminals/T1/persons/p1", [person("p1")], 400, ""),
        ("/api/terminals/T1/persons/p1", {"sn": "T1"}, 400, "sn"),
        ("/api/terminals/T1/persons/p1", {**person("p1"), "photo": "AAAA"}, 400, "photo"),
        ("/api/terminals/T1/persons/p1", {"request_id": 7}, 400, "request_id"),
        ("/api/terminals/T1/persons/a%2Cb", person("a"), 400, "id"),
        ("/api/terminals/T1/persons/%5B%5D", person("a"), 400, "id"),
        ("/api/terminals/T9/persons/p1", person("p1"), 404, "sn"),
        ("/api/terminals/a.b/persons/p1", person("p1"), 400, "sn"),
        ("/api/groups/none/persons/p1", person("p1"), 404, "group"),
        ("/api/groups/a.b/persons/p1", person("p1"), 400, "group"),
    ],
)
async def test_an_invalid_change_names_the_fault(tmp_path: Path, path: str, body: Any, status: int, fault: str) -> None:
    async with site(tmp_path) as one:
        answer = await one.send("PUT", path, status, json=body)
        assert (answer["command"], answer["outcome"]) == ("setPerson", "invalid")
        assert [one["path"] for one in answer["errors"]] == [fault]
        # Replies to rejected changes are published too, so the log and automations see them.
        (event,) = one.events
        assert isinstance(event, CommandReplied)
        assert event.reply.as_json() == answer
        assert (await one.system.persons("T1"), await one.system.persons("T2")) == ([], [])


@pytest.mark.parametrize(
    ("data", "status", "fault"),
    [
        (form(name="Ada", photo=b"no picture"), 400, "photo"),
        (form(name="Ada", photo=JPEG, person={"name": "Bob"}), 400, "name"),
        (form(photo=JPEG, person=b"["), 400, ""),
        (form(photo=JPEG, person=b"[]"), 400, "person"),
        (form(photo=JPEG, name=b"\xff"), 400, "name"),
        (form(name="Ada", photo=JPEG, visitor="yes"), 400, "visitor"),
        (form(name="Ada", photo=b"x" * 20_001), 413, "photo"),
        (form(name="A" * 70_000, photo=JPEG), 413, ""),
        (form(**{f"x{number}": "x" for number in range(40)}), 400, ""),
    ],
    ids=range(9),
)
async def test_an_invalid_form_names_the_fault(tmp_path: Path, data: Any, status: int, fault: str) -> None:
    async with site(tmp_path, limits=WebLimits(max_photo_bytes=20_000)) as one:
        answer = await one.send("PUT", "/api/terminals/T1/persons/p1", status, data=data)
        assert [one["path"] for one in answer["errors"]] == [fault]
        assert await one.system.persons("T1") == []


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 415),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"", 400),
        ({"Content-Type": "application/json"}, b"null", 400),
        ({"Content-Type": "application/json"}, b" " * 200_000, 413),
        ({"Content-Type": "multipart/form-data"}, b"x", 400),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"nothing", 400),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\nBad Header\r\n\r\na\r\n--x--\r\n", 400),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\na\r\n--x--\r\n", 400),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", 400),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="name"\r\nContent-Encoding: gzip\r\n\r\n*\r\n--x--\r\n',
            400,
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\na\r\n--y--\r\n--x--\r\n",
            400,
        ),
    ],
)
async def test_a_malformed_body_is_answered(
    tmp_path: Path, headers: dict[str, str], body: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(tmp_path, limits=WebLimits(max_photo_bytes=1_000)) as one:
        answer = await one.send("PUT", "/api/terminals/T1/persons/p1", status, data=body, headers=headers)
        assert answer["outcome"] == "invalid"
        assert answer["errors"]
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_slow_upload_ends(tmp_path: Path) -> None:
    async with site(tmp_path, limits=WebLimits(upload_seconds=0.2)) as one:
        head = b"PUT /api/terminals/T1/persons/p1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = await one.server.send(head + b"Content-Length: 1000000\r\n\r\n", b'{"name"')
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_only_so_many_large_bodies_are_read_at_once(tmp_path: Path) -> None:
    async with site(tmp_path, limits=WebLimits(max_uploads=1)) as one:
        one.system.connect("T1")
        head = b"PUT /api/terminals/T1/persons/p1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", one.server.server.port)
        writer.write(head + b"Content-Length: 1000000\r\n\r\n{")
        await until(lambda: one.server.server.open_connections == 1)
        waiting = asyncio.get_running_loop().create_task(
            one.send("PUT", "/api/terminals/T1/persons/p2", 202, data=form(name="Ada", photo=JPEG * 50))
        )
        # A body without a large photo does not wait.
        await one.send("PUT", "/api/terminals/T1/persons/p3", 202, json=person("p3"))
        assert not waiting.done()
        writer.transport.abort()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await waiting


async def test_a_change_goes_on_if_the_client_disconnects(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        body = orjson.dumps({**person("p1"), "request_id": "r1"})
        _, writer = await asyncio.open_connection("127.0.0.1", one.server.server.port)
        writer.write(
            b"PUT /api/terminals/T1/persons/p1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()
        await until(lambda: one.events)
        (event,) = one.events
        assert isinstance(event, CommandReplied)
        assert (event.reply.request_id, event.reply.outcome.value) == ("r1", "accepted")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/terminals/T1/persons/p1"),
        ("DELETE", "/api/terminals/T1/persons/p1"),
        ("POST", "/api/terminals/T1/sync"),
        ("PUT", "/api/groups/lobby/persons/p1"),
        ("DELETE", "/api/groups/lobby/persons/p1"),
        ("POST", "/api/groups/lobby/sync"),
        ("POST", "/api/pending/N1/admit"),
        ("DELETE", "/api/terminals/T1"),
    ],
)
async def test_an_operator_and_a_website_may_change_nothing(tmp_path: Path, method: str, path: str) -> None:
    tokens = {"panel": TokenSettings(hash=Secret("t"), role="operator")}
    body = None if method == "DELETE" else person("p1")
    async with site(tmp_path, tokens=tokens) as one:
        await one.send(method, path, 403, json=body, headers={"Authorization": "Bearer t"})
        await one.send(method, path, 401, json=body)
    async with site(tmp_path) as one:
        await one.send(method, path, 403, json=body, headers={"Origin": "https://evil.example"})
        assert one.events == []
        assert one.system.registry.get("N1") is None
        assert (await one.system.persons("T1"), await one.system.persons("T2")) == ([], [])


def test_the_schemas_of_replies_are_those_of_mqtt() -> None:
    assert (REPLY_SCHEMA["title"], GROUP_SUMMARY_SCHEMA["title"]) == ("Reply", "GroupSummary")
