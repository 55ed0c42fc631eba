"""Terminals that wait for approval, and the page for a terminal's first connection."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import segno
from aiohttp import web

from bridge.core.commands import ADMIT
from bridge.model.commands import Admit, Forget
from bridge.model.faults import InvalidError
from bridge.model.names import is_serial_number
from bridge.model.reply import Outcome
from bridge.net.passwords import is_hash
from bridge.web.authentication import require_role
from bridge.web.errors import RequestError
from bridge.web.page.context import PageServices
from bridge.web.page.forms import PageRouter, origin_of, read_form
from bridge.web.page.rendering import Renderer, redirect
from bridge.web.page.translations import noop
from bridge.web.same_origin import host_of

_SHOWN_CONNECTED = 5
"""Terminals that the page of the first connection names, the newest first."""


class PendingPages:
    """Pages for approving, refusing, editing and connecting terminals."""

    def __init__(self, services: PageServices, renderer: Renderer) -> None:
        self._core = services.core
        self._access = services.terminal_access
        self._renderer = renderer

    def add_to(self, router: PageRouter) -> None:
        """Add the routes."""
        router.get("/pending/{sn}", self._show)
        router.post("/pending/{sn}", self._approve)
        router.post("/pending/{sn}/refuse", self._refuse)
        router.get("/terminals/{sn}/edit", self._edit)
        router.post("/terminals/{sn}/edit", self._save)
        router.get("/connect", self._connect)
        router.post("/connect", self._reveal)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        return self._form(request, self._pending_sn(request), {}, {})

    async def _approve(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        return await self._admit(request, self._pending_sn(request), is_new=True)

    async def _refuse(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        await read_form(request)
        sn = _serial_number(request)
        origin = origin_of(request)
        # It was handled meanwhile if it is known now: only a waiting terminal is refused here.
        if sn not in self._core.registry:
            await self._core.admission.forget(Forget(sn=sn), origin)
        return redirect(request, "")

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        known = self._core.registry.get(_serial_number(request))
        if known is None:
            raise RequestError(404, noop("This terminal is not known."))
        terminal = known.terminal
        values = {"name": terminal.name or "", "area": terminal.area or "", "groups": ", ".join(terminal.groups)}
        return self._form(request, terminal.sn, values, {}, is_new=False)

    async def _save(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        sn = _serial_number(request)
        if sn not in self._core.registry:
            raise RequestError(404, noop("This terminal is not known."))
        return await self._admit(request, sn, is_new=False)

    async def _admit(self, request: web.Request, sn: str, *, is_new: bool) -> web.StreamResponse:
        require_role(request, "admin")
        form = await read_form(request)
        groups = [one.strip() for one in form.get("groups", "").replace("，", ",").split(",") if one.strip()]
        payload = {
            "sn": sn,
            "name": form.get("name", "").strip() or None,
            "area": form.get("area", "").strip() or None,
            "groups": list(dict.fromkeys(groups)),
        }
        try:
            command = ADMIT.build_from(payload, "")
        except InvalidError as error:
            faults = {fault.path.partition("[")[0].partition(".")[0]: fault.message for fault in error.faults}
            return self._form(request, sn, form, faults, is_new=is_new, status=400)
        assert isinstance(command, Admit)
        origin = origin_of(request)
        reply = await self._core.admission.admit(command, origin)
        if reply.outcome is not Outcome.OK:
            return self._form(request, sn, form, {"": reply.message or ""}, is_new=is_new, status=400)
        return redirect(request, f"terminals/{sn}")

    def _form(
        self,
        request: web.Request,
        sn: str,
        values: Mapping[str, str],
        faults: Mapping[str, str],
        *,
        is_new: bool = True,
        status: int = 200,
    ) -> web.Response:
        pending = next((one for one in self._core.admission.pending if one.sn == sn), None)
        groups = sorted({group for known in self._core.registry for group in known.terminal.groups})
        details = {"sn": sn, "pending": pending, "groups": groups, "values": values, "faults": faults, "is_new": is_new}
        return self._renderer.page(request, "approve.html", status, **details)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        return self._show_connect(request, password=None)

    async def _reveal(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        await read_form(request)
        stored = self._access.password
        return self._show_connect(request, password=None if stored is None else stored.reveal())

    def _show_connect(self, request: web.Request, password: str | None) -> web.Response:
        access = self._access
        connected = [known for known in self._core.registry if known.connection is not None]
        connected.sort(key=lambda known: known.connection.connected_at.timestamp() if known.connection else 0.0)
        server = f"{'wss' if access.is_encrypted else 'ws'}://{_host_for_terminals(request)}:{access.port()}"
        address = f"{server}{access.path}/"
        values: dict[str, Any] = {
            "address": address,
            "qr": segno.make(address, micro=False).svg_inline(border=4, omitsize=True),
            "username": access.username,
            "password": None if password is not None and is_hash(password) else password,
            "is_hashed": access.password is not None and is_hash(access.password.reveal()),
            "has_password": access.password is not None,
            "pending": self._core.admission.pending,
            "connected": list(reversed(connected))[:_SHOWN_CONNECTED],
            "is_loopback": _is_local(_host_for_terminals(request)),
        }
        return self._renderer.live_page(request, "connect.html", **values)

    def _pending_sn(self, request: web.Request) -> str:
        sn = _serial_number(request)
        if all(one.sn != sn for one in self._core.admission.pending):
            raise RequestError(404, noop("This terminal does not wait for approval (any more)."))
        return sn


def _serial_number(request: web.Request) -> str:
    sn = request.match_info["sn"]
    if not is_serial_number(sn):
        raise RequestError(404, noop("This terminal is not known."))
    return sn


def _host_for_terminals(request: web.Request) -> str:
    """Return the name under which the browser reaches this machine; terminals mostly reach it under the same."""
    host = host_of(f"//{request.host}") or "localhost"
    return f"[{host}]" if ":" in host else host


def _is_local(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
