"""Each terminal's retained availability and state, rate limited (docs/mqtt.md)."""

import asyncio
import math
from collections import OrderedDict

import orjson

from bridge.core.clock import TICK_SECONDS, Clock, sleep_ticks
from bridge.core.event_bus import EventBus
from bridge.core.ports import DesiredPersons
from bridge.core.registry import TerminalRegistry
from bridge.core.terminal_state import terminal_state
from bridge.model.events import (
    CommandReplied,
    PersonsChanged,
    PersonSettled,
    TerminalAdmitted,
    TerminalConnected,
    TerminalDisconnected,
    TerminalForgotten,
)
from bridge.mqtt.retained import RetainedTopics
from bridge.mqtt.topics import Topics

ONLINE = b"online"
OFFLINE = b"offline"

_MIN_INTERVAL_SECONDS = 1.0
_LAST_SEEN_INTERVAL_SECONDS = 60.0
"""Between two states of a terminal; the second if only `last_seen` has changed (docs/mqtt.md)."""

_TICKS = 2
"""Between two searches for due states (`TICK_SECONDS`): a state is at most this late."""

_LAST_SEEN_TICKS = 10
"""The same for states in which only `last_seen` has changed. With 1,000 terminals 17 are due; they share the wake-ups
for their acknowledgements."""

_LAST_SEEN_SPREAD_SECONDS = 15.0
"""Ten thousand terminals that connected together are due together: their states are spread over this time, and stay
spread a minute later. Published at once, they would take a second of processor time each minute."""

_BATCH_TERMINALS = 100
"""Terminals handled before other tasks may run: about a millisecond."""


class TerminalStates:
    """Keeps availability and state of every known terminal in the retained topics."""

    def __init__(
        self,
        topics: Topics,
        retained: RetainedTopics,
        registry: TerminalRegistry,
        desired_persons: DesiredPersons,
        events: EventBus,
        clock: Clock,
    ) -> None:
        self._topics = topics
        self._retained = retained
        self._registry = registry
        self._desired_persons = desired_persons
        self._clock = clock
        self._closing = False
        self._changed: dict[str, None] = {}
        # When each terminal's state was last published, the oldest first.
        self._published_at: OrderedDict[str, float] = OrderedDict()
        # A hash of what was published of each terminal, without `last_seen`.
        self._published: dict[str, int] = {}
        name = "MQTT state"
        events.subscribe(TerminalConnected, lambda event: self._connection_changed(event.sn), name=name)
        events.subscribe(TerminalDisconnected, lambda event: self._connection_changed(event.sn), name=name)
        events.subscribe(TerminalAdmitted, lambda event: self._connection_changed(event.sn), name=name)
        events.subscribe(TerminalForgotten, self._forgotten, name=name)
        events.subscribe(PersonsChanged, lambda event: self._state_changed(event.sn), name=name)
        events.subscribe(CommandReplied, self._replied, name=name)
        events.subscribe(PersonSettled, lambda event: self._state_changed(event.reply.sn), name=name)

    async def start(self) -> None:
        """Set availability and state of every known terminal; those that are not connected are `offline`."""
        for position, known in enumerate(self._registry):
            self._connection_changed(known.terminal.sn)
            if position % _BATCH_TERMINALS == 0:
                await asyncio.sleep(0)

    def stop(self) -> None:
        """Set every terminal to `offline`, and ignore later changes."""
        self._closing = True
        for known in self._registry:
            self._retained.want(self._topics.terminal_availability(known.terminal.sn), OFFLINE)

    async def run(self) -> None:
        """Publish due states until cancelled."""
        ticks = 0
        while True:
            await sleep_ticks(_TICKS)
            await self.publish_changed()
            ticks += _TICKS
            if ticks >= _LAST_SEEN_TICKS:
                ticks = 0
                self.publish_last_seen()

    async def publish_changed(self) -> None:
        """Publish delayed changes."""
        now = self._clock.boottime()
        for position, sn in enumerate(tuple(self._changed)):
            if now - self._published_at.get(sn, now - _MIN_INTERVAL_SECONDS) >= _MIN_INTERVAL_SECONDS:
                self._publish(sn)
            if position % _BATCH_TERMINALS == _BATCH_TERMINALS - 1:
                await asyncio.sleep(0)

    def publish_last_seen(self) -> None:
        """Publish the oldest states, a minute after they were published, even if only `last_seen` has changed."""
        now = self._clock.boottime()
        share = _LAST_SEEN_TICKS * TICK_SECONDS / _LAST_SEEN_SPREAD_SECONDS
        for _ in range(math.ceil(len(self._published_at) * share)):
            sn, published_at = next(iter(self._published_at.items()))
            if now - published_at < _LAST_SEEN_INTERVAL_SECONDS:
                break
            self._publish(sn, last_seen_only=True)

    def _connection_changed(self, sn: str) -> None:
        known = self._registry.get(sn)
        if known is None or self._closing:
            return
        availability = ONLINE if known.connection is not None else OFFLINE
        self._retained.want(self._topics.terminal_availability(sn), availability)
        self._state_changed(sn)

    def _replied(self, event: CommandReplied) -> None:
        # Only a note: the state is encoded at the next tick, not between a terminal's answer and the reply to a press.
        sn = event.reply.sn
        if sn is not None and not self._closing:
            self._changed[sn] = None

    def _state_changed(self, sn: str | None) -> None:
        if sn is None or sn not in self._registry or self._closing:
            return
        published_at = self._published_at.get(sn)
        if published_at is None or self._clock.boottime() - published_at >= _MIN_INTERVAL_SECONDS:
            self._publish(sn)
        else:
            self._changed[sn] = None

    def _publish(self, sn: str, *, last_seen_only: bool = False) -> None:
        self._changed.pop(sn, None)
        known = self._registry.get(sn)
        if known is None or self._closing:
            self._published_at.pop(sn, None)
            return
        state = terminal_state(known, self._desired_persons.counts(sn))
        encoded = orjson.dumps(state)
        if not last_seen_only:
            state["last_seen"] = None
            without_last_seen = hash(orjson.dumps(state))
            if self._published.get(sn) == without_last_seen:
                return
            self._published[sn] = without_last_seen
        self._published_at[sn] = self._clock.boottime()
        self._published_at.move_to_end(sn)
        self._retained.want(self._topics.terminal_state(sn), encoded)

    def _forgotten(self, event: TerminalForgotten) -> None:
        self._changed.pop(event.sn, None)
        self._published.pop(event.sn, None)
        self._published_at.pop(event.sn, None)
        self._retained.clear(self._topics.terminal_availability(event.sn))
        self._retained.clear(self._topics.terminal_state(event.sn))
