"""What strangers send costs nobody else their place, and leaves no traceback."""

import asyncio
import logging
from ipaddress import ip_address, ip_network
from pathlib import Path

import aiohttp
import pytest
import trustme
from argon2 import PasswordHasher as Argon2
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.settings import ServerTlsSettings
from bridge.model.events import TerminalConnected, TerminalDisconnected
from bridge.model.secret import Secret
from bridge.net import passwords
from bridge.net.fair_queue import FairQueue, FullError
from bridge.net.passwords import PasswordVerifier, VerifierBusyError, hash_password, is_usable
from bridge.net.proxies import client_address
from bridge.terminals import handshakes
from bridge.terminals.server import ListenError
from bridge.terminals.throttle import SnThrottle
from tests.support.core import SetClock, collect, known_terminal
from tests.support.terminal_server import PASSWORD, USERNAME, House
from tests.support.waiting import PATIENCE, until

RIGHT = aiohttp.encode_basic_auth(USERNAME, PASSWORD)
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"


async def handshake(
    system: House, sn: str, headers: bytes = UPGRADE + KEY + VERSION, authorization: str = RIGHT
) -> str:
    """Send a handshake as it stands; return the head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", system.server.port)
    head = f"GET /devs/{sn} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n".encode()
    writer.write(head + headers + b"\r\n")
    try:
        async with asyncio.timeout(PATIENCE):
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
async def test_a_broken_handshake_with_right_credentials_is_told(
    headers: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with House(known_terminal("T1")).open() as system:
        assert status_of(await handshake(system, "T1", headers)) == 400
        assert system.server.statistics().refused == {400: 1}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("offered", "selected"),
    [(b"xxx", "xxx"), (b"b, a", "b"), (b", a", "a"), (b",,", None), (b"\xff", None)],
)
async def test_odd_offers_of_subprotocols(offered: bytes, selected: str | None) -> None:
    async with House(known_terminal("T1")).open() as system:
        protocol = b"Sec-WebSocket-Protocol: " + offered + b"\r\n"
        head = await handshake(system, "T1", UPGRADE + KEY + VERSION + protocol)
    assert status_of(head) == 101
    _, _, after = head.partition("Sec-WebSocket-Protocol: ")
    assert (after.partition("\r\n")[0] or None) == selected


async def test_passwords_tried_all_at_once_hold_up_nobody_else() -> None:
    hashed = await asyncio.to_thread(hash_password, PASSWORD)
    async with House(known_terminal("T1"), known_terminal("T2"), password=hashed).open() as system:
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
        assert system.verifier.hashed == 11


async def test_thousands_of_wrong_passwords_leave_memory_bounded_and_a_terminal_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "_WRONG_REMEMBERED", 3)
    quick = Argon2(time_cost=1, memory_cost=8, parallelism=1)
    verifier = PasswordVerifier()
    stored = Secret(quick.hash("right"))
    assert await verifier.verify(stored, "right", address="192.0.2.1")
    for number in range(2000):
        assert not await verifier.verify(stored, f"wrong {number}", address="192.0.2.66")
    assert verifier.hashed == 2001
    assert await verifier.verify(stored, "right", address="192.0.2.1")
    assert verifier.hashed == 2001, "wrong ones push no right one out"
    assert (len(verifier._wrong), len(verifier._right), len(verifier._running)) == (3, 1, 0)
    verifier.close()


async def test_a_storm_of_a_thousand_costs_one_hash() -> None:
    hashed = await asyncio.to_thread(hash_password, PASSWORD)
    terminals = [known_terminal(f"T{number}") for number in range(1000)]
    async with House(*terminals, password=hashed).open() as system:
        heads = await asyncio.gather(*(handshake(system, f"T{number}") for number in range(1000)))
        assert {status_of(head) for head in heads} == {101}
        assert system.verifier.hashed == 1


async def test_whoever_calls_without_an_address_is_never_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_WAITING", 1)
    verifier = PasswordVerifier()
    stored = Secret(Argon2(time_cost=1, memory_cost=8, parallelism=1).hash("right"))
    results = await asyncio.gather(
        *(verifier.verify(stored, f"{number}", address=f"192.0.2.{number}") for number in range(5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [bool, bool, *[VerifierBusyError] * 3]
    assert await verifier.verify(stored, "right")
    verifier.close()


async def test_everyone_in_the_line_has_a_turn_and_the_greedy_make_room() -> None:
    line = FairQueue[str](4)
    begun: list[str] = []
    running: list[asyncio.Future[str]] = []

    def work(name: str) -> asyncio.Future[str]:
        begun.append(name)
        running.append(asyncio.get_running_loop().create_future())
        return running[-1]

    greedy = [line.wait("greedy", lambda n=n: work(f"greedy {n}")) for n in range(6)]  # type: ignore[misc]  # a default
    assert isinstance(greedy[5].exception(), FullError)
    modest = [line.wait(name, lambda name=name: work(name)) for name in ("modest", "other")]  # type: ignore[misc]
    assert [isinstance(one.exception(), FullError) for one in (greedy[4], greedy[3])] == [True, True]
    for number in range(5):
        running[number].set_result(begun[number])
        await asyncio.sleep(0)
    assert begun == ["greedy 0", "greedy 1", "modest", "other", "greedy 2"]
    assert [one.result() for one in modest] == ["modest", "other"]
    assert len(line) == 0


async def test_work_that_fails_is_told_and_holds_up_nobody() -> None:
    line = FairQueue[str](4)
    loop = asyncio.get_running_loop()
    failing, following = loop.create_future(), loop.create_future()
    first = line.wait("a", lambda: failing)
    second = line.wait("a", lambda: following)
    failing.set_exception(OSError("failed"))
    following.set_result("done")
    with pytest.raises(OSError, match="failed"):
        await first
    assert await second == "done"


def test_failures_are_counted_for_an_address_and_an_sn() -> None:
    clock = SetClock()
    throttle = SnThrottle(clock)
    for _ in range(10):
        assert throttle.wait("a", "T1") == 0
        throttle.failed("a", "T1")
    assert 0 < throttle.wait("a", "T1") <= 60
    assert throttle.wait("a", "T2") == throttle.wait("b", "T1") == 0
    clock.seconds += 60
    assert throttle.wait("a", "T1") == 0
    throttle.failed("a", "T1")
    assert throttle.wait("a", "T1") > 0, "one more try, not ten"
    throttle.succeeded("a", "T1")
    assert throttle.wait("a", "T1") == 0
    assert len(throttle) == 0


def test_what_was_not_looked_at_counts_as_no_failure() -> None:
    throttle = SnThrottle(SetClock())
    for _ in range(100):
        throttle.failed("a", "T1")
        throttle.not_looked_at("a", "T1")
    assert throttle.wait("a", "T1") == 0
    throttle.not_looked_at("a", "T2")


def test_failures_that_are_remembered_are_bounded() -> None:
    throttle = SnThrottle(SetClock())
    for number in range(30_000):
        throttle.failed("a", str(number))
    assert len(throttle) == 10_000


PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("fd00::1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["203.0.113.9:80"], "203.0.113.9"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, <script>"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [", ".join(["10.0.0.2"] * 5000)], "10.0.0.2"),
    ],
)
def test_whom_a_proxy_speaks_for(peer: str, headers: list[str], address: str) -> None:
    assert client_address(peer, headers, PROXIES) == address


@given(st.lists(st.text(max_size=60), max_size=4))
def test_whatever_a_proxy_says_an_address_comes_out(headers: list[str]) -> None:
    ip_address(client_address("10.0.0.1", headers, PROXIES))
    assert client_address("192.0.2.7", headers, PROXIES) == "192.0.2.7"


@pytest.mark.parametrize("broken", ["$argon2", "$argon2id$v=19$m=x,t=3,p=4$c2FsdA$aa", "$argon2id$secret"])
async def test_a_hash_that_is_not_whole_is_told_at_the_start_and_not_shown(broken: str) -> None:
    assert not is_usable(Secret(broken))
    system = House(known_terminal("T1"), password=broken)
    with pytest.raises(ListenError) as caught:
        await system.server.start()
    assert str(caught.value) == "terminals.password: is a hash that is not whole; `facebridge hash-password` makes one"
    system = House(known_terminal("T1", username="a", password=Secret(broken)))
    with pytest.raises(ListenError, match=r"terminals\.known\.T1\.password"):
        await system.server.start()


async def test_a_hash_that_turns_out_broken_later_is_told_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    verifier = PasswordVerifier()
    assert not await verifier.verify(Secret("$argon2id$v=19$m=65536,t=3,p=4$c2Fsd$aa"), "x")
    verifier.close()
    assert "hash-password" in caplog.text
    assert "c2Fsd" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_tls_handshake_that_never_ends_is_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    tls = ServerTlsSettings(certificate=tmp_path / "certificate.pem", key=tmp_path / "key.pem")
    system = House(known_terminal("T1"), tls=tls)
    system.server._handshakes = handshakes.Handshakes(timeout=0.5)
    async with system.open():
        begun = [b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 200_000]
        connections = [await asyncio.open_connection("127.0.0.1", system.server.port) for _ in begun]
        for (_, writer), data in zip(connections, begun, strict=True):
            writer.write(data)
        async with asyncio.timeout(PATIENCE):
            for reader, writer in connections:
                try:
                    while await reader.read(65536):
                        pass
                except ConnectionError:
                    pass
                writer.close()
        await until(lambda: system.server.statistics().half_open == 0)
        assert not system.server._below
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def test_frames_that_are_no_replies_are_counted() -> None:
    async with House(known_terminal("T1")).open() as system:
        headers = {"Authorization": RIGHT}
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{system.url}/T1", headers=headers) as websocket,
        ):
            for _ in range(7):
                await websocket.send_str("{}")
            await until(lambda: system.server.statistics().non_replies == 7)
        await until(lambda: system.server.statistics().sessions == 0)
        assert system.server.statistics().non_replies == 7


async def test_three_hundred_takeovers_never_say_offline() -> None:
    async with House(known_terminal("T1")).open() as system:
        told = collect(system.events, TerminalConnected, TerminalDisconnected)
        known = system.registry.get("T1")
        assert known is not None
        async with aiohttp.ClientSession(headers={"Authorization": RIGHT}) as client:
            websocket = await client.ws_connect(f"{system.url}/T1")
            for number in range(1, 300):
                await until(lambda number=number: len(told) == number)  # type: ignore[misc]  # a default
                websocket = await client.ws_connect(f"{system.url}/T1")
            await until(lambda: len(told) == 300)
            assert [type(event) for event in told] == [TerminalConnected] * 300
            await websocket.close()
            await until(lambda: known.connection is None)
        assert [type(event) for event in told[300:]] == [TerminalDisconnected]


async def test_a_terminal_forgotten_between_the_answer_and_the_upgrade_is_closed() -> None:
    async with House(known_terminal("T1")).open() as system:
        ask = system.admission.ask

        async def ask_then_forget(sn: str, address: str) -> bool:
            admitted = await ask(sn, address)
            system.registry.remove(sn)
            return admitted

        system.admission.ask = ask_then_forget  # type: ignore[method-assign]  # nothing else comes in between
        headers = {"Authorization": RIGHT}
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{system.url}/T1", headers=headers) as websocket,
        ):
            message = await websocket.receive(timeout=PATIENCE)
            assert message.type is aiohttp.WSMsgType.CLOSE
        await until(lambda: system.server.statistics().sessions == 0)


async def test_who_is_being_verified_when_the_bridge_stops_is_turned_away() -> None:
    hashed = await asyncio.to_thread(hash_password, PASSWORD)
    async with House(known_terminal("T1"), password=hashed).open() as system:
        asking = asyncio.get_running_loop().create_task(handshake(system, "T1"))
        await until(lambda: system.verifier.hashed == 1)
        system.server._stopping = True
        head = await asking
        assert status_of(head) == 503
        assert "Retry-After: 5" in head
