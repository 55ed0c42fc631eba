"""Unauthenticated clients: they cannot displace terminals, and malformed requests log no traceback."""

import asyncio
import logging
from pathlib import Path

import aiohttp
import pytest
import trustme

from bridge.model.events import TerminalConnected, TerminalDisconnected
from bridge.model.secret import Secret
from bridge.net.listening import ListenError
from bridge.net.passwords import hash_password
from tests.support.core import collect, known_terminal
from tests.support.terminal_server import (
    AUTHORIZATION,
    PASSWORD,
    PASSWORD_HASH,
    USERNAME,
    TerminalServerUnderTest,
    issue_certificate,
)
from tests.support.waiting import TIMEOUT_SECONDS, until

UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"


async def handshake(
    system: TerminalServerUnderTest,
    sn: str,
    headers: bytes = UPGRADE + KEY + VERSION,
    authorization: str = AUTHORIZATION,
) -> str:
    """Send a handshake byte for byte; return the head of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
    head = f"GET /devs/{sn} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n".encode()
    writer.write(head + headers + b"\r\n")
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return (await reader.readuntil(b"\r\n\r\n")).decode(errors="replace")
    finally:
        writer.close()


def status_of(head: str) -> int:
    return int(head.split()[1])


@pytest.mark.parametrize(
    "headers",
    [
        UPGRADE + KEY + b"Sec-WebSocket-Version: 12\r\n",
        UPGRADE + KEY,
        UPGRADE + VERSION,
        UPGRADE + VERSION + b"Sec-WebSocket-Key: short\r\n",
        UPGRADE + VERSION + b"Sec-WebSocket-Key: \xff\xfe\r\n",
        b"Upgrade: websocket\r\n" + KEY + VERSION,
    ],
)
async def test_a_malformed_handshake_with_right_credentials_gets_400(
    headers: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        assert status_of(await handshake(system, "T1", headers)) == 400
        assert system.server.statistics().refused == {400: 1}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("offered", "selected"),
    [(b"xxx", "xxx"), (b"b, a", "b"), (b", a", "a"), (b",,", None), (b"\xff", None)],
)
async def test_unusual_subprotocol_headers(offered: bytes, selected: str | None) -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        protocol = b"Sec-WebSocket-Protocol: " + offered + b"\r\n"
        head = await handshake(system, "T1", UPGRADE + KEY + VERSION + protocol)
    assert status_of(head) == 101
    _, _, after = head.partition("Sec-WebSocket-Protocol: ")
    assert (after.partition("\r\n")[0] or None) == selected


async def test_simultaneous_guesses_are_throttled_and_do_not_delay_other_terminals() -> None:
    system = TerminalServerUnderTest(known_terminal("T1"), known_terminal("T2"), password=PASSWORD_HASH)
    async with system.open():
        flood = [
            asyncio.get_running_loop().create_task(
                handshake(system, "T1", authorization=aiohttp.encode_basic_auth(USERNAME, f"wrong {number}"))
            )
            for number in range(300)
        ]
        await until(lambda: system.server.statistics().refused.get(429, 0) > 0)
        assert status_of(await handshake(system, "T2")) == 101
        statuses = [status_of(head) for head in await asyncio.gather(*flood)]
        assert set(statuses) == {401, 429}
        assert statuses.count(401) == 10
        assert system.verifier.statistics().hashed == 11


async def test_a_thousand_simultaneous_terminals_cost_one_hash() -> None:
    hashed = await asyncio.to_thread(hash_password, PASSWORD)
    terminals = [known_terminal(f"T{number}") for number in range(1000)]
    # A busy machine needs more than the usual ten seconds for all handshakes.
    system = TerminalServerUnderTest(*terminals, password=hashed, limits={"handshake_seconds": 60})
    async with system.open():
        heads = await asyncio.gather(*(handshake(system, f"T{number}") for number in range(1000)))
        assert {status_of(head) for head in heads} == {101}
        assert system.verifier.statistics().hashed == 1


@pytest.mark.parametrize("broken", ["$argon2", "$argon2id$v=19$m=x,t=3,p=4$c2FsdA$aa", "$argon2id$secret"])
async def test_an_incomplete_hash_prevents_the_start_and_is_not_shown(broken: str) -> None:
    system = TerminalServerUnderTest(known_terminal("T1"), password=broken)
    with pytest.raises(ListenError) as caught:
        await system.server.start()
    assert str(caught.value) == "terminals.password: an incomplete hash; `facebridge hash-password` makes a new one"
    system = TerminalServerUnderTest(known_terminal("T1", username="a", password=Secret(broken)))
    with pytest.raises(ListenError, match=r"terminals\.known\.T1\.password"):
        await system.server.start()


async def test_an_unfinished_tls_handshake_times_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = issue_certificate(tmp_path, trustme.CA())
    system = TerminalServerUnderTest(known_terminal("T1"), tls=tls, limits={"handshake_seconds": 0.5})
    async with system.open():
        begun = [b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 200_000]
        connections = [await asyncio.open_connection("127.0.0.1", system.server.port) for _ in begun]
        for (_, writer), data in zip(connections, begun, strict=True):
            writer.write(data)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for reader, writer in connections:
                try:
                    while await reader.read(65536):
                        pass
                except ConnectionError:
                    pass
                writer.close()
        await until(lambda: system.server.statistics().half_open == 0)
        assert system.server.statistics().connections == 0
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def test_non_replies_are_counted() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        headers = {"Authorization": AUTHORIZATION}
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{system.url}/T1", headers=headers) as websocket,
        ):
            for _ in range(7):
                await websocket.send_str("{}")
            await until(lambda: system.server.statistics().non_replies == 7)
        await until(lambda: system.server.statistics().sessions == 0)
        assert system.server.statistics().non_replies == 7


async def test_three_hundred_takeovers_publish_no_disconnection() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        events = collect(system.events, TerminalConnected, TerminalDisconnected)
        known = system.registry.get("T1")
        assert known is not None
        async with aiohttp.ClientSession(headers={"Authorization": AUTHORIZATION}) as client:
            websocket = await client.ws_connect(f"{system.url}/T1")
            for number in range(1, 300):
                await until(lambda number=number: len(events) == number)  # type: ignore[misc]  # a default
                websocket = await client.ws_connect(f"{system.url}/T1")
            await until(lambda: len(events) == 300)
            assert [type(event) for event in events] == [TerminalConnected] * 300
            await websocket.close()
            await until(lambda: known.connection is None)
        assert [type(event) for event in events[300:]] == [TerminalDisconnected]


async def test_a_terminal_that_is_forgotten_between_authentication_and_upgrade_is_closed() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        ask = system.admission.may_connect

        async def ask_then_forget(sn: str, address: str) -> bool:
            admitted = await ask(sn, address)
            system.registry.remove(sn)
            return admitted

        system.admission.may_connect = ask_then_forget  # type: ignore[method-assign]  # the last step before the upgrade
        headers = {"Authorization": AUTHORIZATION}
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{system.url}/T1", headers=headers) as websocket,
        ):
            message = await websocket.receive(timeout=TIMEOUT_SECONDS)
            assert message.type is aiohttp.WSMsgType.CLOSE
        await until(lambda: system.server.statistics().sessions == 0)


async def test_a_handshake_during_which_the_bridge_stops_is_refused() -> None:
    async with TerminalServerUnderTest(known_terminal("T1"), known_terminal("T2")).open() as system:
        ask = system.admission.may_connect
        stopping: list[asyncio.Task[None]] = []

        async def ask_while_stopping(sn: str, address: str) -> bool:
            stopping.append(asyncio.get_running_loop().create_task(system.server.stop()))
            await asyncio.sleep(0)
            return await ask(sn, address)

        # T2 does not answer the close frame, so that the stop waits and does not yet abort T1's connection.
        async with (
            aiohttp.ClientSession(headers={"Authorization": AUTHORIZATION}) as client,
            client.ws_connect(f"{system.url}/T2"),
        ):
            await until(lambda: system.server.statistics().sessions == 1)
            system.admission.may_connect = ask_while_stopping  # type: ignore[method-assign]  # after the verification
            head = await handshake(system, "T1")
            assert status_of(head) == 503
            assert "Retry-After: 5" in head
            await asyncio.gather(*stopping)
