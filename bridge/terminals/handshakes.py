"""Connections that are not (yet) a terminal's: bounded in time and number."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

HANDSHAKE_TIMEOUT = 10.0
"""Seconds from TCP to WebSocket, TLS included (CONTRACT, section 8)."""

MAXIMUM = 4096
"""Half-open connections at once: a reconnect storm of ten thousand passes in seconds. The oldest makes room."""


class Handshakes:
    """Half-open connections by a key of the caller's."""

    def __init__(self, maximum: int = MAXIMUM, timeout: float = HANDSHAKE_TIMEOUT) -> None:
        self._maximum = maximum
        self._timeout = timeout
        self._open: OrderedDict[object, tuple[Callable[[], object], asyncio.TimerHandle]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def began(self, key: object, abort: Callable[[], object]) -> None:
        """Note a half-open connection; `abort` ends it when its time is up or others need the room."""
        timer = asyncio.get_running_loop().call_later(self._timeout, self._abort, key)
        self._open[key] = (abort, timer)
        if len(self._open) > self._maximum:
            self._abort(next(iter(self._open)))

    def ended(self, key: object) -> None:
        """Note that one has become a terminal's, or is gone."""
        entry = self._open.pop(key, None)
        if entry is not None:
            entry[1].cancel()

    def _abort(self, key: object) -> None:
        abort, timer = self._open.pop(key)
        timer.cancel()
        abort()
