"""A simulated terminal behaves as docs/protocol.md says."""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from random import Random
from typing import Any

import aiohttp
import pytest
import trustme
from PIL import Image

from bridge.protocol.encoding import EscapedPhoto, escape_photo
from bridge.protocol.replies import TerminalReply, decode_reply
from bridge.protocol.requests import (
    NO_LIMIT,
    NO_NUMBER,
    UNLIMITED_PASSES,
    WEEKDAYS,
    PersonFields,
    encode_open,
    encode_reboot,
    encode_remove_everyone,
    encode_remove_person,
    encode_set_person,
)
from bridge.simulator.behaviour import Behaviour, Drop, KeepAlive
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.device import STATUS_BAD_PHOTO, STATUS_UNREADABLE, STATUS_WRONG_SN, HeldPerson
from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.simulator.web_socket_server import TIMEOUT_SECONDS, WebSocketServer, listening

SN = "FEDCBA9876543210"
PHOTO = sample_photo(1)

PERSON = PersonFields(
    id="12345678",
    name="Ada",
    card=NO_NUMBER,
    id_number=NO_NUMBER,
    photo=escape_photo(base64.b64encode(PHOTO).decode()),
    start_ts=NO_LIMIT,
    end_ts=1469069320,
    pass_count=UNLIMITED_PASSES,
    visitor=False,
    weekly=dict.fromkeys(WEEKDAYS, "09:00-17:00"),
    key="abc",
)


def terminal(
    server: WebSocketServer,
    *,
    behaviour: Behaviour | None = None,
    clock: Callable[[], float] | None = None,
    **options: Any,
) -> SimulatedTerminal:
    quick = ConnectionOptions(first_retry_seconds=0.01, max_retry_seconds=0.05, **options)
    return SimulatedTerminal(server.url, SN, options=quick, behaviour=behaviour, randomness=Random(1), clock=clock)


async def test_sends_the_handshake_of_the_vendor_document(server: WebSocketServer) -> None:
    server.subprotocols = ("other", "xxx")
    async with terminal(server, username="dev", password="123", subprotocol="xxx").running() as simulated:
        connection = await server.next_connection()
        await simulated.wait_connected()
        assert connection.sn == SN
        assert connection.headers["Authorization"] == "Basic ZGV2OjEyMw=="
        assert connection.headers["Sec-WebSocket-Version"] == "13"
        assert connection.headers["Sec-WebSocket-Protocol"] == "xxx"
        assert connection.headers["Sec-WebSocket-Extension"] == "xxxx"
        assert connection.headers["Origin"] == server.url.replace("ws://", "http://").removesuffix("/devs/")


async def test_takes_its_credentials_from_the_url(server: WebSocketServer) -> None:
    url = server.url.replace("ws://", "ws://g%C3%A4st:p%40ss@")
    async with SimulatedTerminal(url, SN).running():
        connection = await server.next_connection()
        credentials = base64.b64decode(connection.headers["Authorization"].removeprefix("Basic ")).decode()
        assert credentials == "gäst:p@ss"


async def test_without_credentials_it_sends_none(server: WebSocketServer) -> None:
    async with terminal(server).running():
        assert "Authorization" not in (await server.next_connection()).headers


async def test_retries_until_the_server_accepts_it(server: WebSocketServer) -> None:
    server.refusal = 401
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server).running() as simulated:
        assert await simulated.wait_refused(3) == 401
        assert not simulated.connected
        server.refusal = None
        await simulated.wait_connected()
        assert simulated.statistics().attempts == simulated.statistics().refused + 1


async def test_retries_while_no_server_listens(server: WebSocketServer) -> None:
    simulated = SimulatedTerminal(
        "ws://127.0.0.1:1/devs/", SN, options=ConnectionOptions(first_retry_seconds=0.01, max_retry_seconds=0.01)
    )
    async with asyncio.timeout(TIMEOUT_SECONDS), simulated.running():
        await simulated.wait_until(lambda: simulated.statistics().attempts >= 3)
    assert simulated.statistics().connections == 0


async def test_drops_a_connection_that_selects_none_of_its_subprotocols(server: WebSocketServer) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server, subprotocol="xxx").running() as simulated:
        assert await simulated.wait_refused() is None
        server.subprotocols = ("xxx",)
        await simulated.wait_connected()


async def test_reconnects_after_either_side_has_closed(server: WebSocketServer) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server).running() as simulated:
        await (await server.next_connection()).websocket.close()
        second = await server.next_connection()
        await simulated.wait_until(lambda: simulated.connections == 2)
        await simulated.disconnect()
        assert (await second.next_frame()).type is aiohttp.WSMsgType.CLOSE
        third = await server.next_connection()
        await simulated.wait_until(lambda: simulated.connections == 3)
        await simulated.disconnect(Drop.ABORT)
        assert (await third.next_frame()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert third.websocket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        await simulated.wait_until(lambda: simulated.connections == 4)


async def test_connects_over_tls_only_to_a_trusted_server() -> None:
    authority = trustme.CA()
    accepting, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(accepting)
    async with listening(accepting) as server, asyncio.timeout(TIMEOUT_SECONDS):
        async with terminal(server, tls=client).running() as distrustful:
            await distrustful.wait_until(lambda: distrustful.statistics().attempts == 2)
            assert distrustful.connections == 0
        authority.configure_trust(client)
        async with terminal(server, tls=client).running() as trusting:
            connection = await server.next_connection()
            assert connection.headers["Origin"].startswith("https://127.0.0.1:")
            assert decode_reply(await connection.ask(encode_open(msgid="1", sn=SN))).status == 0
            await trusting.disconnect(Drop.ABORT)
            await trusting.wait_until(lambda: trusting.connections == 2)


async def test_sends_a_close_frame_at_its_end(server: WebSocketServer) -> None:
    async with terminal(server).running() as simulated:
        connection = await server.next_connection()
        await simulated.wait_connected()
    assert (await connection.next_frame()).type is aiohttp.WSMsgType.CLOSE
    assert not simulated.connected


async def test_sends_empty_pings_at_intervals(server: WebSocketServer) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server, ping_seconds=0.05).running() as simulated:
        connection = await server.next_connection()
        for _ in range(3):
            frame = await connection.next_frame()
            assert (frame.type, frame.data) == (aiohttp.WSMsgType.PING, b"")
        await simulated.wait_until(lambda: simulated.statistics().pongs >= 2)


async def test_reconnects_when_the_server_falls_silent(server: WebSocketServer) -> None:
    server.answers_pings = False
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server, ping_seconds=0.05).running() as simulated:
        await simulated.wait_until(lambda: simulated.connections == 2)


async def test_can_send_ping_as_a_text_frame(server: WebSocketServer) -> None:
    behaviour = Behaviour(keep_alive=KeepAlive.TEXT)
    async with terminal(server, ping_seconds=0.05, behaviour=behaviour).running():
        connection = await server.next_connection()
        for _ in range(2):
            frame = await connection.next_frame()
            assert (frame.type, frame.data) == (aiohttp.WSMsgType.TEXT, "ping")


async def test_answers_pings_unless_the_behaviour_forbids_it(server: WebSocketServer) -> None:
    async with terminal(server, behaviour=Behaviour(keep_alive=KeepAlive.NONE)).running() as simulated:
        connection = await server.next_connection()
        await connection.websocket.ping(b"one")
        assert (await connection.next_frame()).data == b"one"
        simulated.behaviour = Behaviour(keep_alive=KeepAlive.NONE, answers_pings=False)
        await connection.websocket.ping(b"two")
        await connection.websocket.send_str(encode_open(msgid="1", sn=SN).decode())
        # The next frame is the reply to the request, so there was no pong before it.
        answer = await connection.next_frame()
        assert answer.type is aiohttp.WSMsgType.TEXT
        assert decode_reply(answer.data).status == 0


async def test_opens_reboots_and_records_requests(server: WebSocketServer) -> None:
    ticks = iter(range(100, 200))
    async with terminal(server, clock=lambda: next(ticks)).running() as simulated:
        connection = await server.next_connection()
        for msgid, request in enumerate((encode_open, encode_open, encode_reboot)):
            answer = decode_reply(await connection.ask(request(msgid=str(msgid), sn=SN)))
            assert answer == TerminalReply(str(msgid), SN, 0, "ok")
    assert (simulated.opened, simulated.rebooted) == (2, 1)
    assert [(one.cmd, one.msgid, one.at) for one in simulated.requests] == [
        ("open", "0", 100),
        ("open", "1", 101),
        ("reboot", "2", 102),
    ]


async def test_wait_request_returns_the_latest_request(server: WebSocketServer) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server).running() as simulated:
        connection = await server.next_connection()
        await connection.websocket.send_str(encode_reboot(msgid="r", sn=SN).decode())
        for number in range(3):
            await connection.websocket.send_str(encode_open(msgid=str(number), sn=SN).decode())
        assert (await simulated.wait_request("open", count=3)).msgid == "2"
        assert (await simulated.wait_request("reboot")).msgid == "r"
        assert simulated.opened == 3


async def test_holds_persons_field_by_field(server: WebSocketServer) -> None:
    async with terminal(server).running() as simulated:
        connection = await server.next_connection()
        for person_id in ("1", "2", "3"):
            person = replace(PERSON, id=person_id)
            assert decode_reply(await connection.ask(encode_set_person(person, msgid="m", sn=SN))).status == 0
        assert simulated.persons["2"] == HeldPerson(
            id="2",
            name="Ada",
            card=NO_NUMBER,
            id_number=NO_NUMBER,
            start_ts=-1,
            end_ts=1469069320,
            pass_count=10000,
            visitor=False,
            weekly=dict.fromkeys(WEEKDAYS, "09:00-17:00"),
            key="abc",
            photo_sha256=hashlib.sha256(PHOTO).hexdigest(),
            photo_length=len(PHOTO),
        )
        await connection.ask(encode_remove_person("2", msgid="m", sn=SN, key="abc"))
        assert set(simulated.persons) == {"1", "3"}
        assert (simulated.requests[-1].ids, simulated.requests[-1].key) == (("2",), "abc")
        assert decode_reply(await connection.ask(encode_remove_person("9", msgid="m", sn=SN))).status == 0
        assert set(simulated.persons) == {"1", "3"}
        await connection.ask(encode_remove_everyone(msgid="m", sn=SN))
        assert simulated.persons == {}


def picture(kind: str, size: tuple[int, int]) -> EscapedPhoto:
    buffer = BytesIO()
    Image.new("RGB", size).save(buffer, format=kind)
    return escape_photo(base64.b64encode(buffer.getvalue()).decode())


@pytest.mark.parametrize(
    ("photo", "text"),
    [
        (EscapedPhoto("abc"), "the photo is not base64"),
        (EscapedPhoto("%41AAA"), "the photo is not base64"),
        (escape_photo("AAAA"), "the photo is not a JPEG"),
        (escape_photo(base64.b64encode(PHOTO[:20]).decode()), "the photo is not a JPEG"),
        (picture("PNG", (64, 64)), "the photo is not a JPEG"),
        (picture("JPEG", (64, 1081)), "the photo is larger than 1080x1080"),
    ],
)
async def test_refuses_a_photo_it_cannot_use(server: WebSocketServer, photo: EscapedPhoto, text: str) -> None:
    async with terminal(server).running() as simulated:
        connection = await server.next_connection()
        frame = encode_set_person(replace(PERSON, photo=photo), msgid="m", sn=SN)
        assert decode_reply(await connection.ask(frame)) == TerminalReply("m", SN, STATUS_BAD_PHOTO, text)
        assert simulated.persons == {}


async def test_accepts_the_largest_photo(server: WebSocketServer) -> None:
    async with terminal(server).running():
        connection = await server.next_connection()
        frame = encode_set_person(replace(PERSON, photo=picture("JPEG", (1080, 1080))), msgid="m", sn=SN)
        assert decode_reply(await connection.ask(frame)).status == 0


async def test_refuses_a_person_without_a_photo(server: WebSocketServer) -> None:
    async with terminal(server).running() as simulated:
        connection = await server.next_connection()
        frame = encode_set_person(PERSON, msgid="m", sn=SN).replace(b"&photo=", b"&startTs=-1&other=")
        reply = decode_reply(await connection.ask(frame))
        assert (reply.msgid, reply.status) == ("m", STATUS_UNREADABLE)
        assert simulated.persons == {}
        assert simulated.statistics().unreadable == 1


async def test_refuses_requests_for_another_terminal(server: WebSocketServer) -> None:
    async with terminal(server).running() as simulated:
        connection = await server.next_connection()
        assert decode_reply(await connection.ask(encode_open(msgid="m", sn="OTHER"))).status == STATUS_WRONG_SN
        assert simulated.opened == 0


async def test_survives_frames_that_are_no_requests(server: WebSocketServer) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server).running() as simulated:
        connection = await server.next_connection()
        for text in ("", "{", "[" * 100_000, "\x00"):
            await connection.websocket.send_str(text)
        await connection.websocket.send_bytes(b"\xff\x00")
        assert decode_reply(await connection.ask(encode_open(msgid="m", sn=SN))).status == 0
        assert simulated.statistics().unreadable == 5
        assert simulated.connections == 1


async def test_persons_outlive_connections(server: WebSocketServer) -> None:
    simulated = terminal(server)
    async with simulated.running():
        connection = await server.next_connection()
        await connection.ask(encode_set_person(PERSON, msgid="m", sn=SN))
    async with simulated.running():
        await server.next_connection()
        assert set(simulated.persons) == {PERSON.id}
