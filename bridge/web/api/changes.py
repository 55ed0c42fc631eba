"""Routes that change persons and approve terminals: the same commands as over MQTT."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import orjson
from aiohttp import web

from bridge.core.admission import Admission
from bridge.core.command_definition import InvalidCommandError, type_name
from bridge.core.commands import ADMIT, FORGET, REMOVE_PERSONS, SET_PERSONS, SYNC_PERSONS
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import PersonCommand
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyDispatcher
from bridge.model.commands import Admit, Forget, RemovePersons, SetPersons, SyncPersons
from bridge.model.faults import Fault
from bridge.model.json_schema import JsonSchema, reference
from bridge.model.names import MAXIMUM_REQUEST_ID_LENGTH
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA, GroupSummary, Outcome
from bridge.web.api.bodies import ENCODED_CHUNK_FACTOR, read_json
from bridge.web.api.commands import CommandRequest, RunningCommands
from bridge.web.api.common import failure, name_fault, person_id_in_path, reply, summary, text_parameter
from bridge.web.api.uploads import MULTIPART, MULTIPART_PERSON_SCHEMA, read_multipart_person
from bridge.web.context import WebLimits
from bridge.web.errors import RequestError, reply_response, summary_response
from bridge.web.routes import JSON, QUERY, RequestBody, ResponseContent, Route, Tag

_MAX_COMMAND_BYTES = 16_384
"""Of the body of a sync or an approval: seven texts of 128 characters and 128 groups."""

_MAX_FIELD_BYTES = 65_536
"""Of all fields of a person except the photo."""

_SMALL_BYTES = 131_072
"""A body up to this length needs no place among `max_uploads`."""

_UPLOAD_WAIT_SECONDS = 30.0
"""Time that a large body waits for its place; two pictures are converted in about a second."""

_REQUEST_ID = text_parameter("request_id", "returned in every reply", longest=MAXIMUM_REQUEST_ID_LENGTH)

_BODY_FAILURES = {
    408: failure("the body is too slow"),
    413: failure("the body is too large"),
    415: failure("the body has another content type"),
}

_RESPONSES = {
    202: reply("`accepted`: stored, and delivered as soon as possible; the final reply is published over MQTT"),
    400: reply("`invalid`"),
    404: reply("`invalid`: the terminal is not known"),
    503: reply("`unavailable`: nothing was changed"),
}

_GROUP_RESPONSES = {
    200: summary("the group has no members: the persons are removed from the group"),
    202: summary("`accepted` for every member"),
    400: ResponseContent(
        description="`invalid`; a summary if only some members could not accept it",
        schema={"anyOf": [REPLY_SCHEMA, GROUP_SUMMARY_SCHEMA]},
    ),
    404: reply("`invalid`: no terminal is in the group"),
    503: ResponseContent(
        description="`unavailable`: nothing was changed",
        schema={"anyOf": [REPLY_SCHEMA, GROUP_SUMMARY_SCHEMA]},
    ),
}


_REPEATED = {
    200: "the last known reply to a change whose `asked_at` arrived before: `ok` or `superseded`",
    502: "the last known reply to a change whose `asked_at` arrived before: `refused`",
}
"""The further responses to a change with a body."""


class ChangeRoutes:
    """Routes that turn requests into changes of persons and terminals."""

    def __init__(
        self,
        persons: PersonCommands,
        admission: Admission,
        registry: TerminalRegistry,
        replies: ReplyDispatcher,
        limits: WebLimits,
    ) -> None:
        """Build the routes.

        Args:
            persons: carries changes of persons out.
            admission: approves terminals.
            registry: the known terminals.
            replies: publishes replies to rejected changes, as other replies are.
            limits: of bodies and running changes.
        """
        self._persons = persons
        self._admission = admission
        self._registry = registry
        self._replies = replies
        self._limits = limits
        self._running = RunningCommands(limits.max_running_changes, "changes")
        self._uploads = asyncio.Semaphore(limits.max_uploads)

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        yield from self._person_routes("/api/terminals/{sn}", "on a terminal", "persons", _RESPONSES, reply)
        yield from self._person_routes(
            "/api/groups/{name}", "on every member of a group", "groups", _GROUP_RESPONSES, summary
        )
        yield Route(
            method="POST",
            path="/api/pending/{sn}/admit",
            handler=self._admit,
            summary="Approve a terminal, also one that has never connected, or change an approved one",
            tag="terminals",
            role="admin",
            body=RequestBody(
                content={JSON: _without_required(ADMIT.payload_schema, "sn")},
                max_bytes=ENCODED_CHUNK_FACTOR * _MAX_COMMAND_BYTES,
                is_required=False,
            ),
            responses={
                200: reply("`ok`"),
                400: reply("`invalid`"),
                503: reply("`unavailable`: nothing was changed"),
                **_BODY_FAILURES,
            },
        )
        yield Route(
            method="DELETE",
            path="/api/terminals/{sn}",
            handler=self._forget,
            summary="Forget a terminal, or refuse one that waits for approval",
            tag="terminals",
            role="admin",
            query=(_REQUEST_ID,),
            responses={
                200: reply("`ok`; `message` says if the device may still hold persons"),
                400: reply("`invalid`: the terminal is listed in the configuration"),
                404: reply("`invalid`: the terminal is not known and does not wait"),
                503: reply("`unavailable`: nothing was changed"),
            },
        )

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more changes, and cancel those that still run after `grace_seconds`."""
        await self._running.stop(grace_seconds)

    def _person_routes(
        self,
        prefix: str,
        where: str,
        tag: Tag,
        responses: Mapping[int, ResponseContent],
        repeated: Callable[[str], ResponseContent],
    ) -> Iterator[Route]:
        with_body = {
            **responses,
            **_BODY_FAILURES,
            **{status: repeated(description) for status, description in _REPEATED.items()},
        }
        yield Route(
            method="PUT",
            path=f"{prefix}/persons/{{id}}",
            handler=self._put,
            summary=f"Add or change a person {where}; fields that are left out stay as they are",
            tag=tag,
            role="admin",
            body=RequestBody(
                content={
                    JSON: _without_required(reference("SinglePerson"), "id"),
                    MULTIPART: MULTIPART_PERSON_SCHEMA,
                },
                max_bytes=self._max_person_bytes + _MAX_FIELD_BYTES,
                is_required=True,
            ),
            responses=with_body,
        )
        yield Route(
            method="DELETE",
            path=f"{prefix}/persons/{{id}}",
            handler=self._delete,
            summary=f"Remove a person {where}, also one that the bridge does not know",
            tag=tag,
            role="admin",
            query=(_REQUEST_ID,),
            responses=responses,
        )
        yield Route(
            method="POST",
            path=f"{prefix}/sync",
            handler=self._sync,
            summary=f"Send every person {where} again",
            tag=tag,
            role="admin",
            body=RequestBody(
                content={JSON: SYNC_PERSONS.payload_schema},
                max_bytes=ENCODED_CHUNK_FACTOR * _MAX_COMMAND_BYTES,
                is_required=False,
            ),
            responses=with_body,
        )

    @property
    def _max_person_bytes(self) -> int:
        """The longest body with a person: a photo in base64, and the other fields."""
        return self._limits.max_photo_bytes * 4 // 3 + _MAX_FIELD_BYTES

    async def _put(self, request: web.Request) -> web.StreamResponse:
        target = CommandRequest.of(request, SET_PERSONS, self._replies)
        person_id = _person_id(request, target)
        async with self._place(request):
            value = await self._read_person(request, target)
            if not isinstance(value, Mapping):
                raise target.invalid([Fault("", f"must be a person, an object, not {type_name(value)}")])
            if value.get("id", person_id) != person_id:
                raise target.invalid([Fault("id", f"differs from {person_id} in the path: leave it out")])
            if "persons" in value:
                raise target.invalid([Fault("persons", "is not a field of a person: send one person a request")])
            change = target.build({**value, "id": person_id})
            assert isinstance(change, SetPersons)
            return await self._change(target, change, value)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        target = CommandRequest.of(request, REMOVE_PERSONS, self._replies)
        change = RemovePersons(ids=(_person_id(request, target),), request_id=request[QUERY]["request_id"])
        return await self._change(target, change)

    async def _sync(self, request: web.Request) -> web.StreamResponse:
        target = CommandRequest.of(request, SYNC_PERSONS, self._replies)
        value = await self._read_command(request, target)
        change = target.build(value)
        assert isinstance(change, SyncPersons)
        return await self._change(target, change, value)

    async def _admit(self, request: web.Request) -> web.StreamResponse:
        target = CommandRequest.of(request, ADMIT, self._replies)
        value = await self._read_command(request, target)
        if value is None:
            value = {}
        if isinstance(value, Mapping):
            if value.get("sn", target.sn) != target.sn:
                raise target.invalid([Fault("sn", f"differs from {target.sn} in the path: leave it out")])
            value = {**value, "sn": target.sn}
        command = target.build(value)
        assert isinstance(command, Admit)
        self._running.check(target, command.request_id)
        admitting = self._admission.admit(command, target.origin)
        return reply_response(await self._running.run(admitting, name=ADMIT.name))

    async def _forget(self, request: web.Request) -> web.StreamResponse:
        target = CommandRequest.of(request, FORGET, self._replies)
        command = Forget(sn=target.target, request_id=request[QUERY]["request_id"])
        self._running.check(target, command.request_id)
        exists = command.sn in self._registry or any(one.sn == command.sn for one in self._admission.pending)
        answer = await self._running.run(self._admission.forget(command, target.origin), name=FORGET.name)
        return reply_response(answer, 404 if answer.outcome is Outcome.INVALID and not exists else None)

    async def _change(
        self, target: CommandRequest, change: SetPersons | RemovePersons | SyncPersons, value: object = None
    ) -> web.StreamResponse:
        """Carry out a change and return the response; `value` is the JSON that it came with."""
        self._running.check(target, change.request_id)
        command = PersonCommand(
            change=change,
            origin=target.origin,
            sn=target.sn,
            group=target.group,
            message=None if change.asked_at is None else _dated_message(target, value),
        )
        if target.group is None:
            is_known = target.target in self._registry
        else:
            is_known = bool(self._registry.members(target.group))
        (answer,) = await self._running.run(self._persons.change([command]), name=target.definition.name)
        if isinstance(answer, GroupSummary):
            return summary_response(answer)
        (only,) = answer
        return reply_response(only, 404 if only.outcome is Outcome.INVALID and not is_known else None)

    async def _read_person(self, request: web.Request, target: CommandRequest) -> object:
        try:
            if request.content_type == MULTIPART:
                return await read_multipart_person(
                    request, self._limits.max_photo_bytes, _MAX_FIELD_BYTES, self._limits.upload_seconds
                )
            return await read_json(
                request, self._max_person_bytes, self._limits.upload_seconds, accepted=f"{JSON} or {MULTIPART}"
            )
        except InvalidCommandError as error:
            raise target.invalid(error.faults) from None

    async def _read_command(self, request: web.Request, target: CommandRequest) -> object:
        try:
            return await read_json(request, _MAX_COMMAND_BYTES, self._limits.body_seconds)
        except InvalidCommandError as error:
            raise target.invalid(error.faults) from None

    @asynccontextmanager
    async def _place(self, request: web.Request) -> AsyncIterator[None]:
        """Let only so many large bodies into the memory at once. Raises RequestError if there is no place in time."""
        if request.content_length is not None and request.content_length <= _SMALL_BYTES:
            yield
            return
        try:
            async with asyncio.timeout(_UPLOAD_WAIT_SECONDS):
                await self._uploads.acquire()
        except TimeoutError:
            raise RequestError(503, "too many photos are being uploaded; try again") from None
        try:
            yield
        finally:
            self._uploads.release()


def _person_id(request: web.Request, target: CommandRequest) -> str:
    person_id = person_id_in_path(request)
    fault = name_fault("id", person_id)
    if fault is not None:
        raise target.invalid([Fault("id", fault)])
    return person_id


def _dated_message(target: CommandRequest, value: object) -> ReceivedMessage:
    """Return what an equal request is recognised by: with `asked_at` it is the same command, which is done once."""
    content = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(b"\0".join((target.origin.source.encode(), content))).hexdigest()
    return ReceivedMessage(digest=digest, is_dated=True)


def _without_required(schema: JsonSchema, key: Literal["id", "sn"]) -> JsonSchema:
    """Return the schema of an object in which `key` may be left out, because the path has it."""
    return {"description": f"`{key}` may be left out; the path has it", "allOf": [schema]}
