"""The log of commands."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.model.audit import AuditFilter, AuditRecord
from bridge.model.names import is_person_id, is_serial_number
from bridge.model.reply import Outcome
from bridge.web.context import WebServices
from bridge.web.page.forms import PageRouter
from bridge.web.page.outcomes import COMMAND_NAMES, OUTCOME_NAMES, tone_of
from bridge.web.page.rendering import Renderer

_PAGE_SIZE = 50
_MAX_ID = 2**62


class LogPages:
    """The page that shows what happened."""

    def __init__(self, services: WebServices, renderer: Renderer) -> None:
        self._registry = services.registry
        self._read_audit = services.read_audit
        self._renderer = renderer

    def add_to(self, router: PageRouter) -> None:
        """Add the route."""
        router.get("/log", self._log)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        query = {name: request.query.get(name, "").strip() for name in ("command", "outcome", "sn", "person", "user")}
        before = request.query.get("before", "")
        last = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
        records, total = await self._read_audit(_filter(query), last, _PAGE_SIZE + 1)
        values: dict[str, Any] = {
            "records": [(record, self._title(record)) for record in records[:_PAGE_SIZE]],
            "total": total,
            "query": query,
            "before": last,
            "next": records[_PAGE_SIZE - 1].id if len(records) > _PAGE_SIZE else None,
            "command_names": COMMAND_NAMES,
            "outcome_names": OUTCOME_NAMES,
            "tone_of": tone_of,
        }
        return self._renderer.live_page(request, "log.html", **values)

    def _title(self, record: AuditRecord) -> str | None:
        known = None if record.sn is None else self._registry.get(record.sn)
        return record.sn if known is None else known.terminal.title


def _filter(query: Mapping[str, str]) -> AuditFilter:
    """Return the filter of a query; a value that cannot be selects nothing wrong, it is left out."""
    return AuditFilter(
        commands=(query["command"],) if query["command"] in COMMAND_NAMES else (),
        outcomes=(Outcome(query["outcome"]),) if query["outcome"] in OUTCOME_NAMES else (),
        sns=(query["sn"],) if is_serial_number(query["sn"]) else (),
        person_id=query["person"] if is_person_id(query["person"]) else None,
        user=query["user"][:128] or None,
    )
