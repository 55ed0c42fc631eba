"""Routes that show terminals: the known ones, and those that wait for approval."""

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from bridge.core.admission import Admission, PendingTerminal
from bridge.core.ports import DesiredPersons
from bridge.core.registry import KnownTerminal, TerminalRegistry
from bridge.core.terminal_state import TERMINAL_STATE_SCHEMA, terminal_state
from bridge.model.faults import InvalidError
from bridge.model.json_schema import TIME, JsonSchema, described, nullable, output_schema, text
from bridge.model.names import ALL_TERMINALS, GROUP_NAME_SCHEMA, SERIAL_NUMBER_SCHEMA, is_group_name
from bridge.model.reply import format_time
from bridge.model.terminal import TerminalOrigin
from bridge.web.api.common import (
    UNKNOWN_TERMINAL,
    choice_parameter,
    name_in_path,
    text_parameter,
    unknown_terminal,
)
from bridge.web.api.paging import LIMIT, Key, Page, cursor_parameter, page_of, page_schema
from bridge.web.errors import json_response
from bridge.web.routes import QUERY, QueryParameter, ResponseContent, Route

TERMINAL_STATES = {
    "online": "it is connected",
    "offline": "it is not connected",
    "pending": "it has changes of persons that it has not confirmed",
    "refused": "it has refused changes of persons",
}
"""The states that a list of terminals can be restricted to, with their meanings."""

TERMINAL_SCHEMA: JsonSchema = output_schema(
    {
        **TERMINAL_STATE_SCHEMA["properties"],
        "area": nullable(text("its area")),
        "groups": {
            "type": "array",
            "items": GROUP_NAME_SCHEMA,
            "description": f"the groups it belongs to; every terminal is in `{ALL_TERMINALS}`",
        },
        "origin": {
            "enum": [origin.value for origin in TerminalOrigin],
            "description": "why it is known; a `configured` one can be changed only in the configuration",
        },
    },
    title="Terminal",
    description="A terminal as the bridge sees it: its state as over MQTT, and its settings.",
)
"""The schema of what `terminal_json` returns."""

_PENDING_SCHEMA = output_schema(
    {
        "sn": SERIAL_NUMBER_SCHEMA,
        "address": text("the address of its last attempt to connect"),
        "first_seen": described(TIME, "when it first tried to connect"),
        "last_seen": described(TIME, "when it last tried to connect"),
    },
    title="PendingTerminal",
    description="A terminal with correct credentials that waits for approval.",
)


def terminal_json(known: KnownTerminal, persons: DesiredPersons) -> dict[str, Any]:
    """Return a terminal as the API shows it, ready for JSON."""
    terminal = known.terminal
    return {
        **terminal_state(known, persons.counts(terminal.sn)),
        "area": terminal.area,
        "groups": list(terminal.groups),
        "origin": terminal.origin.value,
    }


class TerminalReader:
    """Pages of terminals, in the order of their names."""

    def __init__(self, registry: TerminalRegistry, persons: DesiredPersons) -> None:
        self._registry = registry
        self._persons = persons

    async def page(
        self,
        after: Key | None,
        limit: int,
        *,
        q: str | None = None,
        state: str | None = None,
        group: str | None = None,
    ) -> Page[KnownTerminal]:
        """Return a page of the known terminals.

        Args:
            after: the key after which the page begins; None for the first page.
            limit: the maximum number of terminals.
            q: only those whose SN or name contains this text, in upper or lower case.
            state: only those in this state, one of `TERMINAL_STATES`.
            group: only the members of this group.
        """
        part = None if q is None else q.casefold()

        def matches(known: KnownTerminal) -> bool:
            terminal = known.terminal
            if group is not None and group != ALL_TERMINALS and group not in terminal.groups:
                return False
            if part is not None and part not in terminal.title.casefold() and part not in terminal.sn.casefold():
                return False
            return state is None or self._is(state, known)

        return await page_of(self._registry, _terminal_key, after, limit, matches)

    def _is(self, state: str, known: KnownTerminal) -> bool:
        if state in ("online", "offline"):
            return (known.connection is not None) == (state == "online")
        counts = self._persons.counts(known.terminal.sn)
        return (counts.pending if state == "pending" else counts.refused) > 0


def _terminal_key(known: KnownTerminal) -> Key:
    return known.terminal.title.casefold(), known.terminal.sn


def _parse_group(value: str) -> str:
    if not is_group_name(value):
        raise InvalidError.at("", "must be a group's name: 1 to 64 letters, digits, _ and -")
    return value


class TerminalRoutes:
    """Routes that show terminals."""

    def __init__(self, registry: TerminalRegistry, persons: DesiredPersons, admission: Admission) -> None:
        self._registry = registry
        self._persons = persons
        self._admission = admission
        self._reader = TerminalReader(registry, persons)

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        yield Route(
            method="GET",
            path="/api/terminals",
            handler=self._list,
            summary="List the known terminals in the order of their names",
            tag="terminals",
            query=(
                LIMIT,
                cursor_parameter(2),
                text_parameter("q", "a part of the SN or the name, in upper or lower case"),
                choice_parameter("state", TERMINAL_STATES, "only terminals in this state"),
                QueryParameter(
                    name="group",
                    schema=described(GROUP_NAME_SCHEMA, "only the members of this group"),
                    parse=_parse_group,
                ),
            ),
            responses={
                200: ResponseContent(
                    description="a page of terminals",
                    schema=page_schema(TERMINAL_SCHEMA, "TerminalPage", "A page of terminals."),
                )
            },
        )
        yield Route(
            method="GET",
            path="/api/terminals/{sn}",
            handler=self._one,
            summary="Show a terminal",
            tag="terminals",
            responses={
                200: ResponseContent(description="the terminal", schema=TERMINAL_SCHEMA),
                404: UNKNOWN_TERMINAL,
            },
        )
        yield Route(
            method="GET",
            path="/api/pending",
            handler=self._pending,
            summary="List the terminals that wait for approval in the order of their SNs",
            tag="terminals",
            query=(LIMIT, cursor_parameter(1)),
            responses={
                200: ResponseContent(
                    description="a page of terminals that wait",
                    schema=page_schema(_PENDING_SCHEMA, "PendingPage", "A page of terminals that wait for approval."),
                )
            },
        )

    async def _list(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        page = await self._reader.page(
            query["cursor"], query["limit"], q=query["q"], state=query["state"], group=query["group"]
        )
        return json_response(await page.as_json(lambda known: terminal_json(known, self._persons)))

    async def _one(self, request: web.Request) -> web.StreamResponse:
        sn = name_in_path(request, "sn")
        known = self._registry.get(sn)
        if known is None:
            raise unknown_terminal(sn)
        return json_response(terminal_json(known, self._persons))

    async def _pending(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        page = await page_of(self._admission.pending, lambda one: (one.sn,), query["cursor"], query["limit"])
        return json_response(await page.as_json(_pending_json))


def _pending_json(pending: PendingTerminal) -> dict[str, Any]:
    return {
        "sn": pending.sn,
        "address": pending.address,
        "first_seen": format_time(pending.first_seen),
        "last_seen": format_time(pending.last_seen),
    }
