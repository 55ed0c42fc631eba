"""The list of terminals, one terminal, and its buttons."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from bridge.core.ports import PersonCommand
from bridge.core.registry import KnownTerminal
from bridge.model.commands import Forget, Open, Reboot, SyncPersons
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import PersonCounts, Terminal, TerminalOrigin
from bridge.web.authentication import require_role
from bridge.web.connections import arrived_at
from bridge.web.errors import RequestError
from bridge.web.logins import Role
from bridge.web.page.buttons import Buttons, UnusableButtonError
from bridge.web.page.context import PageServices
from bridge.web.page.forms import PageRouter, origin_of, read_form
from bridge.web.page.outcomes import COMMAND_NAMES, OUTCOME_NAMES, describe_outcome, tone_of
from bridge.web.page.rendering import LivePart, Renderer, is_partial, redirect
from bridge.web.page.shared_parts import SharedParts
from bridge.web.page.translations import noop

PAGE_SIZE = 50
"""Terminals on a page. A single page of 10,000 rows took 24 s on a throttled phone."""

_TERMINALS_AT_ONCE = 500
"""Terminals that are looked at, in a millisecond, before other tasks run: a press must not wait for ten thousand."""

_MAX_QUERY_CHARACTERS = 100

_LIST = "terminals.html"

STATES = {
    "": noop("All"),
    "online": noop("Online"),
    "offline": noop("Offline"),
    "pending": noop("With pending changes"),
    "refused": noop("With refused changes"),
}
"""The filters of the list."""


@dataclass(frozen=True, slots=True)
class _Action:
    """A button of a terminal: who may press it, and the words of its confirmation."""

    role: Role
    title: str
    question: str
    button: str
    busy: str
    needs_connection: bool = True
    is_dangerous: bool = False


ACTIONS = {
    "open": _Action(
        "operator", noop("Open %(name)s?"), noop("The door opens at once."), noop("Open %(name)s"), noop("Opening…")
    ),
    "reboot": _Action(
        "admin",
        noop("Restart %(name)s?"),
        noop("The terminal is offline while it restarts."),
        noop("Restart %(name)s"),
        noop("Restarting…"),
    ),
    "sync": _Action(
        "admin",
        noop("Send everything to %(name)s again?"),
        noop("The bridge sends every person of this terminal again, refused changes included."),
        noop("Send again"),
        noop("Storing…"),
        needs_connection=False,
    ),
    "clear": _Action(
        "admin",
        noop("Remove everyone from %(name)s first?"),
        noop(
            "For a device that was used elsewhere before. The terminal removes everyone, also persons that the bridge"
            " does not know. Then the bridge sends every person of this terminal again; until then no person can pass."
        ),
        noop("Remove everyone and send again"),
        noop("Storing…"),
        needs_connection=False,
        is_dangerous=True,
    ),
}


@dataclass(frozen=True, slots=True)
class TerminalRow:
    """A terminal as the list shows it."""

    sn: str
    title: str
    area: str | None
    groups: Sequence[str]
    is_online: bool
    address: str | None
    since: datetime | None
    last_seen: datetime | None
    counts: PersonCounts
    last_reply: Reply | None
    is_configured: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over all terminals."""

    known: int
    online: int
    pending: int
    refused: int


class TerminalPages:
    """Pages about terminals."""

    def __init__(self, services: PageServices, renderer: Renderer, buttons: Buttons) -> None:
        self._core = services.core
        self._renderer = renderer
        self._buttons = buttons
        self._parts = SharedParts(services.core.events)

    def add_to(self, router: PageRouter) -> None:
        """Add the routes."""
        router.get("/", self._list)
        router.get("/terminals/{sn}", self._detail)
        for name in ACTIONS:
            router.get(f"/terminals/{{sn}}/{name}", self._confirmation(name))
            router.post(f"/terminals/{{sn}}/{name}", self._press(name))
        router.get("/terminals/{sn}/result", self._result)
        router.get("/terminals/{sn}/forget", self._confirm_forget)
        router.post("/terminals/{sn}/forget", self._forget)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        state = request.query.get("state", "")
        query = request.query.get("q", "").strip()[:_MAX_QUERY_CHARACTERS]
        if state not in STATES:
            state = ""
        part = await self._parts.get(request, lambda: self._render_list(request, state, query))
        return self._renderer.page_around(request, _LIST, part, state=state, states=STATES, query=query)

    async def _render_list(self, request: web.Request, state: str, query: str) -> LivePart:
        found, totals = await self._matching(state, query.casefold())
        last = max((len(found) - 1) // PAGE_SIZE + 1, 1)
        number = min(page_number(request), last)
        values: dict[str, Any] = {
            "rows": [self.row(known) for known in found[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]],
            "totals": totals,
            "pending": self._core.admission.pending,
            "state": state,
            "query": query,
            "number": number,
            "last": last,
        }
        return self._renderer.live_part(request, _LIST, **names(), **values)

    async def _detail(self, request: web.Request) -> web.StreamResponse:
        return self._renderer.live_page(request, "terminal.html", row=self.row(self.known(request)), **names())

    def _confirmation(self, name: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            require_role(request, ACTIONS[name].role)
            row = self.row(self.known(request))
            return self._show_confirmation(request, name, row)

        return handle

    def _show_confirmation(self, request: web.Request, name: str, row: TerminalRow) -> web.Response:
        template = "_confirm.html" if is_partial(request) else "confirm.html"
        token = self._buttons.issue(f"{name} {row.sn}")
        return self._renderer.page(request, template, row=row, action=ACTIONS[name], name=name, token=token)

    def _press(self, name: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            require_role(request, ACTIONS[name].role)
            row = self.row(self.known(request))
            form = await read_form(request)
            try:
                press = self._buttons.read(f"{name} {row.sn}", form.get("token", ""), form.get("pressed", ""))
            except UnusableButtonError:
                return self._show_outcome(request, name, row, None)
            origin = origin_of(request)
            requested_at = min(arrived_at(request), press.pressed_at)
            reply = await self._buttons.run(press, lambda: self._carry_out(name, row.sn, origin, requested_at))
            if is_partial(request):
                return self._show_outcome(request, name, row, reply)
            return redirect(request, f"terminals/{row.sn}/result?button={press.token}&name={name}")

        return handle

    async def _carry_out(self, name: str, sn: str, origin: Origin, requested_at: float) -> Reply:
        if name in ("sync", "clear"):
            command = PersonCommand(change=SyncPersons(clear=name == "clear"), origin=origin, sn=sn)
            (replies,) = await self._core.persons.change([command])
            assert isinstance(replies, Sequence)
            return replies[0]
        press = Open() if name == "open" else Reboot()
        return await self._core.presses.press(sn, press, origin, requested_at)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        """Show what a button has done. Reloading the page does nothing again."""
        row = self.row(self.known(request))
        name = request.query.get("name", "")
        if name not in ACTIONS:
            raise RequestError(404, "unknown path")
        result = self._buttons.result(request.query.get("button", ""))
        return self._show_outcome(request, name, row, None if result is None else await result)

    def _show_outcome(self, request: web.Request, name: str, row: TerminalRow, reply: Reply | None) -> web.Response:
        template = "_outcome.html" if is_partial(request) else "outcome.html"
        outcome = None if reply is None or reply.sn != row.sn else describe_outcome(reply)
        return self._renderer.page(request, template, row=row, name=name, reply=reply, outcome=outcome)

    async def _confirm_forget(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        return self._renderer.page(request, "forget.html", row=self.row(self.known(request)), message=None)

    async def _forget(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        row = self.row(self.known(request))
        await read_form(request)
        origin = origin_of(request)
        reply = await self._core.admission.forget(Forget(sn=row.sn), origin)
        if reply.outcome is Outcome.OK and reply.message is None:
            return redirect(request, "")
        return self._renderer.page(request, "forget.html", row=row, message=reply.message)

    def known(self, request: web.Request) -> KnownTerminal:
        """Return the terminal in a request's path. Raises RequestError."""
        known = self._core.registry.get(request.match_info["sn"])
        if known is None:
            raise RequestError(404, noop("This terminal is not known."), path="sn")
        return known

    def row(self, known: KnownTerminal) -> TerminalRow:
        """Return a terminal as pages show it."""
        connection, terminal = known.connection, known.terminal
        return TerminalRow(
            sn=terminal.sn,
            title=terminal.title,
            area=terminal.area,
            groups=terminal.groups,
            is_online=connection is not None,
            address=None if connection is None else connection.address,
            since=known.last_seen if connection is None else connection.connected_at,
            last_seen=known.last_seen,
            counts=self._core.desired_persons.counts(terminal.sn),
            last_reply=known.last_reply,
            is_configured=terminal.origin is TerminalOrigin.CONFIGURED,
        )

    async def _matching(self, state: str, query: str) -> tuple[Sequence[KnownTerminal], Totals]:
        """Return the terminals that a filter and a search text select, by name, and counts over all terminals."""
        found = []
        number = online = pending = refused = 0
        for number, known in enumerate(self._core.registry, 1):
            counts = self._core.desired_persons.counts(known.terminal.sn)
            is_online = known.connection is not None
            online += is_online
            pending += counts.pending
            refused += counts.refused
            if _has(state, is_online, counts) and _contains(known.terminal, query):
                found.append((known.terminal.title.casefold(), known.terminal.sn, known))
            if number % _TERMINALS_AT_ONCE == 0:
                await asyncio.sleep(0)
        # No two have the same SN, so the objects themselves are never compared.
        found.sort()
        return [known for _, _, known in found], Totals(number, online, pending, refused)


def page_number(request: web.Request) -> int:
    """Return the number of the page that a request asks for, at least 1."""
    text = request.query.get("page", "1")
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def names() -> dict[str, Any]:
    """Return what templates need to show replies."""
    return {"command_names": COMMAND_NAMES, "outcome_names": OUTCOME_NAMES, "tone_of": tone_of}


def _has(state: str, is_online: bool, counts: PersonCounts) -> bool:
    if state in ("online", "offline"):
        return is_online == (state == "online")
    if state in ("pending", "refused"):
        return bool(counts.pending if state == "pending" else counts.refused)
    return True


def _contains(terminal: Terminal, query: str) -> bool:
    if not query:
        return True
    return any(
        query in text.casefold() for text in (terminal.title, terminal.sn, terminal.area or "", *terminal.groups)
    )
