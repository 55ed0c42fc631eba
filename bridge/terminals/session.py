"""One connection of one terminal, from its upgrade to its end."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from aiohttp import ClientError, WSMessage, WSMsgType
from aiohttp.web import WebSocketResponse

from bridge.core.clock import Clock, seconds_to_tick
from bridge.core.ports import ConnectionLostError, WrittenFrame
from bridge.core.registry import TerminalRegistry
from bridge.model.faults import shorten
from bridge.protocol.encoding import RemoteProtocolError
from bridge.protocol.replies import decode_reply, is_keep_alive
from bridge.terminals.authentication import PeerIdentity
from bridge.terminals.pacing import PING, PONG, TEXT
from bridge.terminals.send_buffer import SendBuffer, has_timed_out

_LOGGER = logging.getLogger(__name__)

MAX_FRAME_BYTES = 1024 * 1024
"""Largest frame from a terminal. Some firmware may send messages that the document does not know, with a picture for
example; they are dropped. A larger frame ends the connection (close code 1009)."""

MAX_REPLY_BYTES = 64 * 1024
"""Largest frame that is decoded; replies have some hundred bytes, and decoding a megabyte takes up to 50 ms."""

_MESSAGES_AT_ONCE = 32
"""Messages that are handled before other tasks run: some have arrived at once, and each takes up to 50 µs."""

_LARGE_MESSAGE_BYTES = 4096
"""After a message of this size other tasks run at once."""

_CLOSE_SECONDS = 1.0
"""How long a terminal has to answer a close frame; the whole bridge stops within five seconds."""

_LOGGED_NON_REPLIES = 3
"""Frames of one connection that are logged as no reply; further ones are only counted."""


_SHORT_PAYLOAD_BYTES = 126
"""From this size on, a header has two more bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """When a terminal counts as gone.

    Attributes:
        idle_seconds: after this time without any frame.
        last_frame_at: returns when the last frame began to arrive (`Clock.boottime`).
    """

    idle_seconds: float
    last_frame_at: Callable[[], float]


def encode_text_frame(payload: bytes) -> bytes:
    """Return an unmasked WebSocket text frame of less than 64 KiB (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < _SHORT_PAYLOAD_BYTES:
        return bytes((TEXT, size)) + payload
    return bytes((TEXT, _SHORT_PAYLOAD_BYTES)) + size.to_bytes(2, "big") + payload


class Session:
    """The core's `Connection` to a terminal; it ends with its socket and is never used again."""

    def __init__(
        self,
        websocket: WebSocketResponse,
        send_buffer: SendBuffer,
        identity: PeerIdentity,
        registry: TerminalRegistry,
        clock: Clock,
        liveness: Liveness,
    ) -> None:
        """Take over a connection after its upgrade.

        Args:
            websocket: the upgraded connection.
            send_buffer: its outgoing bytes.
            identity: the terminal.
            registry: receives the replies and the end of the connection.
            clock: measures idle time.
            liveness: when the terminal counts as gone.
        """
        self.sn = identity.sn
        self.address = identity.address
        self.connected_at = clock.now()
        self.last_seen: datetime = self.connected_at
        self.non_replies = 0
        self.responsive = True
        self.send_buffer = send_buffer
        self._websocket = websocket
        self._registry = registry
        self._clock = clock
        self._liveness = liveness
        self._ended = False
        self._silence_timer: asyncio.TimerHandle | None = None
        self._reservations = 0
        # Set when frames need no longer be held back; there is one while a frame waits for that. An event takes 0.7 KB.
        self._unreserved: asyncio.Event | None = None
        # Unacknowledged bytes must not arrive after the end, even if this process is killed.
        send_buffer.discard_at_end()

    async def send(self, frame: bytes) -> None:
        """Write a text frame; see `Connection.send`."""
        while self._reservations and not self._ended:
            if self._unreserved is None:
                self._unreserved = asyncio.Event()
            await self._unreserved.wait()
        await self._write(frame)

    def send_urgent(self, frame: bytes) -> WrittenFrame | None:
        """Write a text frame if TCP transmits it at once; see `Connection.send_urgent`."""
        if self._ended or self._websocket.closed or self.send_buffer.is_closing:
            raise ConnectionLostError
        return self.send_buffer.write_if_clear(encode_text_frame(frame))

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Hold back the frames of `send`; see `Connection.reserve`."""
        self._reservations += 1
        try:
            yield
        finally:
            self._reservations -= 1
            if not self._reservations:
                self._let_frames_pass()

    def delivered(self, written: WrittenFrame) -> bool | None:
        """Return where a frame is; see `Connection.delivered`."""
        return self.send_buffer.delivered(written)

    async def probe(self) -> None:
        """Ping the terminal; see `Connection.probe`."""
        if not self._ended:
            self.responsive = False
            self._send_control(PING, b"")

    def reset(self, reason: str) -> None:
        """End the connection now and discard unacknowledged bytes; see `Connection.reset`."""
        if self._ended:
            return
        # The kernel must not transmit anything between these two lines.
        self.send_buffer.ended()
        self.send_buffer.abort()
        self._end(reason)

    async def close(self, reason: str) -> None:
        """End the connection with a close frame; see `Connection.close`."""
        if self._ended:
            return
        if self.send_buffer.unacknowledged():
            # A close frame would leave these bytes to the kernel, which would deliver them at any later time.
            self.reset(reason)
            return
        self.send_buffer.deliver_at_end()
        self._end(reason)
        with suppress(TimeoutError, ClientError, OSError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._websocket.close(message=reason.encode()[:100])

    def lost(self, error: BaseException | None) -> None:
        """Record that the transport has ended; to be called while its socket is still open."""
        self.send_buffer.ended()
        self._end("the link is dead" if has_timed_out(error) else "the connection broke")

    async def run(self) -> None:
        """Read frames until the connection ends."""
        reason = "closed by the bridge"
        self._watch_silence()
        try:
            reason = await self._read()
        finally:
            await self.close(reason)
            # aiohttp would do this later, and keep the error.
            await self._websocket.close()
            _release_frames(self._websocket.exception())

    def _watch_silence(self) -> None:
        """Ping a terminal that is silent, and end a connection that has been silent for too long.

        One timer that looks at the last frame: a time-out of each frame took a third of the processor time of a ping.
        """
        if self._ended:
            return
        idle_seconds = self._liveness.idle_seconds
        silent_seconds = self._clock.boottime() - self._liveness.last_frame_at()
        if silent_seconds >= idle_seconds:
            self.reset(f"no frame for {idle_seconds:g} s")
            return
        pause_seconds = idle_seconds / 3
        if silent_seconds >= pause_seconds:
            self._send_control(PING, b"")
            pause_seconds = min(pause_seconds, idle_seconds - silent_seconds)
        else:
            pause_seconds -= silent_seconds
        self._silence_timer = asyncio.get_running_loop().call_later(seconds_to_tick(pause_seconds), self._watch_silence)

    async def _read(self) -> str:
        """Read frames, and return the reason of the end."""
        number = 0
        while not self._ended:
            message = await self._websocket.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                return "closed by the terminal"
            if message.type is WSMsgType.ERROR:
                _release_frames(message.data)
                return "closed because of a frame that is too large or malformed"
            await self._handle(message)
            number += 1
            if number % _MESSAGES_AT_ONCE == 0 or len(message.data) >= _LARGE_MESSAGE_BYTES:
                # `receive` does not let other tasks run while messages wait.
                await asyncio.sleep(0)
        return "ended"

    def received_single_frame(self, first_byte: int, payload: bytes) -> None:
        """Handle a message that did not pass through aiohttp."""
        if self._ended:
            return
        self.last_seen = self._clock.now()
        self.responsive = True
        if first_byte == TEXT:
            self._handle_text(payload)
        elif first_byte == PING:
            self._answer_ping(payload)

    async def _handle(self, message: WSMessage) -> None:
        self.last_seen = self._clock.now()
        self.responsive = True
        if message.type is WSMsgType.PING:
            self._answer_ping(message.data)
        elif message.type is WSMsgType.TEXT:
            self._handle_text(message.data)
        elif message.type is WSMsgType.BINARY:
            self._count_non_reply("a binary frame")

    def _answer_ping(self, payload: bytes) -> None:
        # RFC 6455, section 5.5.3, allows to answer only the latest ping. A terminal that does not read gets none.
        if not self.send_buffer.in_user_space():
            self._send_control(PONG, payload)

    def _handle_text(self, frame: bytes) -> None:
        if len(frame) > MAX_REPLY_BYTES:
            self._count_non_reply(f"{len(frame):,} bytes, a reply has at most {MAX_REPLY_BYTES:,}")
            return
        if is_keep_alive(frame):
            return
        try:
            reply = decode_reply(frame)
        except RemoteProtocolError as error:
            self._count_non_reply(str(error))
            self._registry.message_received(self, frame)
            return
        if reply.sn is not None and reply.sn != self.sn:
            # A terminal cannot guess the msgids of another one, so this is a configuration mistake and no attack.
            self._count_non_reply("it names another SN")
            return
        self._registry.received(self, reply)

    def _count_non_reply(self, reason: str) -> None:
        self.non_replies += 1
        if self.non_replies <= _LOGGED_NON_REPLIES:
            _LOGGER.warning(
                "terminal %s sent a frame that is no reply: %s%s",
                self.sn,
                shorten(reason, 100),
                "; further ones are only counted" if self.non_replies == _LOGGED_NON_REPLIES else "",
                extra={"sn": self.sn},
            )

    def _send_control(self, first_byte: int, data: bytes) -> None:
        """Write a control frame (RFC 6455, section 5.5), which has at most 125 bytes of data."""
        if not self._ended and not self._websocket.closed:
            self.send_buffer.write(bytes((first_byte, len(data))) + data)

    async def _write(self, frame: bytes) -> None:
        if self._ended:
            raise ConnectionLostError
        try:
            # `writer_limit` of the response is never reached, so this writes the frame without suspending.
            await self._websocket.send_frame(frame, WSMsgType.TEXT)
        except (ClientError, OSError, RuntimeError):
            raise ConnectionLostError from None

    def _end(self, reason: str) -> None:
        if not self._ended:
            self.send_buffer.ended()
            self._ended = True
            if self._silence_timer is not None:
                self._silence_timer.cancel()
            self._let_frames_pass()
            self._registry.disconnected(self, reason)

    def _let_frames_pass(self) -> None:
        if self._unreserved is not None:
            self._unreserved.set()
            self._unreserved = None


def _release_frames(error: BaseException | None) -> None:
    """Remove the tracebacks of an error that aiohttp keeps: their frames refer to the connection, and it to them."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
