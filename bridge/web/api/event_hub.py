"""Changes of the bridge as server-sent events, encoded once for all listeners."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.ports import DesiredPersons
from bridge.core.registry import TerminalRegistry
from bridge.model.bridge_summary import BridgeSummary
from bridge.model.events import (
    PUBLIC_EVENTS,
    AuditWritten,
    CommandReplied,
    GroupReplied,
    PendingChanged,
    PersonsChanged,
    PersonSettled,
    TerminalAdmitted,
    TerminalConnected,
    TerminalDisconnected,
    TerminalForgotten,
    WarningsChanged,
)
from bridge.model.origin import Origin
from bridge.model.reply import Reply, format_time
from bridge.web.api.terminals import terminal_json

EVENT_TYPES = {
    "bridge": "numbers about the whole bridge, the terminals that wait for approval, and warnings",
    "terminal": "the state of a terminal, at most once a second",
    "terminal_removed": "a terminal is not known any more",
    "persons": "persons of a terminal have changed; at most once a second",
    "reply": "a command has ended, or a person change has its final reply",
    "group_reply": "a command has ended on every member of a group",
    "log": "the log has new entries; at most once a second",
    "event": "an event as on `B/bridge/event`",
}
"""The types that a listener can choose, with their meanings. `snapshot` and `heartbeat` are always sent."""

_BATCH_SECONDS = 0.2
"""Changes of this time are encoded and sent together: with a hundred listeners, one write for each change would take
longer than the presses that cause the changes."""

_MIN_INTERVAL_SECONDS = 1.0
"""Between two states of a terminal, and of the bridge, and two notes about the log."""

_STATES_AT_ONCE = 100
"""States in one part of a snapshot: some 50 KB, so a client that reads slowly holds no more of it in the memory."""

_FRAMES_AT_ONCE = 500
"""Frames that are encoded before other tasks run: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded event.

    Attributes:
        type: of the event.
        sn: the terminal that it is about.
        data: the lines of the event.
    """

    type: str
    sn: str | None
    data: bytes


@dataclass(slots=True, eq=False)
class Listener:
    """A client that receives events.

    Attributes:
        types: the types that it receives.
        sns: the terminals whose state it receives; None for all.
        max_frames: frames that may wait for it.
        on_overflow: called when it is too slow; it receives nothing more.
    """

    types: Collection[str]
    sns: Collection[str] | None
    max_frames: int
    on_overflow: Callable[[], None]
    _waiting: deque[bytes] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _is_ended: bool = False

    def offer(self, frame: Frame) -> None:
        """Add a frame if the listener wants it."""
        if self._is_ended or (frame.type not in self.types and frame.type != "heartbeat"):
            return
        if frame.type == "terminal" and self.sns is not None and frame.sn not in self.sns:
            return
        if len(self._waiting) >= self.max_frames:
            self.end()
            self.on_overflow()
            return
        self._waiting.append(frame.data)
        self._arrived.set()

    def end(self) -> None:
        """End the stream."""
        self._is_ended = True
        self._waiting.clear()
        self._arrived.set()

    async def next(self, max_bytes: int) -> bytes | None:
        """Wait for frames; return them, up to about `max_bytes`. None: the stream has ended."""
        await self._arrived.wait()
        if self._is_ended:
            return None
        frames, size = [], 0
        while self._waiting and size < max_bytes:
            frames.append(self._waiting.popleft())
            size += len(frames[-1])
        if not self._waiting:
            self._arrived.clear()
        return b"".join(frames)


class EventHub:
    """Collects changes, and offers them to the listeners as frames."""

    def __init__(
        self,
        registry: TerminalRegistry,
        persons: DesiredPersons,
        events: EventBus,
        clock: Clock,
        summary: Callable[[], BridgeSummary],
    ) -> None:
        """Subscribe to the changes; `run` sends them.

        Args:
            registry: the known terminals.
            persons: the counts of persons.
            events: report the changes.
            clock: the time.
            summary: returns the numbers about the whole bridge.
        """
        self._registry = registry
        self._persons = persons
        self._clock = clock
        self._summary = summary
        self._listeners: dict[Listener, None] = {}
        self._has_listeners = asyncio.Event()
        self._last_id = 0
        self._changed_terminals: dict[str, None] = {}
        self._changed_persons: dict[str, None] = {}
        self._sent_at: dict[tuple[str, str], float] = {}
        self._others: list[tuple[str, str | None, Any]] = []
        self._bridge_sent: bytes = b""
        self._bridge_sent_at = 0.0
        self._bridge_changed = False
        self._log_sent_at = 0.0
        self._log_changed = False
        self._subscribe(events)

    def _subscribe(self, events: EventBus) -> None:
        name = "server-sent events"
        events.subscribe(TerminalConnected, lambda event: self._terminal_changed(event.sn), name=name)
        events.subscribe(TerminalDisconnected, lambda event: self._terminal_changed(event.sn), name=name)
        events.subscribe(TerminalAdmitted, lambda event: self._terminal_changed(event.sn), name=name)
        events.subscribe(TerminalForgotten, self._forgotten, name=name)
        events.subscribe(PersonsChanged, self._persons_changed, name=name)
        events.subscribe(PendingChanged, lambda _: self._note_bridge(), name=name)
        events.subscribe(WarningsChanged, lambda _: self._note_bridge(), name=name)
        events.subscribe(AuditWritten, lambda _: self._note_log(), name=name)
        events.subscribe(CommandReplied, lambda event: self._replied(event.reply, event.origin), name=name)
        events.subscribe(PersonSettled, lambda event: self._replied(event.reply, event.origin), name=name)
        events.subscribe(GroupReplied, lambda event: self._note("group_reply", None, event.summary), name=name)
        for public in PUBLIC_EVENTS:
            events.subscribe(public, lambda event: self._note("event", None, event), name=name)

    def __len__(self) -> int:
        return len(self._listeners)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Offer changes to a listener while the context is open."""
        self._listeners[listener] = None
        self._has_listeners.set()
        try:
            yield
        finally:
            self._listeners.pop(listener, None)
            if not self._listeners:
                self._has_listeners.clear()

    def stop(self) -> None:
        """End every stream."""
        for listener in tuple(self._listeners):
            listener.end()

    async def run(self, heartbeat_seconds: float) -> None:
        """Offer changes, and a heartbeat every `heartbeat_seconds`, until cancelled."""
        next_heartbeat = self._clock.boottime()
        while True:
            # Without listeners there is nothing to do ten times a second.
            await self._has_listeners.wait()
            await asyncio.sleep(_BATCH_SECONDS)
            await self._flush()
            if not self._listeners:
                continue
            if self._clock.boottime() >= next_heartbeat:
                next_heartbeat = self._clock.boottime() + heartbeat_seconds
                # Some changes of the bridge have no event.
                self._bridge_changed = True
                self._offer(self._frame("heartbeat", None, {"at": format_time(self._clock.now())}))

    def snapshot(self, listener: Listener, *, has_terminals: bool) -> Iterator[bytes]:
        """Yield the parts of the first event of a listener, the present state, as the listener reads them.

        Args:
            listener: the listener.
            has_terminals: whether it contains the states of the terminals that the listener receives.
        """
        summary = orjson.dumps(self._summary().as_json())
        yield b'event: snapshot\nid: %d\ndata: {"bridge":%s,"terminals":[' % (self._last_id, summary)
        chosen = self._registry if listener.sns is None else filter(None, map(self._registry.get, listener.sns))
        known = iter(chosen if has_terminals and "terminal" in listener.types else ())
        separator = b""
        while states := [orjson.dumps(terminal_json(one, self._persons)) for one in islice(known, _STATES_AT_ONCE)]:
            yield separator + b",".join(states)
            separator = b","
        yield b"]}\n\n"

    # Changes: these methods run while a press waits, so they only take note.

    def _note(self, event_type: str, sn: str | None, payload: Any) -> None:
        if self._listeners:
            self._others.append((event_type, sn, payload))

    def _note_bridge(self) -> None:
        self._bridge_changed = True

    def _note_log(self) -> None:
        self._log_changed = True

    def _terminal_changed(self, sn: str) -> None:
        self._bridge_changed = True
        if self._listeners:
            self._changed_terminals[sn] = None

    def _persons_changed(self, event: PersonsChanged) -> None:
        self._terminal_changed(event.sn)
        if self._listeners:
            self._changed_persons[event.sn] = None

    def _forgotten(self, event: TerminalForgotten) -> None:
        self._bridge_changed = True
        self._changed_terminals.pop(event.sn, None)
        self._changed_persons.pop(event.sn, None)
        for event_type in ("terminal", "persons"):
            self._sent_at.pop((event_type, event.sn), None)
        self._note("terminal_removed", event.sn, {"sn": event.sn})

    def _replied(self, reply: Reply, origin: Origin) -> None:
        self._note("reply", reply.sn, (reply, origin))
        if reply.sn is not None and self._listeners:
            self._changed_terminals[reply.sn] = None

    # Sending.

    async def _flush(self) -> None:
        if not self._listeners:
            self._others.clear()
            self._changed_terminals.clear()
            self._changed_persons.clear()
            self._sent_at.clear()
            return
        others, self._others = self._others, []
        for number, (event_type, sn, payload) in enumerate(others, start=1):
            self._offer(self._frame(event_type, sn, _payload_json(payload)))
            if number % _FRAMES_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._flush_due("terminal", self._changed_terminals, self._terminal_data)
        await self._flush_due("persons", self._changed_persons, lambda sn: {"sn": sn})
        self._flush_bridge()
        self._flush_log()

    async def _flush_due(
        self, event_type: str, changed: dict[str, None], data: Callable[[str], dict[str, Any] | None]
    ) -> None:
        now = self._clock.boottime()
        for number, sn in enumerate(tuple(changed), start=1):
            key = (event_type, sn)
            if now - self._sent_at.get(key, now - _MIN_INTERVAL_SECONDS) < _MIN_INTERVAL_SECONDS:
                continue
            changed.pop(sn, None)
            payload = data(sn)
            if payload is not None:
                self._sent_at[key] = now
                self._offer(self._frame(event_type, sn, payload))
            if number % _FRAMES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _terminal_data(self, sn: str) -> dict[str, Any] | None:
        known = self._registry.get(sn)
        return None if known is None else terminal_json(known, self._persons)

    def _flush_bridge(self) -> None:
        now = self._clock.boottime()
        if not self._bridge_changed or now - self._bridge_sent_at < _MIN_INTERVAL_SECONDS:
            return
        self._bridge_changed = False
        summary = self._summary().as_json()
        encoded = orjson.dumps(summary)
        if encoded != self._bridge_sent:
            self._bridge_sent, self._bridge_sent_at = encoded, now
            self._offer(self._frame("bridge", None, summary))

    def _flush_log(self) -> None:
        now = self._clock.boottime()
        if self._log_changed and now - self._log_sent_at >= _MIN_INTERVAL_SECONDS:
            self._log_changed, self._log_sent_at = False, now
            self._offer(self._frame("log", None, {}))

    def _frame(self, event_type: str, sn: str | None, payload: Any) -> Frame:
        self._last_id += 1
        # JSON has no line breaks, so the data are one line.
        lines = f"event: {event_type}\nid: {self._last_id}\ndata: ".encode() + orjson.dumps(payload) + b"\n\n"
        return Frame(event_type, sn, lines)

    def _offer(self, frame: Frame) -> None:
        for listener in tuple(self._listeners):
            listener.offer(frame)


def _payload_json(payload: Any) -> Any:
    if isinstance(payload, tuple):
        reply, origin = payload
        # A list of persons can be megabytes, and nothing has changed.
        shown = {key: value for key, value in reply.as_json().items() if key != "persons"}
        return {**shown, "source": origin.source, "user": origin.user}
    return payload.as_json() if not isinstance(payload, dict) else payload
