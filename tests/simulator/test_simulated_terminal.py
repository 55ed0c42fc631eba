"""A simulated terminal does what PROTOCOL says a terminal does."""

import asyncio
import base64
import hashlib
import ssl
from dataclasses import replace
from io import BytesIO
from random import Random
from typing import Any

import aiohttp
import pytest
import trustme
from PIL import Image

from bridge.protocol.photos import EscapedPhoto, escape_photo
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
from bridge.simulator.device import STATUS_BAD_PHOTO, STATUS_UNREADABLE, STATUS_WRONG_SN, HeldPerson
from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.simulator.counterpart import PATIENCE, Counterpart, listening

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


def terminal(counterpart: Counterpart, **options: Any) -> SimulatedTerminal:
    quick: dict[str, Any] = {"first_retry": 0.01, "last_retry": 0.05, "randomness": Random(1)}
    return SimulatedTerminal(counterpart.url, SN, **(quick | options))


async def test_connects_as_the_document_shows(counterpart: Counterpart) -> None:
    counterpart.subprotocols = ("other", "xxx")
    async with terminal(counterpart, username="dev", password="123", subprotocol="xxx").running() as simulated:
        connection = await counterpart.next_connection()
        await simulated.wait_connected()
        assert connection.sn == SN
        assert connection.headers["Authorization"] == "Basic ZGV2OjEyMw=="
        assert connection.headers["Sec-WebSocket-Version"] == "13"
        assert connection.headers["Sec-WebSocket-Protocol"] == "xxx"
        assert connection.headers["Sec-WebSocket-Extension"] == "xxxx"
        assert connection.headers["Origin"] == counterpart.url.replace("ws://", "http://").removesuffix("/devs/")


async def test_takes_its_credentials_from_the_url(counterpart: Counterpart) -> None:
    url = counterpart.url.replace("ws://", "ws://g%C3%A4st:p%40ss@")
    async with SimulatedTerminal(url, SN).running():
        connection = await counterpart.next_connection()
        credentials = base64.b64decode(connection.headers["Authorization"].removeprefix("Basic ")).decode()
        assert credentials == "gäst:p@ss"


async def test_without_credentials_it_sends_none(counterpart: Counterpart) -> None:
    async with terminal(counterpart).running():
        assert "Authorization" not in (await counterpart.next_connection()).headers


async def test_retries_until_it_is_let_in(counterpart: Counterpart) -> None:
    counterpart.refusal = 401
    async with asyncio.timeout(PATIENCE), terminal(counterpart).running() as simulated:
        assert await simulated.wait_refused(3) == 401
        assert not simulated.connected
        counterpart.refusal = None
        await simulated.wait_connected()
        assert simulated.statistics().attempts == simulated.statistics().refused + 1


async def test_retries_where_nobody_listens_yet(counterpart: Counterpart) -> None:
    simulated = SimulatedTerminal("ws://127.0.0.1:1/devs/", SN, first_retry=0.01, last_retry=0.01)
    async with asyncio.timeout(PATIENCE), simulated.running():
        await simulated.wait_until(lambda: simulated.statistics().attempts >= 3)
    assert simulated.statistics().connections == 0


async def test_drops_a_connection_that_selects_none_of_its_subprotocols(counterpart: Counterpart) -> None:
    async with asyncio.timeout(PATIENCE), terminal(counterpart, subprotocol="xxx").running() as simulated:
        assert await simulated.wait_refused() is None
        counterpart.subprotocols = ("xxx",)
        await simulated.wait_connected()


async def test_connects_again_after_either_side_has_gone(counterpart: Counterpart) -> None:
    async with asyncio.timeout(PATIENCE), terminal(counterpart).running() as simulated:
        await (await counterpart.next_connection()).websocket.close()
        second = await counterpart.next_connection()
        await simulated.wait_until(lambda: simulated.connections == 2)
        await simulated.disconnect()
        assert (await second.next_frame()).type is aiohttp.WSMsgType.CLOSE
        third = await counterpart.next_connection()
        await simulated.wait_until(lambda: simulated.connections == 3)
        await simulated.disconnect(Drop.ABORT)
        assert (await third.next_frame()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert third.websocket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        await simulated.wait_until(lambda: simulated.connections == 4)


async def test_connects_over_tls_to_whom_it_trusts() -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    async with listening(server) as counterpart, asyncio.timeout(PATIENCE):
        async with terminal(counterpart, tls=client).running() as wary:
            await wary.wait_until(lambda: wary.statistics().attempts == 2)
            assert wary.connections == 0
        authority.configure_trust(client)
        async with terminal(counterpart, tls=client).running() as trusting:
            connection = await counterpart.next_connection()
            assert connection.headers["Origin"].startswith("https://127.0.0.1:")
            assert decode_reply(await connection.ask(encode_open(msgid="1", sn=SN))).status == 0
            await trusting.disconnect(Drop.ABORT)
            await trusting.wait_until(lambda: trusting.connections == 2)


async def test_says_goodbye_at_its_end(counterpart: Counterpart) -> None:
    async with terminal(counterpart).running() as simulated:
        connection = await counterpart.next_connection()
        await simulated.wait_connected()
    assert (await connection.next_frame()).type is aiohttp.WSMsgType.CLOSE
    assert not simulated.connected


async def test_pings_at_intervals_with_nothing_in_them(counterpart: Counterpart) -> None:
    async with asyncio.timeout(PATIENCE), terminal(counterpart, ping_interval=0.05).running() as simulated:
        connection = await counterpart.next_connection()
        for _ in range(3):
            frame = await connection.next_frame()
            assert (frame.type, frame.data) == (aiohttp.WSMsgType.PING, b"")
        await simulated.wait_until(lambda: simulated.statistics().pongs >= 2)


async def test_takes_a_server_that_falls_silent_for_dead(counterpart: Counterpart) -> None:
    counterpart.answers_pings = False
    async with asyncio.timeout(PATIENCE), terminal(counterpart, ping_interval=0.05).running() as simulated:
        await simulated.wait_until(lambda: simulated.connections == 2)


async def test_can_say_ping_in_a_text_frame(counterpart: Counterpart) -> None:
    behaviour = Behaviour(keep_alive=KeepAlive.TEXT)
    async with terminal(counterpart, ping_interval=0.05, behaviour=behaviour).running():
        connection = await counterpart.next_connection()
        for _ in range(2):
            frame = await connection.next_frame()
            assert (frame.type, frame.data) == (aiohttp.WSMsgType.TEXT, "ping")


async def test_answers_the_servers_pings_unless_told_not_to(counterpart: Counterpart) -> None:
    async with terminal(counterpart, behaviour=Behaviour(keep_alive=KeepAlive.NONE)).running() as simulated:
        connection = await counterpart.next_connection()
        await connection.websocket.ping(b"one")
        assert (await connection.next_frame()).data == b"one"
        simulated.behaviour = Behaviour(keep_alive=KeepAlive.NONE, answers_pings=False)
        await connection.websocket.ping(b"two")
        await connection.websocket.send_str(encode_open(msgid="1", sn=SN).decode())
        # The answer to the request is the next that comes: no pong before it.
        answer = await connection.next_frame()
        assert answer.type is aiohttp.WSMsgType.TEXT
        assert decode_reply(answer.data).status == 0


async def test_opens_reboots_and_remembers_what_came(counterpart: Counterpart) -> None:
    ticks = iter(range(100, 200))
    async with terminal(counterpart, clock=lambda: next(ticks)).running() as simulated:
        connection = await counterpart.next_connection()
        for msgid, request in enumerate((encode_open, encode_open, encode_reboot)):
            answer = decode_reply(await connection.ask(request(msgid=str(msgid), sn=SN)))
            assert answer == TerminalReply(str(msgid), SN, 0, "ok")
    assert (simulated.opened, simulated.rebooted) == (2, 1)
    assert [(one.cmd, one.msgid, one.at) for one in simulated.requests] == [
        ("open", "0", 100),
        ("open", "1", 101),
        ("reboot", "2", 102),
    ]


async def test_a_request_can_be_waited_for(counterpart: Counterpart) -> None:
    async with asyncio.timeout(PATIENCE), terminal(counterpart).running() as simulated:
        connection = await counterpart.next_connection()
        await connection.websocket.send_str(encode_reboot(msgid="r", sn=SN).decode())
        for number in range(3):
            await connection.websocket.send_str(encode_open(msgid=str(number), sn=SN).decode())
        assert (await simulated.wait_request("open", count=3)).msgid == "2"
        assert (await simulated.wait_request("reboot")).msgid == "r"
        assert simulated.opened == 3


async def test_holds_persons_field_by_field(counterpart: Counterpart) -> None:
    async with terminal(counterpart).running() as simulated:
        connection = await counterpart.next_connection()
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
async def test_refuses_a_photo_it_cannot_use(counterpart: Counterpart, photo: EscapedPhoto, text: str) -> None:
    async with terminal(counterpart).running() as simulated:
        connection = await counterpart.next_connection()
        frame = encode_set_person(replace(PERSON, photo=photo), msgid="m", sn=SN)
        assert decode_reply(await connection.ask(frame)) == TerminalReply("m", SN, STATUS_BAD_PHOTO, text)
        assert simulated.persons == {}


async def test_takes_the_largest_photo_there_is(counterpart: Counterpart) -> None:
    async with terminal(counterpart).running():
        connection = await counterpart.next_connection()
        frame = encode_set_person(replace(PERSON, photo=picture("JPEG", (1080, 1080))), msgid="m", sn=SN)
        assert decode_reply(await connection.ask(frame)).status == 0


async def test_refuses_a_person_without_a_photo(counterpart: Counterpart) -> None:
    async with terminal(counterpart).running() as simulated:
        connection = await counterpart.next_connection()
        frame = encode_set_person(PERSON, msgid="m", sn=SN).replace(b"&photo=", b"&startTs=-1&other=")
        reply = decode_reply(await connection.ask(frame))
        assert (reply.msgid, reply.status) == ("m", STATUS_UNREADABLE)
        assert simulated.persons == {}
        assert simulated.statistics().unreadable == 1


async def test_refuses_what_is_for_another_terminal(counterpart: Counterpart) -> None:
    async with terminal(counterpart).running() as simulated:
        connection = await counterpart.next_connection()
        assert decode_reply(await connection.ask(encode_open(msgid="m", sn="OTHER"))).status == STATUS_WRONG_SN
        assert simulated.opened == 0


async def test_survives_what_is_no_request(counterpart: Counterpart) -> None:
    async with asyncio.timeout(PATIENCE), terminal(counterpart).running() as simulated:
        connection = await counterpart.next_connection()
        for text in ("", "{", "[" * 100_000, "\x00"):
            await connection.websocket.send_str(text)
        await connection.websocket.send_bytes(b"\xff\x00")
        assert decode_reply(await connection.ask(encode_open(msgid="m", sn=SN))).status == 0
        assert simulated.statistics().unreadable == 5
        assert simulated.connections == 1


async def test_what_it_holds_outlives_its_connections(counterpart: Counterpart) -> None:
    simulated = terminal(counterpart)
    async with simulated.running():
        connection = await counterpart.next_connection()
        await connection.ask(encode_set_person(PERSON, msgid="m", sn=SN))
    async with simulated.running():
        await counterpart.next_connection()
        assert set(simulated.persons) == {PERSON.id}
