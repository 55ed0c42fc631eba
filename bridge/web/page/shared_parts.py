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
from bridge.web.authentication import USER, VIA_INGRESS
from bridge.web.page.assets import accepts_gzip
from bridge.web.page.rendering import language_of, root_of

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
        self._parts: dict[Hashable, tuple[bytes, dict[str, str]]] = {}
        for event in _CHANGES:
            events.subscribe(event, lambda _: self._parts.clear(), name="page")

    async def get(self, request: web.Request, render: Callable[[], Awaitable[web.Response]]) -> web.Response:
        """Return the part that a request asks for; render it if something has changed.

        Args:
            request: the request; what its user may not see is not shared.
            render: returns the response.
        """
        user = request[USER]
        key = (
            request.rel_url.raw_path_qs,
            language_of(request),
            root_of(request),
            user.role,
            request.get(VIA_INGRESS),
            accepts_gzip(request),
        )
        found = self._parts.get(key)
        if found is not None:
            body, headers = found
            return web.Response(body=body, headers=headers)
        # A change while it is rendered replaces this dictionary's content; the part would then be outdated.
        parts = self._parts
        marker = object()
        self._parts[marker] = (b"", {})
        response = await render()
        if marker in parts:
            del parts[marker]
            if len(parts) < _MAX_PARTS and isinstance(response.body, bytes):
                headers = {name: value for name, value in response.headers.items() if name not in _OWN_HEADERS}
                parts[key] = (response.body, headers)
        return response


_OWN_HEADERS = ("Content-Length", "X-Page-Clock")
"""Headers that each response has anew."""
