"""Promise 1 over HTTP: a press that waited while the bridge was stopped is not carried out late."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from tests.support.waiting import TIMEOUT_SECONDS
from tests.web.site_process import DEADLINE_SECONDS

PRESS = b"POST /api/terminals/T1/open HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def site_process() -> AsyncIterator[tuple[Process, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.web.site_process", stdin=PIPE, stdout=PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    try:
        yield process, int(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def end(process: Process) -> int:
    """Let the process end; return how many presses reached the terminal."""
    output, _ = await process.communicate(b"")
    return int(output)


Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int, *, begin: bytes = b"") -> Peer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)
    return reader, writer


async def outcome(peer: Peer) -> str:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        answer = await peer[0].read()
    peer[1].close()
    return str(orjson.loads(answer.partition(b"\r\n\r\n")[2])["outcome"])


async def press(port: int) -> str:
    return await outcome(await connect(port, begin=PRESS))


async def test_presses_that_waited_longer_than_the_deadline_are_expired() -> None:
    async with site_process() as (process, port):
        assert await press(port) == "ok"
        accepted = [await connect(port) for _ in range(5)]
        begun = [await connect(port, begin=PRESS[:20]) for _ in range(5)]
        assert await press(port) == "ok"
        process.send_signal(signal.SIGSTOP)
        queued = [await connect(port, begin=PRESS) for _ in range(100)]
        for _, writer in accepted:
            writer.write(PRESS)
        for _, writer in begun:
            writer.write(PRESS[20:])
        await asyncio.sleep(DEADLINE_SECONDS + 0.2)
        process.send_signal(signal.SIGCONT)
        outcomes = await asyncio.gather(*(outcome(peer) for peer in (*accepted, *begun, *queued)))
        assert set(outcomes) == {"expired"}
        while await press(port) != "ok":
            await asyncio.sleep(0.1)
        assert await end(process) == 3


async def test_a_short_stall_delays_no_press() -> None:
    async with site_process() as (process, port):
        process.send_signal(signal.SIGSTOP)
        queued = [await connect(port, begin=PRESS) for _ in range(20)]
        await asyncio.sleep(DEADLINE_SECONDS / 8)
        process.send_signal(signal.SIGCONT)
        assert {await outcome(peer) for peer in queued} == {"ok"}
        assert await end(process) == 20
