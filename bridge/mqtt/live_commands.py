"""The live connection's commands: presses, carried out now or not at all."""

import asyncio
from contextlib import suppress
from typing import Protocol

from bridge.core.presses import Presses
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import Open, Press, Reboot
from bridge.model.origin import Origin
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import CommandReader, PayloadLimit
from bridge.mqtt.origins import origin_of
from bridge.mqtt.topics import Address, Scope, Topics

MAXIMUM_RUNNING = 1_000
"""Presses under way at once: a whole building's doors pressed together, and a bound to what a flood can cost."""

_LIMIT = PayloadLimit(4_096, "a press is PRESS or an object with a request_id")
"""A `request_id` of 128 characters, every one escaped, has 1,536 bytes."""


class Lease(Protocol):
    """What bounds the age of a message that was just received."""

    def asked_at(self) -> float | None:
        """Return the earliest time (`Clock.boottime`) it can have been asked for; None where that cannot be told."""
        ...


class LiveCommands:
    """Starts a press for each message, in the order they arrive."""

    def __init__(self, topics: Topics, gateway: CommandReader, presses: Presses, lease: Lease) -> None:
        self._topics = topics
        self._gateway = gateway
        self._presses = presses
        self._lease = lease
        self._running = BackgroundTasks()
        self._one_ended = asyncio.Event()
        self._closing = False

    @property
    def running(self) -> int:
        """Presses that have yet to end."""
        return len(self._running)

    def received(self, message: Message, *, protocol5: bool) -> None:
        """Take what came in over the live connection."""
        asked_at = self._lease.asked_at()
        address = self._topics.parse(message.topic)
        if address is None or not address.definition.urgent:
            return
        origin = origin_of(message, self._topics)
        size = len(message.payload)
        command = self._gateway.read(message, address, origin, size=size, limit=_LIMIT, may_be_empty=protocol5)
        if not isinstance(command, Open | Reboot):
            return
        if self._closing:
            self._gateway.unavailable(address, origin, "the bridge is stopping; not carried out", command.request_id)
        elif len(self._running) >= MAXIMUM_RUNNING:
            too_many = f"{MAXIMUM_RUNNING} presses are under way; not carried out"
            self._gateway.unavailable(address, origin, too_many, command.request_id)
        else:
            # Tasks take their first step in the order they were started, so presses reach a terminal as they came.
            name = f"{address.definition.name} {address.name}"
            task = self._running.start(self._press(address, command, origin, asked_at), name=name)
            task.add_done_callback(lambda _: self._one_ended.set())

    async def stop(self, grace: float) -> None:
        """Take no more presses; give up those that have not ended after `grace` seconds."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while len(self._running):
                    self._one_ended.clear()
                    await self._one_ended.wait()
        await self._running.stop()

    async def _press(self, address: Address, command: Press, origin: Origin, asked_at: float | None) -> None:
        if address.scope is Scope.GROUP:
            await self._presses.press_group(address.name, command, origin, asked_at)
        else:
            await self._presses.press(address.name, command, origin, asked_at)
