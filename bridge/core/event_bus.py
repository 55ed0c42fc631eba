"""In-process publish/subscribe."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bridge.model.events import Event

_LOGGER = logging.getLogger(__name__)
_E = TypeVar("_E", bound=Event)


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    name: str
    handler: Callable[[Any], None]
    urgent: bool


class EventBus:
    """Calls each event's subscribers at once; a handler that fails stops no other."""

    def __init__(self) -> None:
        # Tuples, so that `publish` needs no copy: a handler may subscribe or unsubscribe.
        self._subscriptions: dict[type[Event], tuple[_Subscription, ...]] = {}

    def subscribe(
        self, event_type: type[_E], handler: Callable[[_E], None], *, name: str, urgent: bool = False
    ) -> Callable[[], None]:
        """Call `handler` with every event of exactly this type.

        Args:
            event_type: a class of `bridge.model.events`.
            handler: must not block; it starts a task for work that takes time.
            name: the subscriber's name in the log.
            urgent: call the handler before those that are not urgent, because a client waits for it: the reply to a
                press goes out before the audit, the metrics and the log take note of it. Otherwise handlers are called
                in the order in which they subscribed.

        Returns:
            A function that unsubscribes.
        """
        added = _Subscription(name, handler, urgent)
        subscriptions = (*self._subscriptions.get(event_type, ()), added)
        self._subscriptions[event_type] = tuple(sorted(subscriptions, key=lambda one: not one.urgent))

        def unsubscribe() -> None:
            left = tuple(one for one in self._subscriptions[event_type] if one is not added)
            self._subscriptions[event_type] = left

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Call every subscriber of the event's type."""
        for subscription in self._subscriptions.get(type(event), ()):
            try:
                subscription.handler(event)
            except Exception:
                _LOGGER.exception("%s failed on %s", subscription.name, type(event).__name__)
