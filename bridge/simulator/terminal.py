"""A simulated terminal: the WebSocket client of PROTOCOL, tireless and, on request, ill-mannered."""

import asyncio
import base64
import logging
import os
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Self

import aiohttp
from aiohttp import ClientWebSocketResponse, ClientWSTimeout, WSMsgType
from yarl import URL

from bridge.protocol.errors import RemoteProtocolError
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import decode_request
from bridge.simulator.behaviour import Behaviour, Drop, KeepAlive
from bridge.simulator.device import STATUS_UNREADABLE, Device, HeldPerson, ReceivedRequest, SimulatedAnswer
from bridge.simulator.frames import answer_frames, unasked_reply

_LOGGER = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT = 10.0
"""Seconds; as long as the bridge lets a handshake take (CONTRACT, section 8)."""

_CLOSE_TIMEOUT = 2.0
"""Seconds to wait for the other side's close frame; a server that is alive answers at once."""

_MISSED_PINGS = 3
"""Ping intervals without a frame after which the terminal takes the connection for dead and connects anew."""

_FLOOD_SLICE = 0.02
"""Seconds; flooding sends what is due in slices, as a timer for each of thousands of frames would not keep up."""

_MAXIMUM_DELAYED_ANSWERS = 100
"""Answers that wait for their delay; past that the terminal reads no further."""

# What the document's terminal sends besides the headers of every WebSocket handshake.
_HEADERS = {"Sec-WebSocket-Extension": "xxxx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalStatistics:
    """A snapshot of one terminal.

    Attributes:
        sn: its serial number.
        connected: whether it is connected now.
        attempts: how often it tried to connect.
        connections: how often it was connected.
        refused: how often the handshake was answered with something other than 101, or with the wrong
            sub-protocol.
        opened: how often the door was opened.
        rebooted: how often it was restarted.
        persons: how many it holds.
        requests: how many came.
        unreadable: how many frames came that were no requests.
        pongs: how many of its pings were answered.
    """

    sn: str
    connected: bool
    attempts: int
    connections: int
    refused: int
    opened: int
    rebooted: int
    persons: int
    requests: int
    unreadable: int
    pongs: int


class SimulatedTerminal:
    """One terminal.

    It lives as long as `run`: it connects, and connects again whenever it is not connected. What it holds
    (`persons`, `opened`, …) outlives its connections and its runs.

        async with terminal.running():
            await terminal.wait_connected()

    Args:
        url: what is set on a terminal, `ws://HOST:PORT/devs/`; the SN is appended. It may hold the credentials.
        sn: its serial number.
        username: its credentials, where the URL has none; without any it sends no `Authorization`.
        password: likewise.
        behaviour: its manners to begin with.
        subprotocol: offered to the server; a connection whose answer does not select it is dropped.
        ping_interval: seconds between signs of life; thrice that without a frame counts as a dead connection.
        first_retry: seconds before the first new attempt; doubled each time up to `last_retry`, and jittered.
        last_retry: likewise.
        tls: how to trust a `wss` server; None for the system's authorities.
        gate: held while connecting, to bound how many do so at once.
        randomness: where the jitter comes from.
        clock: seconds for `ReceivedRequest.at`; None for the event loop's.
    """

    def __init__(
        self,
        url: str,
        sn: str,
        *,
        username: str | None = None,
        password: str | None = None,
        behaviour: Behaviour | None = None,
        subprotocol: str | None = None,
        ping_interval: float = 30.0,
        first_retry: float = 0.5,
        last_retry: float = 30.0,
        tls: ssl.SSLContext | None = None,
        gate: asyncio.Semaphore | None = None,
        randomness: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        base = URL(url)
        self.sn = sn
        self._url = base.with_user(None) / sn
        self._headers = _HEADERS | _authorization(base.user or username, base.password or password)
        self._behaviour = behaviour or Behaviour()
        self._subprotocol = subprotocol
        self._ping_interval = ping_interval
        self._first_retry = first_retry
        self._last_retry = last_retry
        self._tls = tls
        self._gate = gate
        self._random = randomness or random.Random()  # noqa: S311 - jitter, not a secret
        self._clock = clock
        self._device = Device(sn)
        self._delayed = asyncio.Semaphore(_MAXIMUM_DELAYED_ANSWERS)
        self._websocket: ClientWebSocketResponse | None = None
        self._changed = asyncio.Event()
        self._behaviour_changed = asyncio.Event()
        self._attempts = 0
        self._connections = 0
        self._refused = 0
        self._last_refusal: int | None = None
        self._unreadable = 0
        self._pongs = 0

    @property
    def behaviour(self) -> Behaviour:
        """Its manners; what is set holds from the next request on, flood and keep-alive at once."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._behaviour_changed.set()

    @property
    def connected(self) -> bool:
        """Whether it is connected now."""
        return self._websocket is not None

    @property
    def connections(self) -> int:
        """How often it was connected."""
        return self._connections

    @property
    def last_refusal(self) -> int | None:
        """The HTTP status that answered its handshake last when that was not 101."""
        return self._last_refusal

    @property
    def persons(self) -> Mapping[str, HeldPerson]:
        """Whom it holds, by id."""
        return self._device.persons

    @property
    def opened(self) -> int:
        """How often the door was opened."""
        return self._device.opened

    @property
    def rebooted(self) -> int:
        """How often it was restarted."""
        return self._device.rebooted

    @property
    def requests(self) -> Sequence[ReceivedRequest]:
        """The latest requests that came, oldest first."""
        return self._device.requests

    def statistics(self) -> TerminalStatistics:
        """Return a snapshot."""
        return TerminalStatistics(
            sn=self.sn,
            connected=self.connected,
            attempts=self._attempts,
            connections=self._connections,
            refused=self._refused,
            opened=self._device.opened,
            rebooted=self._device.rebooted,
            persons=len(self._device.persons),
            requests=self._device.received.total(),
            unreadable=self._unreadable,
            pongs=self._pongs,
        )

    async def run(self, session: aiohttp.ClientSession | None = None) -> None:
        """Live until cancelled.

        Args:
            session: shared with other terminals; None for one of its own.
        """
        if session is not None:
            await self._stay_connected(session)
            return
        async with aiohttp.ClientSession() as own:
            await self._stay_connected(own)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Live as long as the `async with` block; a defect of the simulator itself ends the block."""
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self.run(), name=f"simulated terminal {self.sn}")
            try:
                yield self
            finally:
                life.cancel()

    async def disconnect(self, how: Drop = Drop.CLOSE) -> None:
        """End the connection, if there is one; the terminal connects again by itself."""
        if self._websocket is not None:
            await _end(self._websocket, how)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; it is looked at whenever anything about the terminal has changed."""
        while not condition():
            await self._changed.wait()

    async def wait_connected(self) -> None:
        """Wait until the terminal is connected."""
        await self.wait_until(lambda: self.connected)

    async def wait_disconnected(self) -> None:
        """Wait until the terminal is not connected."""
        await self.wait_until(lambda: not self.connected)

    async def wait_refused(self, count: int = 1) -> int | None:
        """Wait until so many handshakes have been refused in all, and return `last_refusal`."""
        await self.wait_until(lambda: self._refused >= count)
        return self._last_refusal

    async def wait_request(self, cmd: str, count: int = 1) -> ReceivedRequest:
        """Wait until so many requests of a kind have come in all, and return the latest of them.

        It has been carried out by then (if it ever is), though perhaps not answered.
        """
        await self.wait_until(lambda: self._device.received[cmd] >= count)
        return next(request for request in reversed(self._device.requests) if request.cmd == cmd)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _stay_connected(self, session: aiohttp.ClientSession) -> None:
        delay = self._first_retry
        while True:
            websocket = await self._connect(session)
            if websocket is not None:
                delay = self._first_retry
                await self._serve(websocket)
            # Jittered, so that thousands cut off together do not come back together.
            await asyncio.sleep(delay * self._random.uniform(0.5, 1.0))
            delay = min(delay * 2, self._last_retry)

    async def _connect(self, session: aiohttp.ClientSession) -> ClientWebSocketResponse | None:
        try:
            async with self._gate or nullcontext(), asyncio.timeout(_HANDSHAKE_TIMEOUT):
                self._attempts += 1
                websocket = await session.ws_connect(
                    self._url,
                    headers=self._headers,
                    origin=str(self._url.origin()).replace("ws", "http", 1),
                    protocols=() if self._subprotocol is None else (self._subprotocol,),
                    ssl=True if self._tls is None else self._tls,
                    autoping=False,
                    timeout=ClientWSTimeout(ws_close=_CLOSE_TIMEOUT),
                )
        except aiohttp.WSServerHandshakeError as error:
            self._refuse(error.status)
            return None
        except (aiohttp.ClientError, OSError) as error:
            _LOGGER.debug("no connection: %s", type(error).__name__, extra={"sn": self.sn})
            self._notify()
            return None
        if websocket.protocol != self._subprotocol:
            self._refuse(None)
            await websocket.close()
            return None
        return websocket

    def _refuse(self, status: int | None) -> None:
        _LOGGER.debug("the handshake was refused: %s", status or "wrong sub-protocol", extra={"sn": self.sn})
        self._refused += 1
        self._last_refusal = status
        self._notify()

    async def _serve(self, websocket: ClientWebSocketResponse) -> None:
        _LOGGER.debug("connected", extra={"sn": self.sn})
        self._websocket = websocket
        self._connections += 1
        self._notify()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._chatter(websocket))
                await self._receive(websocket, group)
                raise _ConnectionEndedError
        except* (_ConnectionEndedError, aiohttp.ClientError, OSError):
            pass
        finally:
            _LOGGER.debug("disconnected", extra={"sn": self.sn})
            self._websocket = None
            self._notify()
            await websocket.close()

    async def _receive(self, websocket: ClientWebSocketResponse, group: asyncio.TaskGroup) -> None:
        while True:
            # Only one who pings may expect to hear something.
            pings = self._behaviour.keep_alive is KeepAlive.PING
            patience = _MISSED_PINGS * self._ping_interval if pings else None
            message = await websocket.receive(timeout=patience)
            if message.type is WSMsgType.TEXT:
                await self._take(message.data, websocket, group)
            elif message.type is WSMsgType.PING:
                if self._behaviour.answers_pings:
                    await websocket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._pongs += 1
                self._notify()
            elif message.type is WSMsgType.BINARY:
                self._unreadable += 1
                self._notify()
            else:
                return

    async def _take(self, text: str, websocket: ClientWebSocketResponse, group: asyncio.TaskGroup) -> None:
        behaviour = self._behaviour
        try:
            request = decode_request(text)
        except RemoteProtocolError as error:
            self._unreadable += 1
            self._notify()
            if error.msgid is None:
                return
            msgid, answer = error.msgid, SimulatedAnswer(STATUS_UNREADABLE, str(error))
        else:
            received = self._device.record(request, self._now())
            if behaviour.only_for is not None and behaviour.only_for.isdisjoint(received.concerns):
                behaviour = replace(behaviour, refusal=None, drop=None)
            if behaviour.drop is not None:
                self._notify()
                await _end(websocket, behaviour.drop)
                return
            if behaviour.refusal is not None:
                answer = SimulatedAnswer(behaviour.refusal.status, behaviour.refusal.text)
            else:
                answer = self._device.carry_out(request)
            msgid = request.msgid
            self._notify()
        reply = TerminalReply(msgid=msgid, sn=self.sn, status=answer.status, message=answer.text)
        if behaviour.answer_delay > 0:
            await self._delayed.acquire()
            group.create_task(self._answer_later(reply, behaviour, websocket))
        else:
            await self._answer(reply, behaviour, websocket)

    async def _answer_later(
        self, reply: TerminalReply, behaviour: Behaviour, websocket: ClientWebSocketResponse
    ) -> None:
        try:
            await asyncio.sleep(behaviour.answer_delay)
            await self._answer(reply, behaviour, websocket)
        finally:
            self._delayed.release()

    async def _answer(self, reply: TerminalReply, behaviour: Behaviour, websocket: ClientWebSocketResponse) -> None:
        for kind, data in answer_frames(reply, behaviour):
            await websocket.send_frame(data, kind)

    async def _chatter(self, websocket: ClientWebSocketResponse) -> None:
        """Send what nobody asked for: signs of life, and floods."""
        loop = asyncio.get_running_loop()
        # The first comes at a random moment, so that a fleet's do not come all at once.
        next_sign = loop.time() + self._ping_interval * self._random.random()
        unasked, credit, before = 0, 0.0, loop.time()
        while True:
            self._behaviour_changed.clear()
            behaviour = self._behaviour
            now = loop.time()
            if now >= next_sign:
                next_sign = now + self._ping_interval
                await _send_sign_of_life(websocket, behaviour.keep_alive)
            # What a slow reader held back for more than a second is not made up for.
            credit = min(credit + (now - before) * behaviour.flood, behaviour.flood)
            before = now
            while credit >= 1:
                unasked, credit = unasked + 1, credit - 1
                kind, data = unasked_reply(self.sn, unasked)
                await websocket.send_frame(data, kind)
            pause = _FLOOD_SLICE if behaviour.flood > 0 else next_sign - loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._behaviour_changed.wait()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()


class _ConnectionEndedError(Exception):
    """Ends the tasks of a connection together with it."""


def _authorization(username: str | None, password: str | None) -> dict[str, str]:
    if username is None:
        return {}
    credentials = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


async def _send_sign_of_life(websocket: ClientWebSocketResponse, keep_alive: KeepAlive) -> None:
    match keep_alive:
        case KeepAlive.PING:
            await websocket.ping()
        case KeepAlive.TEXT:
            await websocket.send_str("ping")
        case KeepAlive.NONE:
            pass


async def _end(websocket: ClientWebSocketResponse, how: Drop) -> None:
    if how is Drop.CLOSE:
        await websocket.close()
        return
    connection: socket.socket | None = websocket.get_extra_info("socket")
    if connection is None:
        return
    # aiohttp has no abort; a second descriptor of the same connection ends it without a close frame. With no time
    # to linger the kernel throws away what was not acknowledged and resets the connection.
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        duplicate.shutdown(socket.SHUT_RDWR)
