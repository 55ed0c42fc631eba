"""In-process publish/subscribe."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from bridge.model.events import Event

_LOGGER = logging.getLogger(__name__)
_E = TypeVar("_E", bound=Event)


class EventBus:
    """Calls each event's subscribers at once, in the order they subscribed; a handler that fails stops no other."""

    def __init__(self) -> None:
        self._subscribers: dict[type[Event], list[tuple[str, Callable[[Any], None]]]] = {}

    def subscribe(self, event_type: type[_E], handler: Callable[[_E], None], *, name: str) -> Callable[[], None]:
        """Call `handler` with every event of exactly this type.

        Args:
            event_type: a class of `bridge.model.events`.
            handler: must not block; it starts a task for work that takes time.
            name: the subscriber's name in the log.

        Returns:
            A function that unsubscribes.
        """
        entry = (name, handler)
        subscribers = self._subscribers.setdefault(event_type, [])
        subscribers.append(entry)

        def unsubscribe() -> None:
            if entry in subscribers:
                subscribers.remove(entry)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Call every subscriber of the event's type."""
        for name, handler in tuple(self._subscribers.get(type(event), ())):
            try:
                handler(event)
            except Exception:
                _LOGGER.exception("%s failed on %s", name, type(event).__name__)
