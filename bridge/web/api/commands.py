"""Requests that carry a command: their target, their rejection, and the tasks that carry them out."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from bridge.core.command_definition import CommandDefinition, InvalidCommandError
from bridge.core.replies import ReplyDispatcher
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import Command
from bridge.model.faults import Fault
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from bridge.net.listening import wait_for_tasks
from bridge.web.api.common import name_fault
from bridge.web.authentication import USER
from bridge.web.errors import STATUS, RequestError, reply_response

_T = TypeVar("_T")


class RejectedCommandError(RequestError):
    """A command that was not passed on; its reply has been published.

    Attributes:
        reply: the reply.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(STATUS[reply.outcome], reply.message or "")
        self.reply = reply

    def response(self) -> web.Response:
        """Return the reply as a response."""
        return reply_response(self.reply)


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A request that carries a command.

    Attributes:
        definition: of the command.
        replies: publishes the replies to rejected commands, as other replies are.
        origin: of the command.
        sn: the terminal in the path.
        group: the group in the path.
    """

    definition: CommandDefinition
    replies: ReplyDispatcher
    origin: Origin
    sn: str | None = None
    group: str | None = None

    @classmethod
    def of(cls, request: web.Request, definition: CommandDefinition, replies: ReplyDispatcher) -> "CommandRequest":
        """Read the origin, and the terminal (`sn`) or the group (`name`) in the path.

        Raises:
            RejectedCommandError: the path is malformed.
        """
        origin = Origin(source=f"{request.method} {request.path}", user=request[USER].name)
        sn, group = request.match_info.get("sn"), request.match_info.get("name")
        for part, key, name in (("sn", "sn", sn), ("name", "group", group)):
            fault = None if name is None else name_fault(part, name)
            if fault is not None:
                raise cls(definition, replies, origin).invalid([Fault(key, fault)])
        return cls(definition, replies, origin, sn, group)

    @property
    def target(self) -> str:
        """The terminal or the group."""
        return self.sn or self.group or ""

    def build(self, value: object) -> Command:
        """Return the command that decoded JSON holds. Raises RejectedCommandError."""
        try:
            return self.definition.build_from(value, self.target)
        except InvalidCommandError as error:
            raise self.invalid(error.faults, error.request_id) from None

    def invalid(self, faults: Sequence[Fault], request_id: str | None = None) -> RejectedCommandError:
        """Publish an `invalid` reply; return the error to raise."""
        builder = self.replies.builder(self.definition.name, request_id, self.sn)
        return self._rejected(builder.invalid(faults, group=self.group))

    def unavailable(self, message: str, request_id: str | None) -> RejectedCommandError:
        """Publish an `unavailable` reply; return the error to raise."""
        builder = self.replies.builder(self.definition.name, request_id, self.sn)
        message += "; not carried out"
        return self._rejected(builder.reply(Outcome.UNAVAILABLE, message=message, delivered=False, group=self.group))

    def _rejected(self, reply: Reply) -> RejectedCommandError:
        return RejectedCommandError(self.replies.publish(reply, self.origin))


class RunningCommands:
    """The commands that run at present, each in a task of its own.

    A client that disconnects ends neither a press, nor the publishing of the replies to a person change.
    """

    def __init__(self, max_running: int, kind: str) -> None:
        """Store the limit.

        Args:
            max_running: commands that may run at once.
            kind: what they are, in the plural.
        """
        self._max_running = max_running
        self._kind = kind
        self._tasks = BackgroundTasks()
        self._running: set[asyncio.Task[Any]] = set()
        self._is_stopping = False

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more commands, and cancel those that still run after `grace_seconds`."""
        self._is_stopping = True
        await wait_for_tasks(self._running, grace_seconds)
        await self._tasks.stop()

    def check(self, request: CommandRequest, request_id: str | None) -> None:
        """Raise RejectedCommandError if no command can be accepted now."""
        if self._is_stopping:
            raise request.unavailable("the bridge is stopping", request_id)
        if len(self._running) >= self._max_running:
            raise request.unavailable(f"{self._max_running} {self._kind} are running", request_id)

    async def run(self, command: Coroutine[Any, Any, _T], *, name: str) -> _T:
        """Run a command to its end and return its result. Raises RequestError if the bridge stops before."""
        task = self._tasks.start(command, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait((task,))
        if task.cancelled():
            raise RequestError(503, "the bridge stopped before the command ended")
        return task.result()
