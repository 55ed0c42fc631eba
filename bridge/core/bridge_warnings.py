"""The promises that do not hold now."""

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.model.events import WarningsChanged


class BridgeWarnings:
    """The warnings about the whole bridge, as texts for people; any part may add and remove its own while it runs."""

    def __init__(self, events: EventBus, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._texts: dict[str, str] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """The present warnings, the oldest first."""
        return tuple(self._texts.values())

    def set(self, name: str, text: str | None) -> None:
        """Add or replace a warning, and publish `WarningsChanged` if this changes anything.

        Args:
            name: of the warning, to replace and to remove it.
            text: what does not hold, and what to do; without names and photos of persons. None removes the warning.
        """
        if self._texts.get(name) == text:
            return
        if text is None:
            del self._texts[name]
        else:
            self._texts[name] = text
        self._events.publish(WarningsChanged(at=self._clock.now()))
