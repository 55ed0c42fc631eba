"""`POST …/open` and `…/reboot` on a terminal or a group: a route for each urgent command of the core's table."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from bridge.core.clock import Clock
from bridge.core.command_definition import CommandDefinition, InvalidCommandError
from bridge.core.commands import COMMANDS, OPEN
from bridge.core.event_bus import EventBus
from bridge.core.presses import Presses
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import Open, Press, Reboot
from bridge.model.faults import Fault
from bridge.model.names import is_group_name, is_serial_number
from bridge.model.origin import Origin
from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA, GroupSummary, Outcome, Reply
from bridge.net.listening import wait_for_tasks
from bridge.web.api.bodies import ENCODED_CHUNK_FACTOR, read_json
from bridge.web.api.common import failure, origin_of, reply, summary
from bridge.web.authentication import Role
from bridge.web.connections import arrived_at
from bridge.web.context import WebLimits
from bridge.web.errors import RequestError, reply_response, summary_response
from bridge.web.routes import JSON, Handler, RequestBody, ResponseContent, Route

_T = TypeVar("_T")

MAX_BODY_BYTES = 4_096
"""As over MQTT. A `request_id` of 128 characters needs 1,536 bytes if every character is escaped."""

_ROLES: Mapping[str, Role] = {OPEN.name: "operator"}
"""The role that a command needs, by the command's name; "admin" for commands that are not listed."""

_BODY_FAILURES = {
    408: failure("the body is too slow"),
    413: failure("the body is too large"),
    415: failure("the body is not `application/json`"),
}

_RESPONSES = {
    200: reply("`ok`: the terminal has carried it out"),
    400: reply("`invalid`"),
    404: reply("`invalid`: the terminal is not known"),
    409: reply("`offline`: not carried out"),
    502: reply("`refused` or `lost`"),
    503: reply("`unavailable`: not carried out"),
    504: reply("`timeout` or `expired`"),
    **_BODY_FAILURES,
}
"""The responses to a press, by status."""

_GROUP_RESPONSES = {
    200: summary("every member has carried it out"),
    400: reply("`invalid`"),
    404: reply("`invalid`: no terminal is in the group"),
    409: summary("the worst outcome of a member is `offline`"),
    502: summary("the worst outcome of a member is `refused` or `lost`"),
    503: ResponseContent(
        description="`unavailable`: not carried out; a summary if it is the outcome of a member",
        schema={"anyOf": [REPLY_SCHEMA, GROUP_SUMMARY_SCHEMA]},
    ),
    504: summary("the worst outcome of a member is `timeout` or `expired`"),
    **_BODY_FAILURES,
}
"""The responses to a press on a group, by status."""

_NAME_RULE = "{} has 1 to 64 letters, digits, _ and -"


@dataclass(frozen=True, slots=True)
class _Target:
    """The terminal or group in the path; neither if the path is malformed."""

    sn: str | None = None
    group: str | None = None


class PressRoutes:
    """Routes that turn requests into presses, and the replies into responses."""

    def __init__(self, presses: Presses, events: EventBus, clock: Clock, limits: WebLimits) -> None:
        """Build the routes.

        Args:
            presses: carries presses out.
            events: where replies to rejected presses are published, as other replies are.
            clock: for the time of such replies.
            limits: of bodies and running presses.
        """
        self._presses = presses
        self._replies = ReplyDispatcher(events, clock)
        self._limits = limits
        self._tasks = BackgroundTasks()
        self._running: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        for definition in COMMANDS:
            if definition.urgent:
                action = definition.topic.removesuffix("/set")
                body = RequestBody(
                    content={JSON: definition.payload_schema},
                    max_bytes=ENCODED_CHUNK_FACTOR * MAX_BODY_BYTES,
                    is_required=False,
                )
                role = _ROLES.get(definition.name, "admin")
                yield Route(
                    method="POST",
                    path=f"/api/terminals/{{sn}}/{action}",
                    handler=self._on_terminal(definition),
                    summary=definition.description.partition(".")[0],
                    tag="terminals",
                    role=role,
                    body=body,
                    responses=_RESPONSES,
                )
                yield Route(
                    method="POST",
                    path=f"/api/groups/{{name}}/{action}",
                    handler=self._on_group(definition),
                    summary=f"{definition.description.partition('.')[0]} on every member at once",
                    tag="groups",
                    role=role,
                    body=body,
                    responses=_GROUP_RESPONSES,
                )

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more presses, and cancel those that still run after `grace_seconds`."""
        self._stopping = True
        await wait_for_tasks(self._running, grace_seconds)
        await self._tasks.stop()

    def _on_terminal(self, definition: CommandDefinition) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            origin = origin_of(request)
            sn = request.match_info["sn"]
            if not is_serial_number(sn):
                return self._invalid(definition, _Target(), origin, [Fault("sn", _NAME_RULE.format("an SN"))])
            command = await self._read_command(request, definition, _Target(sn=sn), origin)
            if isinstance(command, web.Response):
                return command
            press = self._presses.press(sn, command, origin, arrived_at(request))
            return _response(await self._run(press, name=f"{definition.name} {sn}"))

        return handle

    def _on_group(self, definition: CommandDefinition) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            origin = origin_of(request)
            name = request.match_info["name"]
            if not is_group_name(name):
                faults = [Fault("group", _NAME_RULE.format("a group's name"))]
                return self._invalid(definition, _Target(), origin, faults)
            command = await self._read_command(request, definition, _Target(group=name), origin)
            if isinstance(command, web.Response):
                return command
            press = self._presses.press_group(name, command, origin, arrived_at(request))
            return _response(await self._run(press, name=f"{definition.name} group {name}"))

        return handle

    async def _read_command(
        self, request: web.Request, definition: CommandDefinition, target: _Target, origin: Origin
    ) -> Press | web.Response:
        """Return the press of a request, or the response that rejects it.

        Raises:
            RequestError: the body cannot be read.
        """
        try:
            command = definition.build_from(
                await read_json(request, MAX_BODY_BYTES, self._limits.body_seconds), target.sn or target.group or ""
            )
        except InvalidCommandError as error:
            return self._invalid(definition, target, origin, error.faults, error.request_id)
        assert isinstance(command, Open | Reboot)
        if self._stopping:
            return self._unavailable(definition, target, origin, "the bridge is stopping", command.request_id)
        if len(self._running) >= self._limits.max_running_presses:
            message = f"{self._limits.max_running_presses} presses are running"
            return self._unavailable(definition, target, origin, message, command.request_id)
        return command

    async def _run(self, press: Coroutine[Any, Any, _T], *, name: str) -> _T:
        # The press runs in its own task, because aiohttp cancels the handler when the client disconnects.
        task = self._tasks.start(press, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait((task,))
        if task.cancelled():
            raise RequestError(503, "the bridge stopped before the terminal answered")
        return task.result()

    def _invalid(
        self,
        definition: CommandDefinition,
        target: _Target,
        origin: Origin,
        faults: list[Fault] | tuple[Fault, ...],
        request_id: str | None = None,
    ) -> web.Response:
        builder = self._builder(definition, target, request_id)
        return reply_response(self._replies.publish(builder.invalid(faults, group=target.group), origin))

    def _unavailable(
        self, definition: CommandDefinition, target: _Target, origin: Origin, message: str, request_id: str | None
    ) -> web.Response:
        builder = self._builder(definition, target, request_id)
        message += "; not carried out"
        reply = builder.reply(Outcome.UNAVAILABLE, message=message, delivered=False, group=target.group)
        return reply_response(self._replies.publish(reply, origin))

    def _builder(self, definition: CommandDefinition, target: _Target, request_id: str | None) -> ReplyBuilder:
        return self._replies.builder(definition.name, request_id, target.sn)


def _response(answer: Reply | GroupSummary) -> web.Response:
    if isinstance(answer, GroupSummary):
        return summary_response(answer)
    # The press itself was valid, so `invalid` means here that the core does not know the terminal or group.
    return reply_response(answer, 404 if answer.outcome is Outcome.INVALID else None)
