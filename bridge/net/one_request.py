"""HTTP connections that parse one request at a time; its body is parsed only if a handler wants it."""

import asyncio
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from aiohttp import StreamReader
from aiohttp.web import RequestHandler, RequestPayloadError

_END_OF_HEAD = b"\r\n\r\n"

_MAX_WAITING_BYTES = 1 << 16
"""Bytes behind the head that are read while they wait. Bytes that are read do not make the close a reset, with which
the client may lose the response."""

_MAX_DISCARDED_BYTES = 4 << 20
"""Bytes that are read at most to be discarded; then the connection is closed, and the client may lose the response."""


class _State(Enum):
    HEAD = auto()
    """The end of the head has not arrived; everything is parsed."""
    WAITING = auto()
    """The rest waits for the handler."""
    PARSING = auto()
    """The rest is parsed."""
    DISCARDING = auto()
    """The rest is discarded without parsing it."""


class OneRequestConnection(RequestHandler):
    """An aiohttp connection that holds back what follows a request's head until the response is sent.

    aiohttp parses everything that arrives, also a body that no handler reads and requests behind the first one. A
    chunked body of single bytes costs 0.3 s of processor time per megabyte, which every other connection waits for.
    """

    def __init__(self, server: Any, *, max_head_bytes: int, **settings: Any) -> None:
        """Build a connection.

        Args:
            server: aiohttp's server.
            max_head_bytes: what is beyond it of a longer head is discarded.
            settings: of aiohttp's `RequestHandler`.
        """
        super().__init__(server, **settings)
        self._max_head_bytes = max_head_bytes
        self._state = _State.HEAD
        self._head_bytes = 0
        self._last_head_bytes = b""
        self._waiting = bytearray()
        self._content: StreamReader | None = None
        self._parse_bytes_left = -1
        self._held = False
        self._aiohttp_paused = False
        self._discarded_bytes = 0
        # Only a connection whose response has ended has one: an event takes 0.7 KB.
        self._discarded: asyncio.Event | None = None

    def data_received(self, data: bytes) -> None:
        """Parse, keep or discard bytes from the client."""
        if self._state is _State.HEAD and data:
            self._head_received(data)
        elif self._state is _State.WAITING and data:
            self._waiting += data
            if len(self._waiting) > _MAX_WAITING_BYTES:
                self.hold()
        elif self._state is _State.DISCARDING:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _MAX_DISCARDED_BYTES:
                self.hold()
                self._end_discarding()
        else:
            self._parse(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._end_discarding()
        super().connection_lost(exc)

    def parse_body(self, content: StreamReader, max_bytes: int) -> None:
        """Let aiohttp parse the request's body.

        Args:
            content: receives the body.
            max_bytes: bytes that are parsed at most, with the encoding of chunks; the client must wait with more.
        """
        self._content = content
        self._parse_bytes_left = max_bytes
        self.parse_rest()

    def parse_rest(self) -> None:
        """Let aiohttp parse what follows the head."""
        if self._state is not _State.WAITING:
            return
        self._state = _State.PARSING
        rest = bytes(self._waiting)
        self._waiting.clear()
        self.release()
        self._parse(rest)

    async def discard_rest(self, seconds: float) -> None:
        """End the response, then read without parsing until the client disconnects, for at most `seconds`.

        Closing a connection with unread bytes resets it, and the client loses the response.
        """
        self._state = _State.DISCARDING
        self._waiting.clear()
        self._discarded = asyncio.Event()
        if self.transport is None:
            return
        self.release()
        with suppress(OSError, RuntimeError, TimeoutError):
            if self.transport.can_write_eof():
                self.transport.write_eof()
            async with asyncio.timeout(seconds):
                await self._discarded.wait()

    def next_request(self) -> None:
        """Parse the head of another request, after the response to one without a body has been sent.

        A request that arrived before that is not answered: the connection is closed. It would have waited unnoticed,
        and a press could then open a door late.
        """
        if self._state is not _State.WAITING or self._waiting:
            self.close()
            return
        self._state = _State.HEAD
        self._head_bytes = 0
        self._last_head_bytes = b""

    @property
    def has_waiting_bytes(self) -> bool:
        """Whether bytes have arrived behind the request's head."""
        return bool(self._waiting)

    def head_began(self) -> None:
        """Do nothing; called when the first byte of a request arrives."""

    def hold(self) -> None:
        """Read nothing more from the client until `release`."""
        self._held = True
        self._pause()

    def release(self) -> None:
        """Read on after `hold`, unless aiohttp waits for a handler."""
        self._held = False
        if not self._aiohttp_paused and self.transport is not None:
            with suppress(RuntimeError):
                self.transport.resume_reading()

    def pause_reading(self) -> None:
        """Pause for aiohttp, whose handler does not keep up."""
        self._aiohttp_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on for aiohttp, unless this connection is held."""
        self._aiohttp_paused = False
        super().resume_reading(resume_parser)
        if self._held:
            self._pause()

    def _head_received(self, data: bytes) -> None:
        if not self._head_bytes:
            # RFC 9112, section 2.2: a server should ignore empty lines before a request.
            data = data.lstrip(b"\r\n")
            if data:
                self.head_began()
        seen = len(self._last_head_bytes)
        window = self._last_head_bytes + data
        found = window.find(_END_OF_HEAD)
        end = len(data) if found < 0 else found + len(_END_OF_HEAD) - seen
        head, rest = data[:end], data[end:]
        self._head_bytes += len(head)
        self._last_head_bytes = window[-(len(_END_OF_HEAD) - 1) :]
        if self._head_bytes > self._max_head_bytes:
            # Mostly a line is too long, which aiohttp answers. Otherwise the request times out.
            head = head[: len(head) - self._head_bytes + self._max_head_bytes]
            self._state = _State.DISCARDING
        elif found >= 0:
            self._state = _State.WAITING
        super().data_received(head)
        if rest:
            self.data_received(rest)

    def _parse(self, data: bytes) -> None:
        if self._parse_bytes_left >= 0:
            data, beyond = data[: self._parse_bytes_left], data[self._parse_bytes_left :]
            self._parse_bytes_left -= len(data)
            if beyond:
                self._waiting += beyond
                self.hold()
        super().data_received(data)
        if self._messages and self._content is not None and not self._content.is_eof():
            # aiohttp takes a malformed body for another, malformed request, and its handler would wait for the rest.
            self._content.set_exception(RequestPayloadError("a malformed body"))

    def _end_discarding(self) -> None:
        if self._discarded is not None:
            self._discarded.set()

    def _pause(self) -> None:
        if self.transport is not None:
            # uvloop refuses to pause a transport that is closed.
            with suppress(RuntimeError):
                self.transport.pause_reading()
