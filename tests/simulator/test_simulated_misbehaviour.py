"""A simulated terminal misbehaves on request, and its behaviour can change while it runs."""

import asyncio
import base64
import json
from random import Random

import aiohttp
import pytest

from bridge.protocol.encoding import RemoteProtocolError, escape_photo
from bridge.protocol.replies import TerminalReply, decode_reply
from bridge.protocol.requests import (
    NO_LIMIT,
    NO_NUMBER,
    PersonFields,
    encode_open,
    encode_remove_everyone,
    encode_remove_person,
    encode_set_person,
)
from bridge.simulator.behaviour import HUGE_FRAME_BYTES, Behaviour, Drop, Garbage, KeepAlive, Refusal
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.simulator.web_socket_server import TIMEOUT_SECONDS, WebSocketServer

SN = "FEDCBA9876543210"
OPEN = encode_open(msgid="m", sn=SN)
OK = TerminalReply("m", SN, 0, "ok")
ADA = PersonFields(
    id="1",
    name="Ada",
    card=NO_NUMBER,
    id_number=NO_NUMBER,
    photo=escape_photo(base64.b64encode(sample_photo(1)).decode()),
    start_ts=NO_LIMIT,
    end_ts=NO_LIMIT,
    pass_count=1,
    visitor=True,
)
QUIET = Behaviour(keep_alive=KeepAlive.NONE)


def terminal(server: WebSocketServer, behaviour: Behaviour) -> SimulatedTerminal:
    options = ConnectionOptions(first_retry_seconds=0.01, max_retry_seconds=0.05)
    return SimulatedTerminal(server.url, SN, options=options, behaviour=behaviour, randomness=Random(1))


async def test_slow(server: WebSocketServer) -> None:
    loop = asyncio.get_running_loop()
    behaviour = Behaviour(answer_delay=0.5, keep_alive=KeepAlive.NONE)
    async with terminal(server, behaviour).running() as simulated:
        connection = await server.next_connection()
        began = loop.time()
        await connection.websocket.send_str(OPEN.decode())
        await simulated.wait_request("open")
        # The terminal reads on while replies wait.
        await connection.websocket.ping(b"!")
        assert (await connection.next_frame()).type is aiohttp.WSMsgType.PONG
        assert decode_reply((await connection.next_frame()).data) == OK
        assert loop.time() - began >= 0.5
        assert simulated.opened == 1


async def test_silent(server: WebSocketServer) -> None:
    async with terminal(server, Behaviour(silent=True)).running() as simulated:
        connection = await server.next_connection()
        await connection.websocket.send_str(OPEN.decode())
        await simulated.wait_request("open")
        assert simulated.opened == 1
        simulated.behaviour = QUIET
        # The first reply that arrives is that of the second request.
        answer = await connection.ask(encode_open(msgid="second", sn=SN))
        assert decode_reply(answer).msgid == "second"


async def test_refusing(server: WebSocketServer) -> None:
    async with terminal(server, Behaviour(refusal=Refusal(7, "no room"))).running() as simulated:
        connection = await server.next_connection()
        assert decode_reply(await connection.ask(OPEN)) == TerminalReply("m", SN, 7, "no room")
        assert decode_reply(await connection.ask(encode_set_person(ADA, msgid="p", sn=SN))).status == 7
        assert (simulated.opened, dict(simulated.persons)) == (0, {})
        assert [request.cmd for request in simulated.requests] == ["open", "setPerson"]


@pytest.mark.parametrize(
    ("only_for", "refused"),
    [({"1"}, ["m2"]), ({None}, ["m4"]), ({"1", None}, ["m2", "m4"]), ({"2"}, []), (set(), [])],
)
async def test_refusing_some(server: WebSocketServer, only_for: set[str | None], refused: list[str]) -> None:
    behaviour = Behaviour(refusal=Refusal(7, "no room"), only_for=frozenset(only_for))
    async with terminal(server, behaviour).running():
        connection = await server.next_connection()
        requests = [
            encode_open(msgid="m1", sn=SN),
            encode_set_person(ADA, msgid="m2", sn=SN),
            encode_remove_person("3", msgid="m3", sn=SN),
            encode_remove_everyone(msgid="m4", sn=SN),
        ]
        answers = [decode_reply(await connection.ask(request)) for request in requests]
        assert [answer.msgid for answer in answers if answer.status == 7] == refused


@pytest.mark.parametrize(
    ("drop", "ends"),
    [
        (Drop.CLOSE, {aiohttp.WSMsgType.CLOSE}),
        (Drop.ABORT, {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}),
    ],
)
async def test_dropping(server: WebSocketServer, drop: Drop, ends: set[aiohttp.WSMsgType]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), terminal(server, Behaviour(drop=drop)).running() as simulated:
        connection = await server.next_connection()
        await connection.websocket.send_str(OPEN.decode())
        last = await connection.next_frame(
            aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR
        )
        assert last.type in ends
        assert simulated.opened == 0
        assert len(simulated.requests) == 1
        simulated.behaviour = Behaviour()
        again = await server.next_connection()
        assert decode_reply(await again.ask(OPEN)) == OK


@pytest.mark.parametrize("garbage", [Garbage.NOT_JSON, Garbage.BINARY, Garbage.NESTED, Garbage.HUGE])
async def test_garbage_precedes_the_reply(server: WebSocketServer, garbage: Garbage) -> None:
    async with terminal(server, Behaviour(garbage=garbage, keep_alive=KeepAlive.NONE)).running():
        connection = await server.next_connection()
        await connection.websocket.send_str(OPEN.decode())
        first = await connection.next_frame()
        assert (first.type is aiohttp.WSMsgType.BINARY) == (garbage is Garbage.BINARY)
        assert (len(first.data) == HUGE_FRAME_BYTES) == (garbage is Garbage.HUGE)
        with pytest.raises(RemoteProtocolError):
            decode_reply(first.data)
        assert decode_reply((await connection.next_frame()).data) == OK


async def test_a_reply_with_an_unknown_msgid_precedes_the_reply(server: WebSocketServer) -> None:
    async with terminal(server, Behaviour(garbage=Garbage.UNKNOWN_MSGID)).running():
        connection = await server.next_connection()
        invented = decode_reply(await connection.ask(OPEN))
        assert (invented.sn, invented.status) == (SN, 0)
        assert invented.msgid != "m"
        assert decode_reply((await connection.next_frame(aiohttp.WSMsgType.TEXT)).data) == OK


async def test_the_reply_arrives_twice(server: WebSocketServer) -> None:
    async with terminal(server, Behaviour(garbage=Garbage.DOUBLED)).running():
        connection = await server.next_connection()
        assert decode_reply(await connection.ask(OPEN)) == OK
        assert decode_reply((await connection.next_frame(aiohttp.WSMsgType.TEXT)).data) == OK


async def test_garbage_instead_of_the_reply(server: WebSocketServer) -> None:
    behaviour = Behaviour(garbage=Garbage.NOT_JSON, silent=True)
    async with terminal(server, behaviour).running() as simulated:
        connection = await server.next_connection()
        assert (await connection.ask(OPEN)).startswith("<")
        simulated.behaviour = QUIET
        assert decode_reply(await connection.ask(encode_open(msgid="second", sn=SN))).msgid == "second"


async def test_other_forms_of_the_reply(server: WebSocketServer) -> None:
    async with terminal(server, QUIET).running() as simulated:
        connection = await server.next_connection()
        for as_object in (False, True):
            for as_string in (False, True):
                simulated.behaviour = Behaviour(msg_as_object=as_object, status_as_string=as_string)
                text = await connection.ask(OPEN)
                msg = json.loads(text)["msg"]
                assert isinstance(msg, dict) == as_object
                status = (msg if as_object else json.loads(msg))["status"]
                assert status == ("0" if as_string else 0)
                assert decode_reply(text) == OK


async def test_flooding_begins_and_ends_at_once(server: WebSocketServer) -> None:
    loop = asyncio.get_running_loop()
    async with terminal(server, QUIET).running() as simulated:
        connection = await server.next_connection()
        await connection.ask(OPEN)
        simulated.behaviour = Behaviour(flood=1000, keep_alive=KeepAlive.NONE)
        began = loop.time()
        msgids = {decode_reply((await connection.next_frame()).data).msgid for _ in range(300)}
        # A thousand a second: neither all at once, nor only at the next sign of life.
        assert 0.2 < loop.time() - began < 3
        assert len(msgids) == 300
        simulated.behaviour = QUIET
        await connection.websocket.ping(b"end")
        await connection.next_frame(aiohttp.WSMsgType.PONG)
        while not connection.frames.empty():
            connection.frames.get_nowait()
        assert decode_reply(await connection.ask(OPEN)) == OK
