"""The core's surroundings for tests: a clock that the test moves, and a connection that records its frames."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.ports import ConnectionLostError, WrittenFrame
from bridge.core.registry import TerminalRegistry
from bridge.model.events import Event
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import decode_request

_START_SECONDS = 1000.0
_START = datetime(2026, 11, 24, 8, tzinfo=UTC)


class ManualClock(Clock):
    """A clock that moves only when the test sets `seconds`."""

    def __init__(self) -> None:
        self.seconds = _START_SECONDS

    def boottime(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.seconds - _START_SECONDS)


class RecordingConnection:
    """A connection that records its frames and can answer each at once.

    Attributes:
        frames: the frames that were sent.
        is_delivered: what `delivered` returns.
        is_clear: whether `send_urgent` writes.
        responsive: whether a frame has arrived since `probe`.
        reservations: the number of open contexts of `reserve`.
        broken: whether `send` fails.
        resets: the reasons of its resets.
    """

    def __init__(
        self,
        registry: TerminalRegistry,
        sn: str,
        answer: Callable[[str], TerminalReply | None] = lambda msgid: TerminalReply(msgid, None, 0, "ok"),
        address: str = "192.0.2.7",
    ) -> None:
        self.sn = sn
        self.address = address
        self.connected_at = self.last_seen = _START
        self.frames: list[bytes] = []
        self.is_delivered: bool | None = True
        self.is_clear = True
        self.responsive = True
        self.reservations = 0
        self.broken = False
        self.resets: list[str] = []
        self._registry = registry
        self._answer = answer

    @property
    def commands(self) -> list[str]:
        """The names of the requests that were sent."""
        return [type(decode_request(frame)).__name__ for frame in self.frames]

    async def send(self, frame: bytes) -> None:
        self._write(frame)

    def _write(self, frame: bytes) -> None:
        if self.broken:
            raise ConnectionLostError
        self.frames.append(frame)
        reply = self._answer(decode_request(frame).msgid)
        if reply is not None:
            self._registry.received(self, reply)

    def send_urgent(self, frame: bytes) -> WrittenFrame | None:
        if not self.is_clear:
            return None
        self._write(frame)
        return WrittenFrame(len(self.frames) - 1, len(self.frames))

    @contextmanager
    def reserve(self) -> Iterator[None]:
        self.reservations += 1
        try:
            yield
        finally:
            self.reservations -= 1

    def delivered(self, written: WrittenFrame) -> bool | None:
        return self.is_delivered

    async def probe(self) -> None:
        self.responsive = False

    def reset(self, reason: str) -> None:
        self.resets.append(reason)
        self._registry.disconnected(self, reason)

    async def close(self, reason: str) -> None:
        self._registry.disconnected(self, reason)


def known_terminal(sn: str = "T1", **details: object) -> Terminal:
    """Return a terminal of the configuration."""
    return Terminal(sn=sn, origin=TerminalOrigin.CONFIGURED, **details)  # type: ignore[arg-type]  # test data


def msgids() -> Callable[[], str]:
    """Return a function that returns m1, m2, …."""
    numbers = count(1)
    return lambda: f"m{next(numbers)}"


def collect(events: EventBus, *types: type[Event]) -> list[Event]:
    """Return a list to which the events of these types are appended."""
    collected: list[Event] = []
    for event_type in types:
        events.subscribe(event_type, collected.append, name="test")
    return collected
