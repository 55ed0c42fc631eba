"""One connection of one terminal, from its upgrade until it is gone."""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime

from aiohttp import ClientError, WSMessage, WSMsgType
from aiohttp.web import WebSocketResponse

from bridge.core.clock import Clock
from bridge.core.ports import ConnectionLostError
from bridge.core.registry import TerminalRegistry
from bridge.model.faults import shorten
from bridge.protocol.errors import RemoteProtocolError
from bridge.protocol.replies import decode_reply, is_sign_of_life
from bridge.terminals.send_buffer import SendBuffer, was_given_up

_LOGGER = logging.getLogger(__name__)

MAXIMUM_FRAME = 64 * 1024
"""Bytes of a frame from a terminal: replies have some hundred. A longer one ends the connection (1009)."""

FRAMES_AT_ONCE = 5000
FRAMES_A_SECOND = 1000
"""Frames that are read, in a burst and in the long run: far more than a terminal has to say, and a twentieth of a
processor. One that sends more is read more slowly, so that TCP holds it back."""

_FAREWELL = 1.0
"""Seconds a terminal has to answer a close frame; the whole bridge ends within five."""

_TOLD = 3
"""Frames that are no replies, of one connection, that are worth a line in the log; all are counted."""


class Session:
    """A `Connection` of the hub; it dies with its socket and is never used again."""

    def __init__(
        self,
        websocket: WebSocketResponse,
        outgoing: SendBuffer,
        transport: asyncio.Transport,
        sn: str,
        address: str,
        registry: TerminalRegistry,
        clock: Clock,
        idle_timeout: float,
    ) -> None:
        """Take over a connection whose upgrade is done.

        Args:
            websocket: to talk over.
            outgoing: what becomes of its bytes.
            transport: below it.
            sn: the terminal.
            address: where it connects from.
            registry: told of replies and of the end.
            clock: that idleness is read from.
            idle_timeout: seconds without any frame after which the terminal counts as gone.
        """
        self.sn = sn
        self.address = address
        self.connected_at = clock.now()
        self.last_seen: datetime = self.connected_at
        self.non_replies = 0
        self._websocket = websocket
        self._outgoing = outgoing
        self._transport = transport
        self._registry = registry
        self._clock = clock
        self._idle_timeout = idle_timeout
        self._heard_at = clock.boottime()
        self._frames_left = float(FRAMES_AT_ONCE)
        self._ended = False
        self._thrown_away = False
        # However it ends, be it that this process is killed: what is not taken by then must not arrive later.
        outgoing.throw_away()

    async def send(self, frame: bytes) -> int:
        """Write a text frame; see `Connection.send`."""
        if self._ended:
            raise ConnectionLostError
        try:
            # The response was built with a limit that is never reached, so this writes before it can wait.
            await self._websocket.send_frame(frame, WSMsgType.TEXT)
        except (ClientError, OSError, RuntimeError):
            raise ConnectionLostError from None
        return self._outgoing.position()

    def acknowledged(self, position: int) -> bool | None:
        """Tell what the far side has taken; see `Connection.acknowledged`."""
        acknowledged = self._outgoing.acknowledged(position)
        # Where the other side ended it, the last bytes may have arrived without their acknowledgement.
        return None if acknowledged is False and self._ended and not self._thrown_away else acknowledged

    def reset(self, reason: str) -> None:
        """End it now and throw away what is not acknowledged; see `Connection.reset`."""
        if self._ended:
            return
        self._thrown_away = True
        self._end(reason)
        self._transport.abort()

    async def close(self, reason: str) -> None:
        """End it in order; see `Connection.close`."""
        if self._ended:
            return
        if self._outgoing.unacknowledged():
            # A farewell would leave these bytes to the kernel, which delivers them whenever it can.
            self.reset(reason)
            return
        self._outgoing.let_through()
        self._end(reason)
        with suppress(TimeoutError, ClientError, OSError):
            async with asyncio.timeout(_FAREWELL):
                await self._websocket.close(message=reason.encode()[:100])

    def lost(self, error: BaseException | None) -> None:
        """Note that the transport has ended, while its socket can still be asked."""
        self._outgoing.ended()
        given_up = was_given_up(error)
        self._thrown_away = self._thrown_away or given_up
        self._end("the link is dead" if given_up else "the connection broke")

    async def run(self) -> None:
        """Read until the connection ends."""
        reason = "closed by the bridge"
        try:
            reason = await self._read()
        finally:
            await self.close(reason)

    async def _read(self) -> str:
        while not self._ended:
            try:
                message = await self._websocket.receive(timeout=self._idle_timeout / 3)
            except TimeoutError:
                if self._clock.boottime() - self._heard_at >= self._idle_timeout:
                    self.reset(f"nothing heard for {self._idle_timeout:g} s")
                else:
                    await self._control(b"", WSMsgType.PING)
                continue
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                return "closed by the terminal"
            if message.type is WSMsgType.ERROR:
                return "closed for a frame that is too large or breaks WebSocket's rules"
            await self._take(message)
        return "ended"

    async def _take(self, message: WSMessage) -> None:
        await self._slow_down()
        self.last_seen = self._clock.now()
        if message.type is WSMsgType.PING:
            await self._control(message.data, WSMsgType.PONG)
        elif message.type is WSMsgType.TEXT:
            self._take_text(message.data)
        elif message.type is WSMsgType.BINARY:
            self._is_no_reply("a binary frame")

    def _take_text(self, frame: bytes) -> None:
        if is_sign_of_life(frame):
            return
        try:
            reply = decode_reply(frame)
        except RemoteProtocolError as error:
            self._is_no_reply(str(error))
            return
        if reply.sn is not None and reply.sn != self.sn:
            # Nobody answers for another terminal; msgids cannot be guessed, so it is a mix-up, not an attack.
            self._is_no_reply("it names another SN")
            return
        self._registry.received(self, reply)

    def _is_no_reply(self, why: str) -> None:
        self.non_replies += 1
        if self.non_replies <= _TOLD:
            _LOGGER.warning(
                "terminal %s sent a frame that is no reply: %s%s",
                self.sn,
                shorten(why, 100),
                "; further ones are only counted" if self.non_replies == _TOLD else "",
                extra={"sn": self.sn},
            )

    async def _control(self, data: bytes, kind: WSMsgType) -> None:
        with suppress(ClientError, OSError, RuntimeError):
            await self._websocket.send_frame(data, kind)

    async def _slow_down(self) -> None:
        now = self._clock.boottime()
        earned = (now - self._heard_at) * FRAMES_A_SECOND
        self._heard_at = now
        self._frames_left = min(FRAMES_AT_ONCE, self._frames_left + earned) - 1
        if self._frames_left < 0:
            await asyncio.sleep(-self._frames_left / FRAMES_A_SECOND)

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._outgoing.ended()
            self._ended = True
            self._registry.disconnected(self, reason)
