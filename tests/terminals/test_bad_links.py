"""Promise 1 on bad links: a press that is not delivered in time never arrives, and the reply says so."""

import asyncio
import errno
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from bridge.core.ports import Connection, ConnectionLostError, WrittenFrame
from bridge.model.commands import Open
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from bridge.simulator.behaviour import Behaviour, KeepAlive
from bridge.simulator.terminal import SimulatedTerminal
from bridge.terminals.send_buffer import SendBuffer, has_timed_out
from bridge.terminals.session import Session
from tests.support.core import known_terminal
from tests.support.narrow_link import NarrowLink
from tests.support.network import Host
from tests.support.terminal_server import (
    AUTHORIZATION,
    PASSWORD,
    USERNAME,
    TerminalServerUnderTest,
    issue_certificate,
)
from tests.support.waiting import TIMEOUT_SECONDS, until

PHOTO = b"p" * 150_000

FILLING = b"f" * 20_000
"""More than a frozen link accepts and less than this machine's kernel: later bytes stay in the kernel."""


async def press(system: TerminalServerUnderTest, request_id: str = "r1") -> Reply:
    reply = await system.presses.press(
        "T1", Open(request_id=request_id), Origin(source="test"), system.clock.boottime()
    )
    assert isinstance(reply, Reply)
    return reply


async def connection_of(system: TerminalServerUnderTest) -> Connection:
    known = system.registry.get("T1")
    assert known is not None
    await until(lambda: known.connection is not None)
    assert known.connection is not None
    return known.connection


async def until_responsive(system: TerminalServerUnderTest) -> None:
    connection = await connection_of(system)
    await until(lambda: connection.responsive)


async def fill(connection: Connection, link: NarrowLink) -> None:
    """Freeze a link, and send so many bytes that the next frame stays in this machine's kernel."""
    link.freeze()
    await connection.send(FILLING)
    assert send_buffer_of(connection).in_user_space() == 0


def send_buffer_of(connection: Connection) -> SendBuffer:
    assert isinstance(connection, Session)
    return connection.send_buffer


@asynccontextmanager
async def over_a_link(
    deadline: float, behaviour: Behaviour | None = None
) -> AsyncIterator[tuple[TerminalServerUnderTest, NarrowLink, SimulatedTerminal]]:
    async with (
        TerminalServerUnderTest(known_terminal("T1"), deadline=deadline).open() as system,
        NarrowLink(system.server.port).running() as link,
    ):
        terminal = SimulatedTerminal(
            f"ws://{USERNAME}:{PASSWORD}@127.0.0.1:{link.port}/devs/", "T1", behaviour=behaviour
        )
        async with terminal.running():
            await connection_of(system)
            yield system, link, terminal


async def test_a_press_is_not_written_behind_bytes_that_a_frozen_link_does_not_accept() -> None:
    async with over_a_link(deadline=2) as (system, link, terminal):
        connection = await connection_of(system)
        await fill(connection, link)
        written = send_buffer_of(connection).position()
        reply = await press(system)
        assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, False)
        assert send_buffer_of(connection).position() == written
        link.thaw()
        await until(lambda: not send_buffer_of(connection).unacknowledged())
        assert (await press(system)).outcome is Outcome.OK
        assert (terminal.opened, terminal.connections) == (1, 1)


async def test_a_press_is_not_written_into_a_closed_window() -> None:
    """The kernel would send it when the terminal reads again, also while the bridge is frozen."""
    async with over_a_link(deadline=5) as (system, link, _):
        connection = await connection_of(system)
        link.freeze()
        while connection.send_urgent(b"x" * 500) is not None:
            await until(lambda: not send_buffer_of(connection).unacknowledged())
        reply = await press(system)
        assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, False)


async def test_a_press_waits_for_a_photo_that_is_being_sent() -> None:
    async with over_a_link(deadline=5) as (system, link, terminal):
        connection = await connection_of(system)
        link.freeze()
        await connection.send(PHOTO)
        loop = asyncio.get_running_loop()
        pressing = loop.create_task(press(system))
        await asyncio.sleep(0.1)
        later = loop.create_task(connection.send(PHOTO))
        link.thaw()
        assert (await pressing).outcome is Outcome.OK
        await later
        assert terminal.opened == 1
        assert bytes(link.forwarded).index(b'"open"') < 2 * len(PHOTO), "the second photo waits for the press"


async def test_a_press_is_in_the_kernel_as_soon_as_it_is_written() -> None:
    """Otherwise a freeze between the age check and the end of the event loop's round would make it late."""
    async with over_a_link(deadline=5) as (system, _, _):
        connection = await connection_of(system)
        for _ in range(100):
            while connection.send_urgent(b"{}") is None:
                await asyncio.sleep(0)
            assert send_buffer_of(connection).in_user_space() == 0


async def test_unacknowledged_bytes_do_not_arrive_after_the_terminal_has_disconnected() -> None:
    async with over_a_link(deadline=1) as (system, link, _):
        connection = await connection_of(system)
        await fill(connection, link)
        await connection.send(b"the press")
        link.end_towards_bridge()
        known = system.registry.get("T1")
        assert known is not None
        await until(lambda: known.connection is None)
        link.thaw()
        await until(lambda: known.connection is not None)
        assert b"the press" not in link.forwarded


async def test_a_press_that_is_delivered_but_not_answered_keeps_the_connection() -> None:
    async with over_a_link(deadline=1, behaviour=Behaviour(silent=True)) as (system, _, terminal):
        reply = await press(system)
        assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, True)
        assert (terminal.opened, terminal.connections) == (1, 1)


@pytest.mark.parametrize("keep_alive", [KeepAlive.PING, KeepAlive.NONE])
async def test_a_terminal_that_reads_but_does_not_answer_gets_further_presses(keep_alive: KeepAlive) -> None:
    """Its pong shows that it has read the press before. A hung terminal sends none."""
    async with over_a_link(deadline=1, behaviour=Behaviour(silent=True, keep_alive=keep_alive)) as (
        system,
        _,
        terminal,
    ):
        assert (await press(system)).outcome is Outcome.TIMEOUT
        await until_responsive(system)
        assert (await press(system)).outcome is Outcome.TIMEOUT
        assert terminal.opened == 2


async def test_a_hung_terminal_gets_no_further_press() -> None:
    async with over_a_link(deadline=1) as (system, link, terminal):
        link.freeze()
        reply = await press(system)
        assert (reply.outcome, reply.delivered) == (Outcome.TIMEOUT, True)
        for _ in range(3):
            reply = await press(system)
            assert (reply.outcome, reply.delivered) == (Outcome.UNAVAILABLE, False)
        link.thaw()
        await until_responsive(system)
        assert terminal.opened == 1
        assert (await press(system)).outcome is Outcome.OK


async def test_a_press_does_not_wait_for_the_reply_to_a_photo() -> None:
    async with over_a_link(deadline=5) as (system, _, terminal):
        await (await connection_of(system)).send(PHOTO)
        assert (await press(system)).outcome is Outcome.OK
        assert terminal.opened == 1


async def test_the_kernel_discards_unacknowledged_bytes_of_a_killed_bridge() -> None:
    # The kernel closes the sockets of a dead process with their options. Without this option it would go on delivering.
    async with over_a_link(deadline=1) as (system, _, _):
        assert send_buffer_of(await connection_of(system)).discards_at_end


@asynccontextmanager
async def on_another_host(
    tmp_path: Path, deadline: float, *, tls: bool
) -> AsyncIterator[tuple[TerminalServerUnderTest, Host, asyncio.subprocess.Process]]:
    """Run a terminal on another host, at the end of a cable."""
    async with Host().linked() as host:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        settings = issue_certificate(tmp_path, authority, host.outside)
        system = TerminalServerUnderTest(
            known_terminal("T1"), deadline=deadline, host=host.outside, tls=settings if tls else None
        )
        async with system.open():
            url = f"ws{'s' if tls else ''}://{USERNAME}:{PASSWORD}@{host.outside}:{system.server.port}/devs/"
            terminal = (sys.executable, "-m", "tests.support.terminal_process", url, "T1")
            process = await host.run("env", f"SSL_CERT_FILE={tmp_path / 'authority.pem'}", *terminal)
            try:
                await connection_of(system)
                yield system, host, process
            finally:
                if process.returncode is None:
                    process.kill()
                await process.communicate()


async def test_a_press_on_a_pulled_cable_is_withdrawn_and_never_carried_out(tmp_path: Path) -> None:
    # With TLS here; the end-to-end tests do the same without TLS.
    async with on_another_host(tmp_path, 5, tls=True) as (system, host, process):
        assert (await press(system)).outcome is Outcome.OK
        host.pull()
        began = system.clock.boottime()
        reply = await press(system)
        assert reply.outcome in (Outcome.TIMEOUT, Outcome.LOST)
        assert reply.delivered is None
        assert system.clock.boottime() - began < 5.5
        host.plug()
        # Give a press that the kernel still held time to arrive.
        await asyncio.sleep(1)
        process.terminate()
        output, _ = await process.communicate()
        assert output == b"opened 1\n"


@pytest.mark.parametrize("tls", [False, True])
async def test_a_press_whose_acknowledgement_is_lost_is_not_reported_as_withdrawn(tmp_path: Path, tls: bool) -> None:
    async with on_another_host(tmp_path, 5, tls=tls) as (system, host, process):
        await (await connection_of(system)).probe()
        await until_responsive(system)
        host.lose_outgoing()
        reply = await press(system)
        assert reply.outcome in (Outcome.TIMEOUT, Outcome.LOST)
        assert reply.delivered is None
        process.terminate()
        output, _ = await process.communicate()
        assert output == b"opened 1\n", "the terminal received it"


async def test_a_link_that_the_kernel_ends_reports_nothing_as_delivered(tmp_path: Path) -> None:
    async with on_another_host(tmp_path, 4, tls=False) as (system, host, _):
        connection = await connection_of(system)
        known = system.registry.get("T1")
        assert known is not None
        received = connection.send_urgent(b"before")
        assert received is not None
        await until(lambda: connection.delivered(received))
        host.pull()
        lost = connection.send_urgent(b"a press")
        assert lost is not None
        await until(lambda: known.connection is None)
        assert connection.delivered(received) is True
        assert connection.delivered(lost) is None
        with pytest.raises(ConnectionLostError):
            await connection.send(b"after")


@pytest.mark.parametrize(
    ("error", "timed_out"),
    [
        (TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), True),
        (OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)), True),
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), True),
        (ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), False),
        (BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), False),
        (RuntimeError(), False),
        (None, False),
    ],
)
async def test_a_time_out_of_this_kernel_is_distinguished_from_an_end_by_the_peer(
    error: BaseException | None, timed_out: bool
) -> None:
    assert has_timed_out(error) is timed_out


@pytest.mark.parametrize("tls", [False, True])
async def test_positions_count_bytes_in_every_buffer(tmp_path: Path, tls: bool) -> None:
    """This includes bytes that TLS has passed to a socket that accepts no more."""
    authority = trustme.CA()
    settings = issue_certificate(tmp_path, authority)
    async with (
        TerminalServerUnderTest(known_terminal("T1"), tls=settings if tls else None).open() as system,
        NarrowLink(system.server.port).running() as link,
    ):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        async with (
            aiohttp.ClientSession(headers={"Authorization": AUTHORIZATION}) as client,
            client.ws_connect(
                f"http{'s' if tls else ''}://127.0.0.1:{link.port}/devs/T1", ssl=context, max_msg_size=0
            ) as websocket,
        ):
            connection = await connection_of(system)
            first = connection.send_urgent(b"first")
            assert first is not None
            await until(lambda: connection.delivered(first))
            link.freeze()
            for _ in range(40):
                await connection.send(PHOTO)
            start = send_buffer_of(connection).position()
            await connection.send(b"last")
            last = WrittenFrame(start, send_buffer_of(connection).position())
            # A frame of this size has a header of 10 bytes; TLS adds bytes to every record.
            assert last.start - first.end >= 40 * (len(PHOTO) + 10)
            assert connection.delivered(last) is False
            link.thaw()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while (await websocket.receive()).data not in ("last", b"last"):
                    pass
            await until(lambda: connection.delivered(last))


async def test_positions_are_exact_while_acknowledgements_arrive() -> None:
    async with over_a_link(deadline=5) as (system, _, _):
        connection = await connection_of(system)
        before = send_buffer_of(connection).position()
        for number in range(3000):
            await connection.send(b"x" * 100)
            # Each frame has a header of two bytes.
            assert send_buffer_of(connection).position() == before + (number + 1) * 102
            if number % 50 == 0:
                await asyncio.sleep(0)
