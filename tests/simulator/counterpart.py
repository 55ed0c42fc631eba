"""The least of a server, so that a simulated terminal has somebody to talk to."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy

PATIENCE = 10
"""Seconds that a test waits for what must come."""


class Connection:
    """One accepted connection.

    Attributes:
        frames: what the terminal sent, control frames among them, and last of all why it ended.
    """

    def __init__(self, sn: str, headers: CIMultiDictProxy[str], websocket: web.WebSocketResponse) -> None:
        self.sn = sn
        self.headers = headers
        self.websocket = websocket
        self.frames: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()

    async def next_frame(self, *kinds: aiohttp.WSMsgType) -> aiohttp.WSMessage:
        """Return the next frame, the next of these kinds if any are named."""
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self.frames.get()
                if not kinds or frame.type in kinds:
                    return frame

    async def ask(self, request: bytes) -> str:
        """Send a request and return the next text frame."""
        await self.websocket.send_str(request.decode())
        data: str = (await self.next_frame(aiohttp.WSMsgType.TEXT)).data
        return data


class Counterpart:
    """Accepts terminals, or refuses them.

    Attributes:
        url: the base URL that a terminal is given.
        refusal: the HTTP status that answers every handshake; None to accept.
        subprotocols: those the server speaks.
        answers_pings: whether pongs are sent.
        busiest: how many handshakes were being answered at the same time at most.
    """

    def __init__(self) -> None:
        self.url = ""
        self.refusal: int | None = None
        self.subprotocols: tuple[str, ...] = ()
        self.answers_pings = True
        self.handshake_delay = 0.0
        self.busiest = 0
        self._busy = 0
        self._accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self._open: set[web.WebSocketResponse] = set()

    async def next_connection(self) -> Connection:
        """Return the next connection accepted."""
        async with asyncio.timeout(PATIENCE):
            return await self._accepted.get()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            if self.handshake_delay:
                await asyncio.sleep(self.handshake_delay)
            if self.refusal is not None:
                return web.Response(status=self.refusal)
            websocket = web.WebSocketResponse(protocols=self.subprotocols, autoping=False, max_msg_size=0, timeout=0.2)
            await websocket.prepare(request)
        finally:
            self._busy -= 1
        self._open.add(websocket)
        connection = Connection(request.match_info["sn"], request.headers, websocket)
        self._accepted.put_nowait(connection)
        while True:
            frame = await websocket.receive()
            connection.frames.put_nowait(frame)
            if frame.type is aiohttp.WSMsgType.PING and self.answers_pings:
                await websocket.pong(frame.data)
            if frame.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            ):
                self._open.discard(websocket)
                return websocket

    async def close_all(self) -> None:
        for websocket in list(self._open):
            await websocket.close()


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Counterpart]:
    """Serve on a free port of the loopback address."""
    counterpart = Counterpart()
    application = web.Application()
    application.router.add_get("/devs/{sn}", counterpart.handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024, ssl_context=tls)
    await site.start()
    counterpart.url = f"{'ws' if tls is None else 'wss'}://127.0.0.1:{runner.addresses[0][1]}/devs/"
    try:
        yield counterpart
    finally:
        await counterpart.close_all()
        await runner.cleanup()
