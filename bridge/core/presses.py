"""Presses: carry out `open` and `reboot` at most once and before their deadline, or not at all (promise 1)."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bridge.core.clock import Clock
from bridge.core.commands import OPEN, REBOOT
from bridge.core.event_bus import EventBus
from bridge.core.ports import Connection, ConnectionLostError, WrittenFrame
from bridge.core.registry import KnownTerminal, TerminalRegistry
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.core.request_age import request_age
from bridge.model.commands import Open, Press
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import encode_open, encode_reboot

_LOGGER = logging.getLogger(__name__)

MAXIMUM_WAITING = 32
"""Presses that may wait for one terminal's answer: enough for many people at one door, but a bound for a flood."""

_NEIGHBOUR_DISCOVERY_SECONDS = 3.0
"""A packet can stay in this machine for this long after its connection was reset. If a cable is pulled, the kernel
keeps the packet while it looks for the neighbour, three times for a second (arp(7): `ucast_solicit`,
`retrans_time_ms`), and sends it if the cable comes back. Measured: an `open` was carried out after its reset."""

_MIN_ACKNOWLEDGE_FRACTION = 0.4
"""The part of the deadline that a terminal's kernel has at least to acknowledge a press. A LAN needs a thousandth."""

_MIN_WITHDRAW_FRACTION = 0.1
_MAX_WITHDRAW_SECONDS = 0.5
"""A press is written only if the terminal's kernel has at least this part of the deadline to acknowledge it, and at
most this time: a mobile network needs 0.3 s. With less, the bridge would write the press and withdraw it in the same
instant: measured, the door opened in 7 of 14 such cases, and each time the connection was lost."""

_FIRST_POLL_SECONDS = 0.002
_MAX_POLL_SECONDS = 0.05
"""A press that waits for the buffers of its connection checks them after the first interval, then after doubled ones up
to the second. The kernel has no event for acknowledged bytes. A check takes some 10 microseconds."""

_MAX_WAIT_SECONDS = 0.5
"""A waiting press reads the clock at least this often. The event loop's timers stand still in a suspended machine;
the deadline does not."""


@dataclass(slots=True)
class _PressQueue:
    """The presses in progress on one terminal.

    Attributes:
        number: how many there are.
        turn: is held by the one that is about to be written. The others get it in the order of their arrival.
    """

    number: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Presses:
    """Carries out presses on connected terminals."""

    def __init__(
        self,
        registry: TerminalRegistry,
        events: EventBus,
        clock: Clock,
        new_msgid: Callable[[], str],
        deadline: float,
    ) -> None:
        """Build the press service.

        Args:
            registry: the terminals.
            events: every reply is published there.
            clock: ages are computed from it.
            new_msgid: returns an id that was never used before.
            deadline: seconds after its request within which a press is carried out or not at all.
        """
        self._registry = registry
        self._replies = ReplyDispatcher(events, clock)
        self._clock = clock
        self._new_msgid = new_msgid
        self._deadline = deadline
        # A press that is not acknowledged by then is withdrawn, so early that no copy of it is left at the deadline.
        self._acknowledge_within = max(deadline - _NEIGHBOUR_DISCOVERY_SECONDS, deadline * _MIN_ACKNOWLEDGE_FRACTION)
        self._write_within = self._acknowledge_within - min(deadline * _MIN_WITHDRAW_FRACTION, _MAX_WITHDRAW_SECONDS)
        self._queues: dict[str, _PressQueue] = {}

    async def press(self, sn: str, command: Press, origin: Origin, requested_at: float | None) -> Reply:
        """Carry out a press on one terminal, publish the reply and return it.

        Args:
            sn: the terminal.
            command: the press.
            origin: where it came from.
            requested_at: the earliest time (`Clock.boottime`) at which it can have been requested, as the bridge
                measured it; the press counts from its `asked_at` if that is older. None if it is unknown: the press
                then counts as too old.
        """
        reply_builder = self._replies.builder(_name(command), command.request_id, sn)
        return self._replies.publish(await self._press(reply_builder, command, requested_at), origin)

    async def press_group(
        self, group: str, command: Press, origin: Origin, requested_at: float | None
    ) -> GroupSummary | Reply:
        """Carry out a press on every member of a group at once, each as `press` does.

        Returns:
            The summary, or an `invalid` reply for a group that is unknown or empty.
        """
        name = _name(command)
        members = self._registry.members(group)
        if not members:
            reply_builder = self._replies.builder(name, command.request_id, None)
            return self._replies.publish(reply_builder.unknown_group(group), origin)
        # Only the summary goes to the Response Topic, not every member's reply.
        member_origin = replace(origin, response_topic=None, correlation_data=None)
        replies = await asyncio.gather(
            *(self.press(known.terminal.sn, command, member_origin, requested_at) for known in members)
        )
        return self._replies.publish_summary(replies, name, group, command.request_id, origin)

    async def _press(self, reply_builder: ReplyBuilder, command: Press, requested_at: float | None) -> Reply:
        sn = reply_builder.sn or ""
        known = self._registry.get(sn)
        if known is None:
            return reply_builder.unknown_terminal()
        age = request_age(self._clock, requested_at, command.asked_at, self._write_within)
        requested_at = age.requested_at
        if requested_at is None or self._is_too_late(requested_at):
            too_late = "reached the bridge too late; not carried out"
            return reply_builder.reply(
                Outcome.EXPIRED, message=f"{too_late} ({age.note})" if age.note else too_late, delivered=False
            )
        if known.connection is None:
            return reply_builder.reply(
                Outcome.OFFLINE, message="the terminal is not connected; not carried out", delivered=False
            )
        if not known.connection.responsive:
            return reply_builder.unavailable(
                "the terminal received an earlier press, did not answer it and has sent nothing since; not carried "
                "out: check the terminal",
                delivered=False,
            )
        queue = self._queues.setdefault(sn, _PressQueue())
        if queue.number >= MAXIMUM_WAITING:
            return reply_builder.unavailable(
                f"{MAXIMUM_WAITING} presses already wait for this terminal; not carried out", delivered=False
            )
        queue.number += 1
        try:
            return await self._send(reply_builder, command, known, known.connection, requested_at)
        finally:
            queue.number -= 1
            if not queue.number:
                del self._queues[sn]

    async def _send(
        self,
        reply_builder: ReplyBuilder,
        command: Press,
        known: KnownTerminal,
        connection: Connection,
        requested_at: float,
    ) -> Reply:
        """Write a press to a connection and return the reply to it."""
        msgid = self._new_msgid()
        encode = encode_open if isinstance(command, Open) else encode_reboot
        answer: asyncio.Future[TerminalReply | None] = asyncio.get_running_loop().create_future()
        cancel_expected = known.expect(
            msgid,
            connection,
            on_reply=lambda reply: _set_answer(answer, reply),
            on_lost=lambda: _set_answer(answer, None),
        )
        _LOGGER.debug(
            "sending %s to terminal %s",
            reply_builder.command,
            reply_builder.sn,
            extra={"sn": reply_builder.sn, "msgid": msgid, "request_id": reply_builder.request_id},
        )
        try:
            written = await self._write(connection, encode(msgid=msgid, sn=connection.sn), requested_at)
            if written is None:
                return reply_builder.reply(
                    Outcome.TIMEOUT,
                    message="other data still waited to be sent to the terminal; not carried out",
                    delivered=False,
                )
            await self._wait(answer, requested_at + self._acknowledge_within)
            if not answer.done() and connection.delivered(written) is not True:
                cancel_expected()
                connection.reset("a press was not acknowledged in time")
            await self._wait(answer, requested_at + self._deadline)
        except ConnectionLostError:
            return reply_builder.reply(
                Outcome.LOST, msgid=msgid, message="the connection broke; not carried out", delivered=False
            )
        finally:
            cancel_expected()
        if not answer.done():
            return await self._timed_out(reply_builder, msgid, connection, written)
        terminal_reply = answer.result()
        if terminal_reply is None:
            return reply_builder.reply(
                Outcome.LOST,
                msgid=msgid,
                message="the connection broke before the answer",
                delivered=connection.delivered(written),
            )
        return reply_builder.from_terminal(terminal_reply)

    async def _write(self, connection: Connection, frame: bytes, requested_at: float) -> WrittenFrame | None:
        """Write a press as soon as TCP would transmit it at once; return None if it is too late before that.

        The press waits here and not in a buffer, because the kernel empties its buffers while this process is frozen.
        Presses are written in the order of their arrival. Only computation lies between the last look at the clock and
        the write: `send_urgent` does not suspend.
        """
        async with self._queues[connection.sn].turn:
            if self._is_too_late(requested_at):
                return None
            if (written := await connection.send_urgent(frame)) is not None:
                return written
            poll_seconds = _FIRST_POLL_SECONDS
            with connection.reserve():
                while True:
                    await asyncio.sleep(poll_seconds)
                    poll_seconds = min(2 * poll_seconds, _MAX_POLL_SECONDS)
                    if self._is_too_late(requested_at):
                        return None
                    if (written := await connection.send_urgent(frame)) is not None:
                        return written

    def _is_too_late(self, requested_at: float) -> bool:
        """Return whether too little of the deadline is left to write a press and to withdraw it in time."""
        return self._clock.boottime() >= requested_at + self._write_within

    async def _wait(self, answer: "asyncio.Future[TerminalReply | None]", until: float) -> None:
        while not answer.done() and (left := until - self._clock.boottime()) > 0:
            await asyncio.wait((answer,), timeout=min(left, _MAX_WAIT_SECONDS))

    async def _timed_out(
        self, reply_builder: ReplyBuilder, msgid: str, connection: Connection, written: WrittenFrame
    ) -> Reply:
        delivered = connection.delivered(written)
        if delivered:
            # A program that hangs would carry out everything that it has received when it continues.
            await connection.probe()
        return reply_builder.reply(
            Outcome.TIMEOUT, msgid=msgid, message=_TIMEOUT_MESSAGES[delivered], delivered=delivered
        )


_TIMEOUT_MESSAGES = {
    True: "no answer from the terminal",
    False: "it could not be sent to the terminal; withdrawn",
    None: "sent, but the terminal did not acknowledge it: it may have been carried out before the deadline, not later",
}
"""By `Connection.delivered`."""


def _set_answer(answer: "asyncio.Future[TerminalReply | None]", reply: TerminalReply | None) -> None:
    if not answer.done():
        answer.set_result(reply)


def _name(command: Press) -> str:
    return (OPEN if isinstance(command, Open) else REBOOT).name
