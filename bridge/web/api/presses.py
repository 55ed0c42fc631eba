"""`POST …/open` and `…/reboot`, on a terminal or a group: a route for each urgent command of the hub's table."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import hdrs, web

from bridge.core.clock import Clock
from bridge.core.command_definition import CommandDefinition, InvalidCommandError, decode_json
from bridge.core.commands import COMMANDS, OPEN
from bridge.core.event_bus import EventBus
from bridge.core.presses import Presses
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import Open, Press, Reboot
from bridge.model.faults import Fault
from bridge.model.names import is_group_name, is_serial_number
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply
from bridge.web.authentication import Role, require_role
from bridge.web.errors import RequestError, reply_response, summary_response

_T = TypeVar("_T")

MAXIMUM_BODY = 4_096
"""Bytes of a press, as over MQTT: a request_id of 128 characters, every one escaped, has 1,536."""

MAXIMUM_RUNNING = 1_000
"""Presses under way at once, as over MQTT; those whose asker hung up are among them."""

_BODY_PATIENCE = 10.0
"""Seconds to send a body of some hundred bytes in; the press may well be too old by then."""

_ROLES: Mapping[str, Role] = {OPEN.name: "operator"}
"""Whose a command is, by its name; an admin's where nothing is said."""

ARRIVED_AT: web.RequestKey[float] = web.RequestKey("arrived_at", float)
"""The earliest time (`Clock.boottime`) at which a request can have arrived; set before anything is done for it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Target:
    """What the path names; neither where it is ill-formed."""

    sn: str | None = None
    group: str | None = None


class PressRoutes:
    """Translates requests into presses, and their replies into responses."""

    def __init__(self, presses: Presses, events: EventBus, clock: Clock) -> None:
        """Build the routes.

        Args:
            presses: carries them out.
            events: told of those that cannot be obeyed, as of any other reply.
            clock: the time of such replies.
        """
        self._presses = presses
        self._replies = ReplyDispatcher(events, clock)
        self._running = BackgroundTasks()
        self._one_ended = asyncio.Event()
        self._closing = False

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for definition in COMMANDS:
            if definition.urgent:
                action = definition.topic.removesuffix("/set")
                router.add_post(f"/api/terminals/{{sn}}/{action}", self._on_terminal(definition))
                router.add_post(f"/api/groups/{{name}}/{action}", self._on_group(definition))

    async def stop(self, grace: float) -> None:
        """Take no more presses; give up those that have not ended after `grace` seconds."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while len(self._running):
                    self._one_ended.clear()
                    await self._one_ended.wait()
        await self._running.stop()

    def _on_terminal(self, definition: CommandDefinition) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            origin = _origin(request, definition)
            sn = request.match_info["sn"]
            if not is_serial_number(sn):
                return self._invalid(definition, _Target(), origin, [Fault("sn", _NAME_RULE.format("an SN"))])
            command = await self._command(request, definition, _Target(sn=sn), origin)
            if isinstance(command, web.Response):
                return command
            press = self._presses.press(sn, command, origin, request[ARRIVED_AT])
            return _response(await self._carried_out(press, name=f"{definition.name} {sn}"))

        return handle

    def _on_group(self, definition: CommandDefinition) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            origin = _origin(request, definition)
            name = request.match_info["name"]
            if not is_group_name(name):
                faults = [Fault("group", _NAME_RULE.format("a group's name"))]
                return self._invalid(definition, _Target(), origin, faults)
            command = await self._command(request, definition, _Target(group=name), origin)
            if isinstance(command, web.Response):
                return command
            press = self._presses.press_group(name, command, origin, request[ARRIVED_AT])
            return _response(await self._carried_out(press, name=f"{definition.name} group {name}"))

        return handle

    async def _command(
        self, request: web.Request, definition: CommandDefinition, target: _Target, origin: Origin
    ) -> Press | web.Response:
        """Return the press that a request asks for, or the response that says why it is not carried out.

        Raises:
            RequestError: the body is none that a press could be in.
        """
        try:
            command = definition.build_from(await _read(request), target.sn or target.group or "")
        except InvalidCommandError as error:
            return self._invalid(definition, target, origin, error.faults, error.request_id)
        assert isinstance(command, Open | Reboot)
        if self._closing:
            return self._unavailable(definition, target, origin, "the bridge is stopping", command.request_id)
        if len(self._running) >= MAXIMUM_RUNNING:
            message = f"{MAXIMUM_RUNNING} presses are under way"
            return self._unavailable(definition, target, origin, message, command.request_id)
        return command

    async def _carried_out(self, press: Coroutine[Any, Any, _T], *, name: str) -> _T:
        # A task of its own: whoever hangs up must not stop a press half-way.
        task = self._running.start(press, name=name)
        task.add_done_callback(lambda _: self._one_ended.set())
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
        asked = self._asked(definition, target, request_id)
        return reply_response(self._replies.publish(asked.invalid(faults, group=target.group), origin))

    def _unavailable(
        self, definition: CommandDefinition, target: _Target, origin: Origin, message: str, request_id: str | None
    ) -> web.Response:
        asked = self._asked(definition, target, request_id)
        message += "; not carried out"
        reply = asked.reply(Outcome.UNAVAILABLE, message=message, delivered=False, group=target.group)
        return reply_response(self._replies.publish(reply, origin))

    def _asked(self, definition: CommandDefinition, target: _Target, request_id: str | None) -> ReplyBuilder:
        return self._replies.builder(definition.name, request_id, target.sn)


_NAME_RULE = "{} has 1 to 64 letters, digits, _ and -"


def _origin(request: web.Request, definition: CommandDefinition) -> Origin:
    """Return who asks, if they may. Raises RequestError."""
    user = require_role(request, _ROLES.get(definition.name, "admin"))
    return Origin(source=f"{request.method} {request.path}", user=user.name)


async def _read(request: web.Request) -> object:
    """Return the JSON of a request's body, None for an empty one.

    Raises:
        RequestError: it is too large, too slow, broken, or of another type.
        InvalidCommandError: it is not JSON.
    """
    body = await _body(request)
    if not body:
        return None
    if request.content_type != "application/json":
        raise RequestError(415, "a body must be application/json", path=hdrs.CONTENT_TYPE)
    if hdrs.CONTENT_ENCODING in request.headers:
        raise RequestError(415, "a body must not be compressed", path=hdrs.CONTENT_ENCODING)
    return decode_json(body, "body")


async def _body(request: web.Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_PATIENCE):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAXIMUM_BODY:
                    raise RequestError(413, f"a press has at most {MAXIMUM_BODY} bytes")
    except TimeoutError:
        raise RequestError(408, f"the body did not come within {_BODY_PATIENCE:.0f} s") from None
    except web.RequestPayloadError:
        raise RequestError(400, "the body is broken") from None
    return bytes(body)


def _response(answer: Reply | GroupSummary) -> web.Response:
    if isinstance(answer, GroupSummary):
        return summary_response(answer)
    # What the hub finds invalid in a press that could be read is its terminal or group: nobody knows it.
    return reply_response(answer, 404 if answer.outcome is Outcome.INVALID else None)
