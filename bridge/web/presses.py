"""`POST …/open` and `…/reboot`, on a terminal or a group: a route for each urgent command of the hub's table."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from bridge.hub.commands import COMMANDS, CommandDefinition, InvalidCommandError
from bridge.hub.presses import Presses
from bridge.hub.registry import TerminalRegistry
from bridge.hub.stall import StallWatch
from bridge.hub.tasks import BackgroundTasks
from bridge.model.commands import Open, Press, Reboot
from bridge.model.names import is_group_name, is_serial_number
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary
from bridge.web.errors import error_response, reply_response, summary_response
from bridge.web.security import USER

MAXIMUM_BODY = 4096
"""Bytes of a press: a request_id of 128 characters, every one escaped, has 1,536."""

MAXIMUM_RUNNING = 1000
"""Presses under way at once, as over MQTT."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ARRIVED_AT: web.RequestKey[float] = web.RequestKey("arrived_at", float)
"""The earliest time at which a request can have arrived; set before anything else is done for it."""


class PressRoutes:
    """Translates requests into presses and replies into responses."""

    def __init__(self, registry: TerminalRegistry, presses: Presses, stall: StallWatch) -> None:
        self._registry = registry
        self._presses = presses
        self._stall = stall
        self._running = BackgroundTasks()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for definition in COMMANDS:
            if definition.urgent:
                action = definition.topic.removesuffix("/set")
                router.add_post(f"/api/terminals/{{sn}}/{action}", self._on_terminal(definition))
                router.add_post(f"/api/groups/{{name}}/{action}", self._on_group(definition))

    async def stop(self) -> None:
        """Give up presses that have not ended."""
        await self._running.stop()

    def _on_terminal(self, definition: CommandDefinition) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            sn = request.match_info["sn"]
            if not is_serial_number(sn):
                return error_response(400, "an SN has 1 to 64 letters, digits, _ and -", path="sn")
            if sn not in self._registry:
                return error_response(404, f"terminal {sn} is not known", path="sn")
            command = await _read(request, definition, sn)
            if isinstance(command, web.Response):
                return command
            asked_at = request[ARRIVED_AT]
            if len(self._running) >= MAXIMUM_RUNNING:
                return error_response(503, f"{MAXIMUM_RUNNING} presses are under way")
            # A task of its own: whoever hangs up must not stop a press half-way.
            press = self._presses.press(sn, command, _origin(request), asked_at)
            return reply_response(await asyncio.shield(self._running.start(press, name=f"{definition.name} {sn}")))

        return handle

    def _on_group(self, definition: CommandDefinition) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            if not is_group_name(name):
                return error_response(400, "a group's name has 1 to 64 letters, digits, _ and -", path="group")
            command = await _read(request, definition, name)
            if isinstance(command, web.Response):
                return command
            asked_at = request[ARRIVED_AT]
            if len(self._running) >= MAXIMUM_RUNNING:
                return error_response(503, f"{MAXIMUM_RUNNING} presses are under way")
            press = self._presses.press_group(name, command, _origin(request), asked_at)
            answer = await asyncio.shield(self._running.start(press, name=f"{definition.name} group {name}"))
            if isinstance(answer, GroupSummary):
                return summary_response(answer)
            unknown = answer.outcome is Outcome.INVALID
            return error_response(404, answer.faults[0].message, path="group") if unknown else reply_response(answer)

        return handle


async def _read(request: web.Request, definition: CommandDefinition, target: str) -> Press | web.Response:
    """Read a press from the body, which may be empty; or return the response to one that is none."""
    body = await request.content.read(MAXIMUM_BODY + 1)
    if len(body) > MAXIMUM_BODY:
        return error_response(413, f"a press has at most {MAXIMUM_BODY} bytes")
    if body and request.content_type != "application/json":
        return error_response(415, "a body must be application/json")
    try:
        command = definition.build_from(orjson.loads(body) if body else None, target)
    except orjson.JSONDecodeError as error:
        return error_response(400, f"is not JSON in UTF-8 (line {error.lineno}, column {error.colno})")
    except InvalidCommandError as error:
        fault = error.faults[0]
        return error_response(400, fault.message, path=fault.path)
    assert isinstance(command, Open | Reboot)
    return command


def _origin(request: web.Request) -> Origin:
    return Origin(source=f"{request.method} {request.path}", user=request[USER].name)
