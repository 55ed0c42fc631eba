"""The retained summary of the bridge, `B/bridge/info` (docs/mqtt.md)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from bridge.core.services import CoreServices
from bridge.model.bridge_summary import BridgeSummary
from bridge.model.events import (
    Event,
    PendingChanged,
    PersonsChanged,
    TerminalAdmitted,
    TerminalConnected,
    TerminalDisconnected,
    TerminalForgotten,
    WarningsChanged,
)
from bridge.mqtt.retained import RetainedTopics
from bridge.mqtt.topics import Topics

_INTERVAL_SECONDS = 1.0
"""Between two publications: counting ten thousand terminals takes some milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeDescription:
    """Facts about the bridge that do not change while it runs.

    Attributes:
        version: of the bridge.
        page_url: `web.url`, where people reach its page.
    """

    version: str
    page_url: str | None


class BridgeInfo:
    """Keeps `bridge/info` in the retained topics."""

    def __init__(
        self,
        topics: Topics,
        retained: RetainedTopics,
        core: CoreServices,
        version: str,
        protocol: str,
        warnings: Callable[[], Sequence[str]],
    ) -> None:
        """Build the summary.

        Args:
            topics: the bridge's topics.
            retained: publishes the summary.
            core: counts terminals and persons.
            version: of the bridge.
            protocol: `mqtt.protocol`.
            warnings: returns the promises that do not hold at present, for people.
        """
        self._topics = topics
        self._retained = retained
        self._core = core
        self._version = version
        self._protocol = protocol
        self._warnings = warnings
        self._started_at = core.clock.now()
        self._has_changed = asyncio.Event()
        for event_type in (
            TerminalConnected,
            TerminalDisconnected,
            TerminalAdmitted,
            TerminalForgotten,
            PendingChanged,
            PersonsChanged,
            WarningsChanged,
        ):
            core.events.subscribe(event_type, self._changed, name="MQTT bridge info")

    def refresh(self) -> None:
        """Publish soon, after a change that has no event."""
        self._has_changed.set()

    def publish(self) -> None:
        """Publish the present summary."""
        self._has_changed.clear()
        self._retained.want(self._topics.bridge_info, orjson.dumps(self.summary().as_json()))

    async def run(self) -> None:
        """Publish changes until cancelled."""
        while True:
            await self._has_changed.wait()
            self.publish()
            await asyncio.sleep(_INTERVAL_SECONDS)

    def summary(self) -> BridgeSummary:
        """Return the present summary."""
        known = online = pending = refused = 0
        for terminal in self._core.registry:
            known += 1
            online += terminal.connection is not None
            counts = self._core.desired_persons.counts(terminal.terminal.sn)
            pending += counts.pending
            refused += counts.refused
        return BridgeSummary(
            version=self._version,
            started_at=self._started_at,
            protocol=self._protocol,
            known=known,
            online=online,
            waiting=[(one.sn, one.address) for one in self._core.admission.pending],
            pending=pending,
            refused=refused,
            warnings=self._warnings(),
        )

    def _changed(self, _event: Event) -> None:
        self._has_changed.set()
