"""The commands of the live connection: presses, carried out now or not at all."""

import asyncio
from contextlib import suppress
from typing import Any

from bridge.core.presses import Presses
from bridge.core.repeated_presses import RepeatedPresses
from bridge.model.commands import Press
from bridge.model.faults import Fault
from bridge.model.reply import GroupSummary, Reply
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import CommandContext, CommandReader, PayloadRules, message_digest
from bridge.mqtt.lease import Lease
from bridge.mqtt.topics import Scope

MAXIMUM_RUNNING = 1_000
"""Presses in progress: all doors of a building pressed together. It bounds the cost of a flood."""

_MAX_CONTEXTS = 10_000
"""Topics whose contexts are kept. Clients can press on any number of topics."""

_EXACTLY_ONCE = 2
_QOS_2_FAULT = Fault(
    "qos", "a press with QoS 2 is not carried out, because it can arrive late: publish it with QoS 0 or 1"
)
"""The broker passes on a QoS 2 message at its second half (PUBREL), which can come at any time after the first. A press
of 9.0 s was carried out this way."""

_MAX_PRESS_BYTES = 4_096
"""A press whose `request_id` has 128 characters, every one escaped, has 1,536 bytes."""


def press_rules(protocol: str) -> PayloadRules:
    """Return the accepted payloads of presses over a version of MQTT (`mqtt.protocol`)."""
    return PayloadRules(
        max_bytes=_MAX_PRESS_BYTES,
        advice="a press is PRESS or an object with a request_id",
        may_be_empty=protocol == "5",
    )


class LiveCommands:
    """Starts a press for each message, in the order of arrival."""

    def __init__(
        self, reader: CommandReader, presses: Presses, lease: Lease, repeated_presses: RepeatedPresses
    ) -> None:
        self._reader = reader
        self._presses = presses
        self._lease = lease
        self._repeated_presses = repeated_presses
        self._contexts: dict[tuple[str, bool], CommandContext] = {}
        self._running = 0
        self._one_ended = asyncio.Event()
        self._closing = False

    @property
    def running(self) -> int:
        """The number of presses in progress."""
        return self._running

    def received(self, message: Message) -> None:
        """Handle a message of the live connection."""
        requested_at = self._lease.requested_at()
        context = self._context(message)
        if context is None:
            self._reader.reply_incomplete(message)
            return
        command = self._reader.read(message, context)
        if not isinstance(command, Press):
            return
        if message.qos == _EXACTLY_ONCE:
            self._reader.reply_invalid(context, [_QOS_2_FAULT], command.request_id)
        elif self._closing:
            self._reader.reply_unavailable(context, "the bridge is stopping; not carried out", command.request_id)
        elif self._running >= MAXIMUM_RUNNING:
            reason = f"{MAXIMUM_RUNNING} presses are in progress; not carried out"
            self._reader.reply_unavailable(context, reason, command.request_id)
        else:
            self._start(message, context, command, requested_at)

    async def stop(self, grace: float) -> None:
        """Accept no more presses, and wait at most `grace` seconds for those in progress."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._running:
                    self._one_ended.clear()
                    await self._one_ended.wait()

    def _context(self, message: Message) -> CommandContext | None:
        """Return a message's context: the same one for each message of a topic without a Response Topic."""
        if message.response_topic is not None:
            return self._reader.context(message)
        key = (message.topic, message.qos > 0)
        context = self._contexts.get(key)
        if context is None and (context := self._reader.context(message)) is not None:
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            self._contexts[key] = context
        return context

    def _start(self, message: Message, context: CommandContext, command: Press, requested_at: float | None) -> None:
        if command.asked_at is None:
            self._press(context, command, requested_at)
            return
        digest = message_digest(message)
        earlier = self._repeated_presses.find(digest)
        if earlier is None:
            press = self._press(context, command, requested_at)
            self._repeated_presses.add(digest, press, command.asked_at)
        elif earlier.done():
            self._reply_again(context, earlier)
        else:
            earlier.add_done_callback(lambda _: self._reply_again(context, earlier))

    def _press(
        self, context: CommandContext, command: Press, requested_at: float | None
    ) -> "asyncio.Future[Reply] | asyncio.Future[Reply | GroupSummary]":
        """Start a press, and count it until it has ended.

        It is written before this returns, if possible, so presses keep their order.
        """
        address = context.address
        if address.scope is Scope.GROUP:
            group = self._presses.press_group(address.name, command, context.origin, requested_at)
            self._running += 1
            group.add_done_callback(lambda _: self._ended())
            return group
        press = self._presses.press(address.name, command, context.origin, requested_at, on_end=self._ended)
        if not press.done():
            self._running += 1
        return press

    def _ended(self) -> None:
        self._running -= 1
        self._one_ended.set()

    def _reply_again(self, context: CommandContext, earlier: "asyncio.Future[Any]") -> None:
        if not earlier.cancelled() and earlier.exception() is None:
            self._reader.reply_again(context, earlier.result())
