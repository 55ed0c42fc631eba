"""Connections of terminals from the outside: handshakes, authentication, limits, TLS and the end."""

import asyncio
import base64
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import trustme
from argon2 import PasswordHasher as Argon2

from bridge.core.ports import Connection
from bridge.model.events import TerminalConnected, TerminalDisconnected, TerminalPending, TerminalRefused
from bridge.model.secret import Secret
from bridge.net.passwords import hash_password
from bridge.simulator.terminal import SimulatedTerminal
from bridge.terminals.pacing import PacingLimits
from bridge.terminals.session import MAX_FRAME_BYTES
from tests.support.core import collect, known_terminal
from tests.support.terminal_server import (
    AUTHORIZATION,
    PASSWORD,
    USERNAME,
    TerminalServerUnderTest,
    issue_certificate,
)
from tests.support.waiting import TIMEOUT_SECONDS, until

WRONG = aiohttp.encode_basic_auth(USERNAME, "wrong")


async def status_of(
    system: TerminalServerUnderTest,
    path: str,
    authorization: str = AUTHORIZATION,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Try to connect; return the HTTP status."""
    url = f"{system.url.removesuffix('/devs')}{path}"
    async with aiohttp.ClientSession() as client:
        try:
            async with client.ws_connect(url, headers={"Authorization": authorization, **(headers or {})}):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


@asynccontextmanager
async def connected(
    system: TerminalServerUnderTest, sn: str = "T1", protocols: tuple[str, ...] = ()
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(
            f"{system.url}/{sn}",
            headers={"Authorization": AUTHORIZATION},
            autoping=False,
            protocols=protocols,
        ) as websocket,
    ):
        yield websocket


async def wait_online(system: TerminalServerUnderTest, sn: str = "T1") -> Connection:
    known = system.registry.get(sn)
    assert known is not None
    await until(lambda: known.connection is not None)
    assert known.connection is not None
    return known.connection


async def wait_offline(system: TerminalServerUnderTest, sn: str = "T1") -> None:
    known = system.registry.get(sn)
    assert known is not None
    await until(lambda: known.connection is None)


@pytest.mark.parametrize(
    ("path", "auth", "status"),
    [
        ("/devs/T1", AUTHORIZATION, 101),
        ("/devs/T1?x=/y", AUTHORIZATION, 101),
        ("/devs/T1", None, 401),
        ("/devs/T1", WRONG, 401),
        ("/devs/T1", aiohttp.encode_basic_auth("other", PASSWORD), 401),
        ("/devs/T1", aiohttp.encode_basic_auth(USERNAME, ""), 401),
        ("/devs/T9", AUTHORIZATION, 403),
        ("/devs/T9", WRONG, 401),
        ("/devs/a+b", AUTHORIZATION, 400),
        ("/devs/a%2Fb", AUTHORIZATION, 400),
        ("/devs/%2e%2e", AUTHORIZATION, 400),
        ("/devs/a%23b", AUTHORIZATION, 400),
        ("/devs/%FF", AUTHORIZATION, 400),
        ("/devs/%00", AUTHORIZATION, 400),
        (f"/devs/{'x' * 65}", AUTHORIZATION, 400),
        ("/devs/", AUTHORIZATION, 400),
        ("/devs/a/b", AUTHORIZATION, 404),
        ("/devs", AUTHORIZATION, 404),
        ("/", AUTHORIZATION, 404),
        ("/other/T1", AUTHORIZATION, 404),
        ("/devsT1", AUTHORIZATION, 404),
    ],
)
async def test_the_response_to_a_handshake(
    path: str, auth: str | None, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        assert await raw_status(system, path, auth) == status
    assert "Traceback" not in caplog.text


async def raw_status(system: TerminalServerUnderTest, path: str, auth: str | None) -> int:
    """Send a handshake byte for byte, because an HTTP client would normalise the path."""
    head = await raw(system, path, f"Authorization: {auth}\r\n" if auth else "")
    return int(head.split()[1])


async def raw(system: TerminalServerUnderTest, path: str, more: str = "", method: str = "GET") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n".encode()
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    return head


async def test_the_vendor_documents_handshake_is_accepted() -> None:
    async with TerminalServerUnderTest(known_terminal("FEDCBA9876543210")).open() as system:
        head = await raw(
            system,
            "/devs/FEDCBA9876543210",
            "Origin: http://x\r\nSec-WebSocket-Protocol: xxx\r\nSec-WebSocket-Extension: xxxx\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Basic ZGV2OjEyMw==\r\n",
        )
    assert head.startswith("HTTP/1.1 101")
    assert "Sec-WebSocket-Protocol: xxx" in head
    assert "Extensions" not in head
    assert "Server: facebridge" in head


async def test_the_first_subprotocol_offered_is_selected() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        async with connected(system, protocols=("b", "a")) as websocket:
            assert websocket.protocol == "b"
        async with connected(system) as websocket:
            assert websocket.protocol is None


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic ZGV2", "Bearer ZGV2OjEyMw==", "Basic " + "A" * 7000])
async def test_malformed_credentials_get_401(header: str) -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        head = await raw(system, "/devs/T1", f"Authorization: {header}\r\n")
        assert head.startswith("HTTP/1.1 401")
        assert "WWW-Authenticate: Basic" in head


async def test_other_methods_and_a_missing_upgrade_are_refused() -> None:
    async with (
        TerminalServerUnderTest(known_terminal("T1")).open() as system,
        aiohttp.ClientSession(headers={"Authorization": AUTHORIZATION}) as client,
    ):
        async with client.post(f"{system.url}/T1") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET")
        async with client.get(f"{system.url}/T1") as response:
            assert (response.status, response.headers["Upgrade"]) == (426, "websocket")


async def test_a_terminal_with_its_own_credentials_uses_only_those() -> None:
    own = Secret(await asyncio.to_thread(hash_password, "own"))
    async with TerminalServerUnderTest(known_terminal("T1", username="gate", password=own)).open() as system:
        assert await status_of(system, "/devs/T1", aiohttp.encode_basic_auth("gate", "own")) == 101
        assert await status_of(system, "/devs/T1", AUTHORIZATION) == 401


async def test_an_unknown_terminal_waits_for_approval_and_wrong_credentials_are_refused() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        events = collect(system.events, TerminalPending, TerminalRefused)
        assert await status_of(system, "/devs/T9") == 403
        assert await status_of(system, "/devs/T8", WRONG) == 401
    pending, refused = events
    assert isinstance(pending, TerminalPending)
    assert (pending.sn, pending.address) == ("T9", "127.0.0.1")
    assert isinstance(refused, TerminalRefused)
    assert (refused.sn, refused.address, refused.reason) == ("T8", "127.0.0.1", "wrong credentials")
    assert [one.sn for one in system.admission.pending] == ["T9"]


async def test_admit_any_admits_every_terminal_with_right_credentials() -> None:
    async with TerminalServerUnderTest(admit="any").open() as system:
        assert await status_of(system, "/devs/T9") == 101
        assert "T9" in system.store.terminals
        system.store.full = True
        assert await status_of(system, "/devs/T10") == 503


async def test_too_many_wrong_passwords_block_that_address_for_that_sn_only() -> None:
    async with TerminalServerUnderTest(
        known_terminal("T1"), known_terminal("T2"), trusted_proxies=("127.0.0.1",)
    ).open() as system:
        online = await asyncio.wait_for(_run_terminal(system, "T1"), TIMEOUT_SECONDS)
        forged = {"X-Forwarded-For": "192.0.2.66"}
        statuses = [await status_of(system, "/devs/T1", WRONG, headers=forged) for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        head = await raw(system, "/devs/T1", f"Authorization: {AUTHORIZATION}\r\nX-Forwarded-For: 192.0.2.66\r\n")
        assert head.startswith("HTTP/1.1 429")
        assert 1 <= int(head.partition("Retry-After: ")[2].split()[0]) <= 60
        assert await status_of(system, "/devs/T2", AUTHORIZATION, headers=forged) == 101
        assert online.connections == 1
        assert online.connected
        assert await status_of(system, "/devs/T1", AUTHORIZATION) == 101


async def test_unknown_sns_of_one_address_share_one_budget_of_logins() -> None:
    async with TerminalServerUnderTest(known_terminal("T1"), trusted_proxies=("127.0.0.1",)).open() as system:

        async def attempt(sn: str, address: str, authorization: str = WRONG) -> int:
            return await status_of(system, f"/devs/{sn}", authorization, headers={"X-Forwarded-For": address})

        assert [await attempt(f"X{number}", "192.0.2.66") for number in range(12)] == [401] * 10 + [429] * 2
        assert await attempt("T1", "192.0.2.66", AUTHORIZATION) == 101, "known terminals have their own"
        assert await attempt("X1", "192.0.2.67") == 401
        # A host may use every address of its IPv6 network.
        statuses = [await attempt(f"Y{number}", f"2001:db8::{number}") for number in range(12)]
        assert statuses == [401] * 10 + [429] * 2


async def test_terminals_that_wait_for_approval_do_not_reset_the_count_of_a_guesser() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        statuses = []
        for number in range(12):
            statuses.append(await status_of(system, f"/devs/X{number}", WRONG))
            if statuses[-1] == 401:
                await status_of(system, "/devs/PENDING")
        assert statuses == [401] * 10 + [429] * 2
        assert await status_of(system, "/devs/PENDING") == 429
        assert [one.sn for one in system.admission.pending] == ["PENDING"]


async def _run_terminal(system: TerminalServerUnderTest, sn: str) -> SimulatedTerminal:
    terminal = SimulatedTerminal(system.terminal_url, sn)
    task = asyncio.get_running_loop().create_task(terminal.run())
    _RUNNING.append(task)
    await terminal.wait_connected()
    return terminal


_RUNNING: list[asyncio.Task[None]] = []


@pytest.fixture(autouse=True)
async def stop_running_terminals() -> AsyncIterator[None]:
    yield
    while _RUNNING:
        task = _RUNNING.pop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_storm_of_unauthenticated_clients_does_not_keep_a_terminal_out() -> None:
    # A third of the usual cost: still far slower than the handshakes arrive.
    hashed = Argon2(time_cost=3, memory_cost=16_384, parallelism=1).hash(PASSWORD)
    # A busy machine needs more than the usual ten seconds for the queue of verifications.
    system = TerminalServerUnderTest(
        known_terminal("T1"), password=hashed, limits={"handshake_seconds": 60}, trusted_proxies=("127.0.0.1",)
    )
    async with system.open():

        async def wrong_login(number: int) -> int:
            wrong = aiohttp.encode_basic_auth(USERNAME, f"wrong {number}")
            return await status_of(system, f"/devs/X{number}", wrong, headers={"X-Forwarded-For": f"192.0.2.{number}"})

        storm = [asyncio.get_running_loop().create_task(wrong_login(number)) for number in range(100)]
        await until(lambda: system.server.statistics().refused.get(503, 0) > 0)
        assert await status_of(system, "/devs/T1") == 101
        assert set(await asyncio.gather(*storm)) == {401, 503}


async def test_a_reconnect_storm_costs_one_hash() -> None:
    hashed = await asyncio.to_thread(hash_password, PASSWORD)
    terminals = [known_terminal(f"T{number}") for number in range(200)]
    system = TerminalServerUnderTest(*terminals, password=hashed, limits={"handshake_seconds": 60})
    async with system.open():
        for _ in range(2):
            statuses = await asyncio.gather(*(status_of(system, f"/devs/T{number}") for number in range(200)))
            assert set(statuses) == {101}
        assert system.verifier.statistics().hashed == 1


async def test_a_ping_is_answered_and_a_text_ping_is_not() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system, connected(system) as websocket:
        await websocket.send_str("ping")
        await websocket.send_str("")
        await websocket.ping(b"x")
        message = await websocket.receive(timeout=TIMEOUT_SECONDS)
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"x")


async def test_a_silent_terminal_is_pinged_and_then_disconnected() -> None:
    async with TerminalServerUnderTest(known_terminal("T1"), idle_timeout=0.6).open() as system:
        gone = collect(system.events, TerminalDisconnected)
        async with connected(system) as websocket:
            message = await websocket.receive(timeout=TIMEOUT_SECONDS)
            assert message.type is aiohttp.WSMsgType.PING
            await wait_offline(system)
    assert isinstance(gone[0], TerminalDisconnected)
    assert gone[0].reason == "no frame for 0.6 s"


async def test_a_terminal_that_answers_pings_stays() -> None:
    async with (
        TerminalServerUnderTest(known_terminal("T1"), idle_timeout=0.6).open() as system,
        connected(system) as websocket,
    ):
        for _ in range(5):
            message = await websocket.receive(timeout=TIMEOUT_SECONDS)
            assert message.type is aiohttp.WSMsgType.PING
            await websocket.pong(message.data)
        known = system.registry.get("T1")
        assert known is not None
        assert known.connection is not None


@pytest.mark.parametrize("frame", [b"{}", b"[" * 5000, b"\xff\xfe", b'{"msgid": 1}', b"null", b"secret-face " * 100])
async def test_a_frame_that_is_no_reply_does_not_end_the_connection(
    frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system, connected(system) as websocket:
        for _ in range(5):
            await websocket.send_frame(frame, aiohttp.WSMsgType.TEXT)
            await websocket.send_frame(frame, aiohttp.WSMsgType.BINARY)
        await websocket.ping(b"still there")
        assert (await websocket.receive(timeout=TIMEOUT_SECONDS)).data == b"still there"
    assert "secret-face secret-face" not in caplog.text
    assert caplog.text.count("is no reply") == 3, "further frames are only counted"


async def test_a_frame_above_the_limit_ends_the_connection() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system, connected(system) as websocket:
        await websocket.send_str("x" * (MAX_FRAME_BYTES + 1))
        message = await websocket.receive(timeout=TIMEOUT_SECONDS)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        await wait_offline(system)


async def test_a_flood_is_read_slowly_and_not_disconnected() -> None:
    system = TerminalServerUnderTest(
        known_terminal("T1"), limits={"pacing": PacingLimits(frame_burst=20, frames_per_second=50)}
    )
    async with system.open(), connected(system) as websocket:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(120):
            await websocket.send_str("ping")
        await websocket.ping(b"after the flood")
        assert (await websocket.receive(timeout=TIMEOUT_SECONDS)).data == b"after the flood"
        # Not a measurement: it can only be read so soon where nothing slows it down.
        assert loop.time() - began > 1.5


async def test_a_second_connection_takes_over_again_and_again() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        events = collect(system.events, TerminalConnected, TerminalDisconnected)
        async with aiohttp.ClientSession() as client:
            sockets = [
                await client.ws_connect(f"{system.url}/T1", headers={"Authorization": AUTHORIZATION})
                for _ in range(100)
            ]
            await sockets[-1].ping(b"x")
            connection = await wait_online(system)
            for old in sockets[:-1]:
                message = await old.receive(timeout=TIMEOUT_SECONDS)
                assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE)
            known = system.registry.get("T1")
            assert known is not None
            assert known.connection is connection
            assert not [event for event in events if isinstance(event, TerminalDisconnected)]


async def test_a_handshake_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"max_half_open": 5, "handshake_seconds": 0.5}
    system = TerminalServerUnderTest(known_terminal("T1"), limits=limits)
    async with system.open():
        connections = [await asyncio.open_connection("127.0.0.1", system.server.port) for _ in range(8)]
        for _, writer in connections:
            writer.write(b"GET /devs/T1 HTTP/1.1\r\n")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for reader, writer in connections:
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
        assert await status_of(system, "/devs/T1") == 101, "they do not count as failed logins"


async def test_too_many_half_open_connections_close_the_oldest() -> None:
    limits = {"max_half_open": 3, "handshake_seconds": 60}
    system = TerminalServerUnderTest(known_terminal("T1"), limits=limits)
    async with system.open():
        connections = [await asyncio.open_connection("127.0.0.1", system.server.port) for _ in range(4)]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await connections[0][0].readexactly(1)
        assert system.server.statistics().half_open == 3
        for _, writer in connections:
            writer.close()


async def test_a_connected_terminal_is_no_longer_half_open() -> None:
    limits = {"max_half_open": 3, "handshake_seconds": 0.3}
    system = TerminalServerUnderTest(known_terminal("T1"), limits=limits)
    async with system.open(), connected(system) as websocket:
        await asyncio.sleep(0.5)
        await websocket.ping(b"x")
        assert (await websocket.receive(timeout=TIMEOUT_SECONDS)).data == b"x"
        assert system.server.statistics().half_open == 0


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 100, b"GET\r\n\r\n", b"G" * 100_000]
)
async def test_garbage_leaves_no_traceback(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system:
        reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
        writer.write(garbage)
        writer.write_eof()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        assert await status_of(system, "/devs/T1") == 101
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def test_stop_closes_sessions_with_a_close_frame() -> None:
    async with TerminalServerUnderTest(known_terminal("T1")).open() as system, connected(system) as websocket:
        stopping = asyncio.get_running_loop().create_task(system.server.stop())
        await asyncio.sleep(0)
        message = await websocket.receive(timeout=TIMEOUT_SECONDS)
        assert message.type is aiohttp.WSMsgType.CLOSE
        await websocket.close()
        await stopping
        known = system.registry.get("T1")
        assert known is not None
        assert known.connection is None


async def test_a_trusted_proxy_names_the_terminals_address() -> None:
    async with TerminalServerUnderTest(known_terminal("T1"), trusted_proxies=("127.0.0.0/8",)).open() as system:
        async with connected(system):
            assert (await wait_online(system)).address == "127.0.0.1"
        await wait_offline(system)
        headers = {"Authorization": AUTHORIZATION, "X-Forwarded-For": "203.0.113.9, 192.0.2.7, 127.0.0.5"}
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{system.url}/T1", headers=headers):
            assert (await wait_online(system)).address == "192.0.2.7"


async def test_a_changed_certificate_is_loaded_while_the_server_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = trustme.CA(), trustme.CA()
    tls = issue_certificate(tmp_path, first)
    caplog.set_level(logging.INFO)

    async def is_trusted(authority: trustme.CA) -> bool:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        async with aiohttp.ClientSession(headers={"Authorization": AUTHORIZATION}) as client:
            try:
                async with client.ws_connect(f"{system.url.replace('http', 'https')}/T1", ssl=context):
                    return True
            except aiohttp.ClientConnectorCertificateError:
                return False

    async with TerminalServerUnderTest(
        known_terminal("T1"), tls=tls, limits={"certificate_check_seconds": 0.05}
    ).open() as system:
        assert await is_trusted(first)
        tls.certificate.write_text("broken")
        await until(lambda: "keeping the old certificate" in caplog.text)
        assert await is_trusted(first)
        issue_certificate(tmp_path, second)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await is_trusted(second):
                await asyncio.sleep(0.01)


async def test_a_client_without_tls_leaves_no_traceback_on_a_tls_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with TerminalServerUnderTest(
        known_terminal("T1"), tls=issue_certificate(tmp_path, trustme.CA())
    ).open() as system:
        reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
        writer.write(b"GET /devs/T1 HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with suppress(ConnectionResetError):
                await reader.read()
        writer.close()
    assert not [record for record in caplog.records if record.exc_info]


def test_the_vendor_documents_credentials_decode_to_these() -> None:
    assert base64.b64decode("ZGV2OjEyMw==") == f"{USERNAME}:{PASSWORD}".encode()
