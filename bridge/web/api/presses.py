"""`POST …/open` and `…/reboot` on a terminal or a group: a route for each urgent command of the core's table."""

import asyncio
from collections.abc import Iterator, Mapping

from aiohttp import web

from bridge.core.command_definition import CommandDefinition, InvalidCommandError
from bridge.core.commands import COMMANDS, OPEN
from bridge.core.presses import Presses
from bridge.core.repeated_presses import RepeatedPresses
from bridge.core.replies import ReplyDispatcher
from bridge.model.commands import Press
from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA, GroupSummary, Outcome, Reply
from bridge.web.api.bodies import ENCODED_CHUNK_FACTOR, read_json
from bridge.web.api.commands import CommandRequest, RunningCommands
from bridge.web.api.common import failure, reply, summary
from bridge.web.connections import arrived_at
from bridge.web.context import WebLimits
from bridge.web.errors import reply_response, summary_response
from bridge.web.logins import Role
from bridge.web.routes import JSON, Handler, RequestBody, ResponseContent, Route

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


class PressRoutes:
    """Routes that turn requests into presses, and the replies into responses."""

    def __init__(
        self, presses: Presses, replies: ReplyDispatcher, repeated_presses: RepeatedPresses, limits: WebLimits
    ) -> None:
        """Build the routes.

        Args:
            presses: carries presses out.
            replies: publishes replies to rejected presses, as other replies are.
            repeated_presses: recognises a press that a client sends again.
            limits: of bodies and running presses.
        """
        self._presses = presses
        self._replies = replies
        self._repeated_presses = repeated_presses
        self._limits = limits
        self._running = RunningCommands(limits.max_running_presses, "presses")

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
                    handler=self._handler(definition),
                    summary=definition.description.partition(".")[0],
                    tag="terminals",
                    role=role,
                    body=body,
                    responses=_RESPONSES,
                )
                yield Route(
                    method="POST",
                    path=f"/api/groups/{{name}}/{action}",
                    handler=self._handler(definition),
                    summary=f"{definition.description.partition('.')[0]} on every member at once",
                    tag="groups",
                    role=role,
                    body=body,
                    responses=_GROUP_RESPONSES,
                )

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more presses, and cancel those that still run after `grace_seconds`."""
        await self._running.stop(grace_seconds)

    def _handler(self, definition: CommandDefinition) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            target = CommandRequest.of(request, definition, self._replies)
            press = await self._read(request, target)
            return _response(await self._running.run(self._press(request, target, press), name=definition.name))

        return handle

    async def _read(self, request: web.Request, target: CommandRequest) -> Press:
        """Return the press of a request. Raises RequestError if it is rejected."""
        try:
            value = await read_json(request, MAX_BODY_BYTES, self._limits.body_seconds)
        except InvalidCommandError as error:
            raise target.invalid(error.faults) from None
        press = target.build(value)
        assert isinstance(press, Press)
        self._running.check(target, press.request_id)
        return press

    async def _press(self, request: web.Request, target: CommandRequest, press: Press) -> Reply | GroupSummary:
        if press.asked_at is None:
            return await self._start(request, target, press)
        digest = f"{request.path} {press!r}"
        earlier = self._repeated_presses.find(digest)
        if earlier is None:
            earlier = self._start(request, target, press)
            self._repeated_presses.add(digest, earlier, press.asked_at)
        # Another request may wait for the same press, so the end of this one must not cancel it.
        answer: Reply | GroupSummary = await asyncio.shield(earlier)
        return answer

    def _start(
        self, request: web.Request, target: CommandRequest, press: Press
    ) -> "asyncio.Future[Reply] | asyncio.Future[GroupSummary | Reply]":
        if target.group is not None:
            return self._presses.press_group(target.group, press, target.origin, arrived_at(request))
        return self._presses.press(target.target, press, target.origin, arrived_at(request))


def _response(answer: Reply | GroupSummary) -> web.Response:
    if isinstance(answer, GroupSummary):
        return summary_response(answer)
    # The press itself was valid, so `invalid` means here that the core does not know the terminal or group.
    return reply_response(answer, 404 if answer.outcome is Outcome.INVALID else None)
