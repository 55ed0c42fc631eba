"""A simulated terminal: a WebSocket client that behaves as docs/protocol.md says, or badly on request."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Self

import aiohttp
from aiohttp import ClientWebSocketResponse, WSMsgType

from bridge.protocol.encoding import RemoteProtocolError
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import decode_request
from bridge.simulator.behaviour import Behaviour, Drop, KeepAlive, pass_message, reply_frames, unrequested_reply
from bridge.simulator.client import (
    ConnectionOptions,
    HandshakeRefusedError,
    TerminalClient,
    end_connection,
    failure_reason,
    send_sign_of_life,
)
from bridge.simulator.device import STATUS_UNREADABLE, Device, HeldPerson, ReceivedRequest, SimulatedAnswer

_LOGGER = logging.getLogger(__name__)

_MISSED_PINGS = 3
"""Ping intervals without a frame after which the terminal considers the connection dead and reconnects."""

_FLOOD_TICK_SECONDS = 0.02
"""A flood is sent in batches: a timer for each of thousands of frames would be too slow."""

_MAX_DELAYED_ANSWERS = 100
"""Replies that may wait for `Behaviour.answer_delay`; with more the terminal stops to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalStatistics:
    """A snapshot of one terminal.

    Attributes:
        sn: the serial number.
        connected: whether the terminal is connected.
        attempts: attempts to connect.
        connections: successful attempts.
        refused: handshakes with another response than 101, or with the wrong sub-protocol.
        opened: how often the door was opened.
        rebooted: how often the terminal was restarted.
        persons: persons that the terminal holds.
        requests: requests that it received.
        unreadable: frames that it received and that were no requests.
        pongs: answers to its pings.
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
    """A terminal that connects, and reconnects, while it runs.

        async with SimulatedTerminal("ws://dev:123@127.0.0.1:8765/devs/", "T1").running() as terminal:
            await terminal.wait_connected()

    What it holds and has counted outlives its connections.

    Args:
        url: the server's base URL, such as `ws://user:password@host:8765/devs/`; the SN is appended.
        sn: the serial number.
        options: of the connection.
        behaviour: at the start.
        randomness: for the times of retries and pings.
        clock: returns the seconds for `ReceivedRequest.at`; None for the event loop's clock.
    """

    def __init__(
        self,
        url: str,
        sn: str,
        *,
        options: ConnectionOptions | None = None,
        behaviour: Behaviour | None = None,
        randomness: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.sn = sn
        self._options = options or ConnectionOptions()
        self._client = TerminalClient(url, sn, self._options)
        self._behaviour = behaviour or Behaviour()
        self._random = randomness or random.Random()  # noqa: S311 - jitter, not a secret
        self._clock = clock
        self._device = Device(sn)
        self._delayed = asyncio.Semaphore(_MAX_DELAYED_ANSWERS)
        self._websocket: ClientWebSocketResponse | None = None
        self._changed = asyncio.Event()
        self._behaviour_changed = asyncio.Event()
        self._connections = 0
        self._refused = 0
        self._last_refusal: int | None = None
        self._failure: str | None = None
        self._unreadable = 0
        self._pongs = 0

    @property
    def behaviour(self) -> Behaviour:
        """The behaviour; a new one applies from the next request on, for floods and signs of life at once."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._behaviour_changed.set()

    @property
    def connected(self) -> bool:
        """Whether the terminal is connected."""
        return self._websocket is not None

    @property
    def failure(self) -> str | None:
        """Why the last attempt to connect failed, for people; None if it has not failed."""
        return self._failure

    @property
    def connections(self) -> int:
        """How many connections there were."""
        return self._connections

    @property
    def persons(self) -> Mapping[str, HeldPerson]:
        """The persons that the terminal holds, by id."""
        return self._device.persons

    @property
    def opened(self) -> int:
        """How often the door was opened."""
        return self._device.opened

    @property
    def rebooted(self) -> int:
        """How often the terminal was restarted."""
        return self._device.rebooted

    @property
    def requests(self) -> Sequence[ReceivedRequest]:
        """The latest requests, oldest first."""
        return self._device.requests

    def statistics(self) -> TerminalStatistics:
        """Return a snapshot."""
        return TerminalStatistics(
            sn=self.sn,
            connected=self.connected,
            attempts=self._client.attempts,
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
        """Run until cancelled.

        Args:
            session: shared with other terminals; None for a new one.
        """
        if session is not None:
            await self._stay_connected(session)
            return
        async with aiohttp.ClientSession() as own:
            await self._stay_connected(own)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run during the `async with` block; an unexpected error of the simulator ends the block."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.run(), name=f"simulated terminal {self.sn}")
            try:
                yield self
            finally:
                running.cancel()

    async def disconnect(self, how: Drop = Drop.CLOSE) -> None:
        """End the connection, if there is one; the terminal then reconnects."""
        if self._websocket is not None:
            await end_connection(self._websocket, how)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true; it is checked after every change of the terminal."""
        while not condition():
            await self._changed.wait()

    async def wait_connected(self) -> None:
        """Wait until the terminal is connected."""
        await self.wait_until(lambda: self.connected)

    async def wait_refused(self, count: int = 1) -> int | None:
        """Wait until `count` handshakes were refused in total.

        Returns:
            The HTTP status of the last refused handshake; None for a wrong sub-protocol.
        """
        await self.wait_until(lambda: self._refused >= count)
        return self._last_refusal

    async def wait_request(self, cmd: str, count: int = 1) -> ReceivedRequest:
        """Wait until `count` requests with this `cmd` were received in total, and return the latest of them.

        The terminal has carried out the request by then (if it does so at all), but may not have replied yet.
        """
        await self.wait_until(lambda: self._device.received[cmd] >= count)
        return next(request for request in reversed(self._device.requests) if request.cmd == cmd)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _stay_connected(self, session: aiohttp.ClientSession) -> None:
        delay = self._options.first_retry_seconds
        while True:
            websocket = await self._connect(session)
            if websocket is not None:
                delay = self._options.first_retry_seconds
                await self._serve(websocket)
            # A random delay, so that thousands of terminals do not reconnect at the same time.
            await asyncio.sleep(delay * self._random.uniform(0.5, 1.0))
            delay = min(delay * 2, self._options.max_retry_seconds)

    async def _connect(self, session: aiohttp.ClientSession) -> ClientWebSocketResponse | None:
        try:
            websocket = await self._client.connect(session)
        except HandshakeRefusedError as error:
            self._refused += 1
            self._last_refusal = error.status
            self._failure = failure_reason(error, self._client.url)
        except (aiohttp.ClientError, OSError) as error:
            self._failure = failure_reason(error, self._client.url)
        else:
            self._failure = None
            return websocket
        _LOGGER.debug("no connection: %s", self._failure, extra={"sn": self.sn})
        self._notify()
        return None

    async def _serve(self, websocket: ClientWebSocketResponse) -> None:
        _LOGGER.debug("connected", extra={"sn": self.sn})
        self._websocket = websocket
        self._connections += 1
        self._notify()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_unrequested(websocket))
                await self._receive(websocket, group)
                raise _ConnectionEndedError
        except* (_ConnectionEndedError, aiohttp.ClientError, OSError):
            pass
        finally:
            _LOGGER.debug("disconnected", extra={"sn": self.sn})
            self._websocket = None
            self._notify()
            await websocket.close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # A task group drops a cancellation that arrives while it ends with an error (Python 3.11 and 3.12).
            raise asyncio.CancelledError

    async def _receive(self, websocket: ClientWebSocketResponse, group: asyncio.TaskGroup) -> None:
        while True:
            # Without pings the terminal cannot expect any frame.
            pings = self._behaviour.keep_alive is KeepAlive.PING
            timeout = _MISSED_PINGS * self._options.ping_seconds if pings else None
            message = await websocket.receive(timeout=timeout)
            if message.type is WSMsgType.TEXT:
                await self._handle_text(message.data, websocket, group)
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

    async def _handle_text(self, text: str, websocket: ClientWebSocketResponse, group: asyncio.TaskGroup) -> None:
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
                await end_connection(websocket, behaviour.drop)
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
            group.create_task(self._reply_later(reply, behaviour, websocket))
        else:
            await self._reply(reply, behaviour, websocket)

    async def _reply_later(
        self, reply: TerminalReply, behaviour: Behaviour, websocket: ClientWebSocketResponse
    ) -> None:
        try:
            await asyncio.sleep(behaviour.answer_delay)
            await self._reply(reply, behaviour, websocket)
        finally:
            self._delayed.release()

    async def _reply(self, reply: TerminalReply, behaviour: Behaviour, websocket: ClientWebSocketResponse) -> None:
        for kind, data in reply_frames(reply, behaviour):
            await websocket.send_frame(data, kind)

    async def _send_unrequested(self, websocket: ClientWebSocketResponse) -> None:
        """Send signs of life, floods and passes."""
        loop = asyncio.get_running_loop()
        # The first sign of life has a random time, so that those of a fleet are spread.
        next_sign_at = loop.time() + self._options.ping_seconds * self._random.random()
        number, credit, before = 0, 0.0, loop.time()
        passes, passed_at = 0, loop.time()
        while True:
            self._behaviour_changed.clear()
            behaviour = self._behaviour
            now = loop.time()
            if now >= next_sign_at:
                next_sign_at = now + self._options.ping_seconds
                await send_sign_of_life(websocket, behaviour.keep_alive)
            # Frames that a slow reader has delayed by more than a second are not sent later.
            credit = min(credit + (now - before) * behaviour.flood, behaviour.flood)
            before = now
            while credit >= 1:
                number, credit = number + 1, credit - 1
                kind, data = unrequested_reply(self.sn, number)
                await websocket.send_frame(data, kind)
            if behaviour.pass_seconds > 0 and now >= passed_at + behaviour.pass_seconds:
                passed_at, passes = now, passes + 1
                kind, data = pass_message(self.sn, passes, sorted(self._device.persons))
                await websocket.send_frame(data, kind)
            pause = _FLOOD_TICK_SECONDS if behaviour.flood > 0 else next_sign_at - loop.time()
            if behaviour.pass_seconds > 0:
                pause = min(pause, passed_at + behaviour.pass_seconds - loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._behaviour_changed.wait()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()


class _ConnectionEndedError(Exception):
    """Ends the tasks of a connection when the connection has ended."""
