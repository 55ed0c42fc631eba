"""A minimal WebSocket server for a simulated terminal."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy

TIMEOUT_SECONDS = 10
"""How long a test waits for a frame or connection."""


class Connection:
    """One accepted connection.

    Attributes:
        frames: the terminal's frames, control frames included; the last one is the reason of the end.
    """

    def __init__(self, sn: str, headers: CIMultiDictProxy[str], websocket: web.WebSocketResponse) -> None:
        self.sn = sn
        self.headers = headers
        self.websocket = websocket
        self.frames: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()

    async def next_frame(self, *kinds: aiohttp.WSMsgType) -> aiohttp.WSMessage:
        """Return the next frame, or the next of some kinds."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                frame = await self.frames.get()
                if not kinds or frame.type in kinds:
                    return frame

    async def ask(self, request: bytes) -> str:
        """Send a request and return the next text frame."""
        await self.websocket.send_str(request.decode())
        data: str = (await self.next_frame(aiohttp.WSMsgType.TEXT)).data
        return data


class WebSocketServer:
    """A server that accepts terminals, or refuses them.

    Attributes:
        url: the terminals' base URL.
        refusal: the HTTP status of every response to a handshake; None to accept.
        subprotocols: the supported ones.
        answers_pings: whether the server sends pongs.
        max_simultaneous: the largest number of simultaneous handshakes.
    """

    def __init__(self) -> None:
        self.url = ""
        self.refusal: int | None = None
        self.subprotocols: tuple[str, ...] = ()
        self.answers_pings = True
        self.handshake_delay = 0.0
        self.max_simultaneous = 0
        self._busy = 0
        self._accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self._open: set[web.WebSocketResponse] = set()

    async def next_connection(self) -> Connection:
        """Return the next accepted connection."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._accepted.get()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._busy += 1
        self.max_simultaneous = max(self.max_simultaneous, self._busy)
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
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[WebSocketServer]:
    """Listen on a free port of the loopback address."""
    server = WebSocketServer()
    application = web.Application()
    application.router.add_get("/devs/{sn}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024, ssl_context=tls)
    await site.start()
    server.url = f"{'ws' if tls is None else 'wss'}://127.0.0.1:{runner.addresses[0][1]}/devs/"
    try:
        yield server
    finally:
        await server.close_all()
        await runner.cleanup()
