"""Routes that show groups, and the persons that they keep for terminals that join them."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from bridge.core.registry import TerminalRegistry
from bridge.model.json_schema import TIME, JsonSchema, count_schema, described, output_schema
from bridge.model.names import ALL_TERMINALS, GROUP_NAME_SCHEMA
from bridge.model.person_entry import GroupPerson
from bridge.persons.fields import SHOWN_FIELDS
from bridge.persons.reading import PersonReader
from bridge.web.api.common import SEARCH, failure, name_in_path
from bridge.web.api.paging import LIMIT, cursor_parameter, page_from, page_of, page_schema
from bridge.web.api.persons import PHOTO_RESPONSES, photo_response
from bridge.web.errors import RequestError, json_response
from bridge.web.routes import QUERY, ResponseContent, Route

_TERMINALS_AT_ONCE = 500
"""Terminals whose groups are counted, in a few tenths of a millisecond, before other tasks run."""

_GROUP_SCHEMA = output_schema(
    {
        "name": GROUP_NAME_SCHEMA,
        "members": count_schema("terminals in the group; `GET /api/terminals?group=` lists them"),
        "persons": count_schema("persons that the group keeps for terminals that join it"),
    },
    title="Group",
    description=f"A group of terminals. `{ALL_TERMINALS}` is the group of every known terminal.",
)

GROUP_PERSON_SCHEMA: JsonSchema = output_schema(
    {
        **{one.name: one.output_schema for one in SHOWN_FIELDS},
        "changed_at": described(TIME, "when the person was last changed in this group"),
    },
    title="GroupPerson",
    description="A person that a group keeps for terminals that join it, without the photo.",
)
"""The schema of `GroupPerson.as_json`."""

_UNKNOWN_GROUP = failure("no terminal is in the group, and it keeps no person")
_UNKNOWN_PERSON = failure("the group does not keep the person")


class GroupRoutes:
    """Routes that show groups."""

    def __init__(self, registry: TerminalRegistry, reader: PersonReader) -> None:
        self._registry = registry
        self._reader = reader

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        yield Route(
            method="GET",
            path="/api/groups",
            handler=self._groups,
            summary="List the groups in the order of their names",
            tag="groups",
            query=(LIMIT, cursor_parameter(1)),
            responses={
                200: ResponseContent(
                    description="a page of groups",
                    schema=page_schema(_GROUP_SCHEMA, "GroupPage", "A page of groups."),
                )
            },
        )
        yield Route(
            method="GET",
            path="/api/groups/{name}/persons",
            handler=self._persons,
            summary="List the persons that a group keeps, by id",
            tag="groups",
            query=(LIMIT, cursor_parameter(1), SEARCH),
            responses={
                200: ResponseContent(
                    description="a page of persons",
                    schema=page_schema(GROUP_PERSON_SCHEMA, "GroupPersonPage", "A page of a group's persons."),
                ),
                404: _UNKNOWN_GROUP,
            },
        )
        yield Route(
            method="GET",
            path="/api/groups/{name}/persons/{id}",
            handler=self._person,
            summary="Show a person that a group keeps",
            tag="groups",
            responses={
                200: ResponseContent(description="the person", schema=GROUP_PERSON_SCHEMA),
                404: _UNKNOWN_PERSON,
            },
        )
        yield Route(
            method="GET",
            path="/api/groups/{name}/persons/{id}/photo",
            handler=self._photo,
            summary="Return the photo of a person that a group keeps",
            tag="groups",
            responses={**PHOTO_RESPONSES, 404: failure("the group does not keep the person, or the photo is damaged")},
        )

    async def _groups(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        members, sizes = await self._members(), await self._reader.group_sizes()
        page = await page_of(members.keys() | sizes.keys(), lambda name: (name,), query["cursor"], query["limit"])
        return json_response(
            await page.as_json(lambda name: {"name": name, "members": members[name], "persons": sizes.get(name, 0)})
        )

    async def _persons(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        group = name_in_path(request, "name")
        limit: int = query["limit"]
        cursor = query["cursor"]
        after = "" if cursor is None else cursor[0]
        persons, total = await self._reader.in_group(group, limit + 1, after=after, q=query["q"])
        if total == 0 and not self._registry.members(group) and group not in await self._reader.group_sizes():
            raise RequestError(404, f"no terminal is in group {group!r}, and it keeps no person", path="name")
        page = page_from(persons, total, limit, lambda kept: (kept.person.id,))
        return json_response(await page.as_json(GroupPerson.as_json))

    async def _person(self, request: web.Request) -> web.StreamResponse:
        return json_response((await self._kept(request)).as_json())

    async def _photo(self, request: web.Request) -> web.StreamResponse:
        return await photo_response(request, self._reader, (await self._kept(request)).person.photo)

    async def _kept(self, request: web.Request) -> GroupPerson:
        group, person_id = name_in_path(request, "name"), name_in_path(request, "id")
        kept = await self._reader.one_in_group(group, person_id)
        if kept is None:
            raise RequestError(404, f"group {group!r} does not keep person {person_id}: check both", path="id")
        return kept

    async def _members(self) -> Counter[str]:
        """Return the number of members of each group that has any, `all` included."""
        members = Counter({ALL_TERMINALS: len(self._registry)})
        for number, known in enumerate(self._registry, start=1):
            members.update(known.terminal.groups)
            if number % _TERMINALS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return members
