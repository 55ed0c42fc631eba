"""The retained summary of the whole bridge, `B/bridge/info` (CONTRACT, section 4)."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import orjson

from bridge.core.admission import Admission
from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonsPort
from bridge.core.registry import TerminalRegistry
from bridge.model.bridge_summary import BridgeSummary
from bridge.model.events import (
    Event,
    PendingChanged,
    PersonsChanged,
    TerminalAdmitted,
    TerminalConnected,
    TerminalDisconnected,
    TerminalForgotten,
)
from bridge.mqtt.retained import RetainedTopics
from bridge.mqtt.topics import Topics

_INTERVAL = 1.0
"""Seconds between two publications: counting ten thousand terminals takes some milliseconds."""


class BridgeInfo:
    """Keeps `bridge/info` in the retained topics."""

    def __init__(
        self,
        topics: Topics,
        retained: RetainedTopics,
        registry: TerminalRegistry,
        admission: Admission,
        person_service: PersonsPort,
        events: EventBus,
        clock: Clock,
        version: str,
        protocol: str,
        warnings: Callable[[], Sequence[str]],
    ) -> None:
        """Build the summary.

        Args:
            topics: of the bridge.
            retained: keeps it.
            registry: counts the terminals.
            admission: knows who waits for approval.
            person_service: counts the persons.
            events: tell when it may have changed.
            clock: gives `started_at`.
            version: of the bridge.
            protocol: `mqtt.protocol`.
            warnings: which promises do not hold at present, in words for people.
        """
        self._topics = topics
        self._retained = retained
        self._registry = registry
        self._admission = admission
        self._person_service = person_service
        self._version = version
        self._protocol = protocol
        self._warnings = warnings
        self._started_at: datetime = clock.now()
        self._has_changed = asyncio.Event()
        for event_type in (
            TerminalConnected,
            TerminalDisconnected,
            TerminalAdmitted,
            TerminalForgotten,
            PendingChanged,
            PersonsChanged,
        ):
            events.subscribe(event_type, self._changed, name="MQTT bridge info")

    def refresh(self) -> None:
        """Publish soon: something that no event tells has changed."""
        self._has_changed.set()

    def publish(self) -> None:
        """Put what is true now into the retained topics."""
        self._has_changed.clear()
        self._retained.want(self._topics.bridge_info, orjson.dumps(self._summary().as_json()))

    async def run(self) -> None:
        """Publish what changes until cancelled."""
        while True:
            await self._has_changed.wait()
            self.publish()
            await asyncio.sleep(_INTERVAL)

    def _changed(self, _event: Event) -> None:
        self._has_changed.set()

    def _summary(self) -> BridgeSummary:
        known = online = pending = refused = 0
        for terminal in self._registry:
            known += 1
            online += terminal.connection is not None
            counts = self._person_service.counts(terminal.terminal.sn)
            pending += counts.pending
            refused += counts.refused
        return BridgeSummary(
            version=self._version,
            started_at=self._started_at,
            protocol=self._protocol,
            known=known,
            online=online,
            waiting=[(one.sn, one.address) for one in self._admission.pending],
            pending=pending,
            refused=refused,
            warnings=self._warnings(),
        )
