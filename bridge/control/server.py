"""The bridge's side of the control channel: shows, approves and forgets terminals."""

import asyncio
import logging
import os
import pwd
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson

from bridge.control.channel import MAX_REQUEST_BYTES, address, peer_user_id
from bridge.core.admission import Admission
from bridge.core.commands import ADMIT, FORGET
from bridge.core.registry import KnownTerminal, TerminalRegistry
from bridge.core.replies import ReplyDispatcher
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import Admit, Forget
from bridge.model.faults import InvalidError
from bridge.model.origin import Origin
from bridge.model.reply import Reply, format_time

_LOGGER = logging.getLogger(__name__)

_REQUEST_SECONDS = 5.0
"""A client sends its request at once."""

_STOP_SECONDS = 2.0
"""Time that running requests have to end when the bridge stops."""

_TERMINALS_AT_ONCE = 200
"""Terminals that are encoded before other tasks run: some 0.5 ms."""


class ControlServer:
    """The server of the control channel."""

    def __init__(
        self, client_suffix: str, registry: TerminalRegistry, admission: Admission, replies: ReplyDispatcher
    ) -> None:
        """Build the server.

        Args:
            client_suffix: the random suffix in the store.
            registry: the known terminals.
            admission: approves and forgets terminals.
            replies: publishes the replies to invalid commands.
        """
        self._address = address(client_suffix)
        self._registry = registry
        self._admission = admission
        self._replies = replies
        self._server: asyncio.Server | None = None
        self._tasks = BackgroundTasks()

    async def start(self) -> None:
        """Start to listen. The bridge works without this channel, so a failure is only logged."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._address)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST_BYTES)
        except OSError as error:
            listener.close()
            _LOGGER.warning(
                "`facebridge terminals` cannot reach this bridge: %s. A bridge on a copy of this store may run here",
                error.strerror,
            )

    async def stop(self) -> None:
        """Stop to listen, and let running commands end."""
        if self._server is not None:
            self._server.close()
        await self._tasks.wait(_STOP_SECONDS)
        await self._tasks.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        try:
            user_id = peer_user_id(connection)
            if user_id not in (0, os.geteuid()):
                return
            async with asyncio.timeout(_REQUEST_SECONDS):
                line = await reader.readline()
            async for part in self._answer(orjson.loads(line), user_id):
                writer.write(part)
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:
            # A line that is too long is a ValueError too.
            _LOGGER.debug("a request on the control channel failed: %s", error)
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any], user_id: int) -> AsyncIterator[bytes]:
        if request.get("command") == "terminals":
            async for part in self._terminals():
                yield part
            return
        origin = Origin(source=str(request.get("source", "facebridge"))[:64], user=user_name(user_id))
        # A task of its own: an approval that has begun is carried out even if the client has gone.
        reply = await asyncio.shield(self._tasks.start(self._carry_out(request, origin), name="terminal command"))
        yield orjson.dumps({"reply": reply.as_json()})

    async def _carry_out(self, request: dict[str, Any], origin: Origin) -> Reply:
        definition = ADMIT if request.get("command") == ADMIT.name else FORGET
        try:
            command = definition.build_from(request.get("payload"), "")
        except InvalidError as error:
            reply = self._replies.builder(definition.name, None, None).invalid(error.faults)
            return self._replies.publish(reply, origin)
        if isinstance(command, Admit):
            return await self._admission.admit(command, origin)
        assert isinstance(command, Forget)
        return await self._admission.forget(command, origin)

    async def _terminals(self) -> AsyncIterator[bytes]:
        """Yield the JSON object of all terminals in parts, so that thousands do not hold up a press."""
        pending = [
            {
                "sn": one.sn,
                "address": one.address,
                "since": format_time(one.first_seen),
                "last_seen": format_time(one.last_seen),
            }
            for one in self._admission.pending
        ]
        yield b'{"pending":' + orjson.dumps(pending) + b',"terminals":['
        separator = b""
        terminals = list(self._registry)
        for start in range(0, len(terminals), _TERMINALS_AT_ONCE):
            encoded = [orjson.dumps(_terminal_json(one)) for one in terminals[start : start + _TERMINALS_AT_ONCE]]
            yield separator + b",".join(encoded)
            separator = b","
            await asyncio.sleep(0)
        yield b"]}"


def user_name(user_id: int) -> str:
    """Return the name of a user, as the audit shows it."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        # The user of a container often has no name.
        return f"uid {user_id}"


def _terminal_json(known: KnownTerminal) -> dict[str, Any]:
    connection, last_seen = known.connection, known.last_seen
    return {
        "sn": known.terminal.sn,
        "online": connection is not None,
        "address": None if connection is None else connection.address,
        "connected_at": None if connection is None else format_time(connection.connected_at),
        "last_seen": None if last_seen is None else format_time(last_seen),
        "name": known.terminal.name,
        "area": known.terminal.area,
        "groups": list(known.terminal.groups),
        "origin": known.terminal.origin.value,
    }
