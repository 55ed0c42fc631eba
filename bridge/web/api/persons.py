"""Routes that show persons: those of a terminal, and each person over all terminals."""

from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import hdrs, web
from aiohttp.helpers import ETAG_ANY

from bridge.core.registry import TerminalRegistry
from bridge.model.json_schema import TIME, JsonSchema, count_schema, described, nullable, output_schema, text
from bridge.model.names import GROUP_NAME_SCHEMA, PERSON_ID_SCHEMA, SERIAL_NUMBER_SCHEMA
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.model.person_summary import PERSON_SUMMARY_SCHEMA, PersonEverywhere, PersonFilter, PersonSummary
from bridge.model.reply import format_time
from bridge.model.terminal import PERSON_COUNTS_SCHEMA
from bridge.persons.fields import SHOWN_FIELDS
from bridge.persons.reading import PersonReader
from bridge.persons.schema import PERSON_ENTRY_SCHEMA
from bridge.web.api.common import (
    SEARCH,
    UNKNOWN_TERMINAL,
    choice_parameter,
    failure,
    name_in_path,
    unknown_terminal,
)
from bridge.web.api.paging import LIMIT, MAX_LIMIT, cursor_parameter, encode_cursor, page_from, page_schema
from bridge.web.errors import RequestError, json_response
from bridge.web.routes import QUERY, ResponseContent, Route

_DELIVERY = choice_parameter(
    "delivery", {state.value: state.meaning for state in DeliveryState}, "only persons with a change in this state"
)

_STATE_KEYS = ("wanted", "delivery", "status", "message", "changed_at", "access")
"""The keys of a person on a terminal that are not the person's own values."""

PERSON_ON_TERMINAL_SCHEMA: JsonSchema = output_schema(
    {
        "sn": SERIAL_NUMBER_SCHEMA,
        "name": nullable(text("the terminal's display name; null if the terminal is not known any more")),
        "online": {"type": "boolean", "description": "whether the terminal is connected"},
        "last_seen": described(nullable(TIME), "when the terminal's last frame arrived since the bridge started"),
        **{key: PERSON_ENTRY_SCHEMA["properties"][key] for key in _STATE_KEYS},
        "differs": {
            "type": "boolean",
            "description": "whether this terminal should hold other values or another photo than `person` shows",
        },
    },
    title="PersonOnTerminal",
    description="What one terminal should do with a person, and the state of the delivery.",
)
"""The schema of an item of `GET /api/persons/{id}`."""

_PERSON_EVERYWHERE_SCHEMA = output_schema(
    {
        "id": PERSON_ID_SCHEMA,
        "person": described(
            nullable(output_schema({one.name: one.output_schema for one in SHOWN_FIELDS})),
            "the values of the newest change on any terminal, or else in any group; null if every terminal is to "
            "remove the person",
        ),
        "terminals": described(PERSON_COUNTS_SCHEMA, "the terminals that should hold the person, and their changes"),
        "groups": {
            "type": "array",
            "items": output_schema(
                {
                    "name": GROUP_NAME_SCHEMA,
                    "changed_at": described(TIME, "when the person was last changed in this group"),
                    "differs": {"type": "boolean", "description": "whether the group keeps other values or photo"},
                }
            ),
            "description": "the groups that keep the person for terminals that join them",
        },
        "items": {
            "type": "array",
            "items": PERSON_ON_TERMINAL_SCHEMA,
            "maxItems": MAX_LIMIT,
            "description": "the terminals of this page, by SN",
        },
        "next": nullable(text("the `cursor` of the next page; null on the last one")),
        "total": count_schema("the number of terminals on all pages"),
    },
    title="PersonEverywhere",
    description="A person, and where the person is, where not yet, and why.",
)


PHOTO_RESPONSES: Mapping[int, ResponseContent] = {
    200: ResponseContent(
        description="the photo; its `ETag` changes with the photo",
        schema={"type": "string", "contentMediaType": "image/jpeg"},
        content_type="image/jpeg",
    ),
    304: ResponseContent(description="the photo is still that of `If-None-Match`", schema=None),
}
"""The responses of `photo_response`."""


class PersonRoutes:
    """Routes that show persons."""

    def __init__(self, registry: TerminalRegistry, reader: PersonReader) -> None:
        self._registry = registry
        self._reader = reader

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        yield Route(
            method="GET",
            path="/api/persons",
            handler=self._persons,
            summary="List the persons of all terminals, each once, by id",
            tag="persons",
            query=(LIMIT, cursor_parameter(1), SEARCH, _DELIVERY),
            responses={
                200: ResponseContent(
                    description="a page of persons",
                    schema=page_schema(PERSON_SUMMARY_SCHEMA, "PersonPage", "A page of persons."),
                )
            },
        )
        yield Route(
            method="GET",
            path="/api/persons/{id}",
            handler=self._everywhere,
            summary="Show a person and the state on each terminal",
            tag="persons",
            query=(LIMIT, cursor_parameter(1)),
            responses={
                200: ResponseContent(description="the person", schema=_PERSON_EVERYWHERE_SCHEMA),
                404: failure("no terminal and no group has the person"),
            },
        )
        yield Route(
            method="GET",
            path="/api/terminals/{sn}/persons",
            handler=self._on_terminal,
            summary="List the persons of a terminal, with unconfirmed removals, by id",
            tag="persons",
            query=(LIMIT, cursor_parameter(1), SEARCH, _DELIVERY),
            responses={
                200: ResponseContent(
                    description="a page of persons",
                    schema=page_schema(PERSON_ENTRY_SCHEMA, "PersonEntryPage", "A page of a terminal's persons."),
                ),
                404: UNKNOWN_TERMINAL,
            },
        )
        yield Route(
            method="GET",
            path="/api/terminals/{sn}/persons/{id}",
            handler=self._one_on_terminal,
            summary="Show a person of a terminal",
            tag="persons",
            responses={
                200: ResponseContent(description="the person", schema=PERSON_ENTRY_SCHEMA),
                404: failure("the terminal or the person is not known"),
            },
        )

        yield Route(
            method="GET",
            path="/api/terminals/{sn}/persons/{id}/photo",
            handler=self._photo,
            summary="Return the photo that the terminal should have of a person",
            tag="persons",
            responses={**PHOTO_RESPONSES, 404: failure("the terminal, the person or the photo is not known")},
        )

    async def _persons(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        limit: int = query["limit"]
        persons, total = await self._reader.persons(limit + 1, after=_after(query), wanted=_wanted(query))
        page = page_from(persons, total, limit, lambda person: (person.id,))
        return json_response(await page.as_json(PersonSummary.as_json))

    async def _everywhere(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        person_id = name_in_path(request, "id")
        found = await self._reader.everywhere(person_id, query["limit"], after=_after(query) or "")
        if found is None:
            raise RequestError(404, f"no terminal and no group has person {person_id}: check the id", path="id")
        return json_response(self._everywhere_json(found))

    async def _on_terminal(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        limit: int = query["limit"]
        sn = self._known_sn(request)
        entries, total = await self._reader.on_terminal(sn, limit + 1, after=_after(query), wanted=_wanted(query))
        page = page_from(entries, total, limit, lambda entry: (entry.person_id or "",))
        return json_response(await page.as_json(PersonEntry.as_json))

    async def _one_on_terminal(self, request: web.Request) -> web.StreamResponse:
        return json_response((await self._entry(request)).as_json())

    async def _photo(self, request: web.Request) -> web.StreamResponse:
        entry = await self._entry(request)
        if entry.person is None:
            raise RequestError(404, f"person {entry.person_id} is being removed and has no photo", path="id")
        return await photo_response(request, self._reader, entry.person.photo)

    async def _entry(self, request: web.Request) -> PersonEntry:
        sn = self._known_sn(request)
        person_id = name_in_path(request, "id")
        entry = await self._reader.one_on_terminal(sn, person_id)
        if entry is None:
            raise RequestError(404, f"terminal {sn} has no person {person_id}: check the id", path="id")
        return entry

    def _known_sn(self, request: web.Request) -> str:
        sn = name_in_path(request, "sn")
        if sn not in self._registry:
            raise unknown_terminal(sn)
        return sn

    def _everywhere_json(self, found: PersonEverywhere) -> dict[str, Any]:
        person = found.summary.person
        return {
            "id": found.summary.id,
            "person": None if person is None else person.as_json(),
            "terminals": found.summary.counts.as_json(),
            "groups": [
                {
                    "name": kept.group,
                    "changed_at": format_time(kept.changed_at),
                    "differs": person is not None and kept.person != person,
                }
                for kept in found.groups
            ],
            "items": [
                {**self._terminal(entry.sn), **_state(entry), "differs": entry.person not in (None, person)}
                for entry in found.entries
            ],
            "next": encode_cursor((found.entries[-1].sn,)) if found.more else None,
            "total": found.total,
        }

    def _terminal(self, sn: str) -> dict[str, Any]:
        known = self._registry.get(sn)
        if known is None:
            return {"sn": sn, "name": None, "online": False, "last_seen": None}
        return {
            "sn": sn,
            "name": known.terminal.title,
            "online": known.connection is not None,
            "last_seen": None if known.last_seen is None else format_time(known.last_seen),
        }


async def photo_response(request: web.Request, reader: PersonReader, sha256: str) -> web.StreamResponse:
    """Return a photo, or 304 if the client has it already.

    Raises:
        RequestError: the photo is missing.
        UnavailableError: the store cannot be read.
    """
    headers = {
        hdrs.ETAG: f'"{sha256}"',
        # A browser may keep it, and asks each time whether it is still this one. A proxy may not keep it.
        hdrs.CACHE_CONTROL: "private, no-cache",
    }
    if any(etag.value in (sha256, ETAG_ANY) for etag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    jpeg = await reader.photo(sha256)
    if jpeg is None:
        raise RequestError(404, "the photo is missing or damaged: set the person again with a photo", path="photo")
    return web.Response(body=jpeg, content_type="image/jpeg", headers=headers)


def _state(entry: PersonEntry) -> dict[str, Any]:
    shown = entry.as_json()
    return {key: shown[key] for key in _STATE_KEYS}


def _wanted(query: Mapping[str, Any]) -> PersonFilter:
    delivery = query["delivery"]
    return PersonFilter(q=query["q"], delivery=None if delivery is None else DeliveryState(delivery))


def _after(query: Mapping[str, Any]) -> str | None:
    cursor = query["cursor"]
    return None if cursor is None else cursor[0]
