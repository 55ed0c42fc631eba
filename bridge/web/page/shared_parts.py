"""Rendered parts of pages, shared by all who see the same, until something changes.

With a hundred open pages, each press would otherwise render the list of terminals a hundred times, and the next press
would wait for that.
"""

from collections.abc import Awaitable, Callable, Hashable

from aiohttp import web

from bridge.core.event_bus import EventBus
from bridge.model.events import (
    CommandReplied,
    Event,
    PendingChanged,
    PersonsChanged,
    PersonSettled,
    TerminalAdmitted,
    TerminalConnected,
    TerminalDisconnected,
    TerminalForgotten,
)
from bridge.web.authentication import USER
from bridge.web.page.rendering import LivePart, language_of, root_of

_MAX_PARTS = 64
"""Different parts that are kept: a few lists in two languages."""

_CHANGES: tuple[type[Event], ...] = (
    CommandReplied,
    PendingChanged,
    PersonSettled,
    PersonsChanged,
    TerminalAdmitted,
    TerminalConnected,
    TerminalDisconnected,
    TerminalForgotten,
)
"""The events that change what a list of terminals shows."""


class SharedParts:
    """The parts that were rendered since the last change."""

    def __init__(self, events: EventBus) -> None:
        self._parts: dict[Hashable, LivePart] = {}
        self._changes = 0
        for event in _CHANGES:
            events.subscribe(event, lambda _: self._changed(), name="page")

    async def get(self, request: web.Request, render: Callable[[], Awaitable[LivePart]]) -> LivePart:
        """Return the part that a request asks for; render it if something has changed.

        Args:
            request: the request; users of different roles or languages share nothing.
            render: returns the part.
        """
        key = (request.rel_url.raw_path_qs, language_of(request), root_of(request), request[USER].role)
        part = self._parts.get(key)
        if part is None:
            changes = self._changes
            part = await render()
            # After a change during the rendering, the part is outdated for later requests.
            if changes == self._changes and len(self._parts) < _MAX_PARTS:
                self._parts[key] = part
        return part

    def _changed(self) -> None:
        self._changes += 1
        self._parts.clear()
