"""Terminals that answer `ok` to every frame without reading it, in a process of their own.

A simulated terminal checks a `setPerson` strictly: 2.6 ms for a photo of 100 KB, as much as the bridge needs for it. A
hundred of them on the same machine would dominate the measurement. These terminals need 0.2 ms.

`python -m benchmarks.quick_terminals HOST PORT SN …` prints a line when all are connected. It ends when its standard
input ends, and therefore with the process that started it.
"""

import asyncio
import base64
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import uvloop

_AUTHORIZATION = base64.b64encode(b"dev:123").decode()
_MSGID = re.compile(rb'\{"msgid":"([^"]+)","sn":"([^"]+)"')
_FIN = 0x80
_MASKED = 0x80
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class _QuickTerminal(asyncio.Protocol):
    """A WebSocket connection (RFC 6455) with a masking key of 0, which leaves the payload unchanged."""

    def __init__(self, sn: str) -> None:
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sn = sn
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(
            f"GET /devs/{self._sn} HTTP/1.1\r\nHost: bridge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
            f"Authorization: Basic {_AUTHORIZATION}\r\n\r\n".encode()
        )

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_exception(RuntimeError(f"terminal {self._sn}: the bridge closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.connected.done():
            head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.connected.set_exception(RuntimeError(f"terminal {self._sn}: the bridge answered {head[:40]!r}"))
                return
            self._buffer = bytearray(rest)
            self.connected.set_result(None)
        while (start_and_end := _payload(self._buffer)) is not None:
            start, end_of_frame = start_and_end
            self._handle(self._buffer[0] & 0x0F, start, end_of_frame)
            del self._buffer[:end_of_frame]

    def _handle(self, opcode: int, start: int, end: int) -> None:
        if opcode == _TEXT:
            request = _MSGID.match(self._buffer, start)
            assert request is not None, bytes(self._buffer[start : start + 200])
            self._send(
                _TEXT, rb'{"msgid":"%b","sn":"%b","cmd":"","msg":"{\"status\":0,\"msg\":\"ok\"}"}' % request.groups()
            )
        elif opcode == _PING:
            self._send(_PONG, bytes(self._buffer[start:end]))
        elif opcode == _CLOSE and self._transport is not None:
            self._transport.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        length = len(payload)
        head = (
            bytes([_FIN | opcode, _MASKED | length])
            if length < 126
            else bytes([_FIN | opcode, _MASKED | 126]) + length.to_bytes(2)
        )
        self._transport.write(head + bytes(4) + payload)


def _payload(buffer: bytearray) -> tuple[int, int] | None:
    """Return the start and end of the first frame's payload; None if the frame is incomplete."""
    if len(buffer) < 2:
        return None
    length, start = buffer[1], 2
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(buffer) < start:
            return None
        length = int.from_bytes(buffer[2:start])
    return (start, start + length) if len(buffer) >= start + length else None


@asynccontextmanager
async def quick_terminals(port: int, sns: Sequence[str]) -> AsyncIterator[int]:
    """Connect terminals to a bridge on this machine as long as the block lasts; return the id of their process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.quick_terminals", "127.0.0.1", str(port), *sns,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not await process.stdout.readline():
            raise RuntimeError("the terminals did not connect")
        yield process.pid
    finally:
        process.stdin.close()
        await process.wait()


async def main(host: str, port: int, sns: Sequence[str]) -> None:
    """Connect the terminals, and keep them connected until the standard input ends."""
    loop = asyncio.get_running_loop()
    for sn in sns:
        _, terminal = await loop.create_connection(partial(_QuickTerminal, sn), host, port)
        await terminal.connected
    print("connected", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: ended.set() if not os.read(sys.stdin.fileno(), 1) else None)
    await ended.wait()


if __name__ == "__main__":
    # Ctrl-C sends SIGINT to this process too; it ends when the process that started it closes its standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
