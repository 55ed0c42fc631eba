"""Promise 1: `open` and `reboot` are carried out at most once, before their deadline, or not at all."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from bridge.core.clock import Clock
from bridge.core.commands import OPEN, REBOOT
from bridge.core.event_bus import EventBus
from bridge.core.ports import Connection, ConnectionLostError
from bridge.core.registry import KnownTerminal, TerminalRegistry
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.model.commands import Open, Press
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import encode_open, encode_reboot

_LOGGER = logging.getLogger(__name__)

MAXIMUM_WAITING = 32
"""Presses that may wait for the answer of one terminal: many people at one door, but not a flood."""

_IN_THE_MACHINE = 3.0
"""Seconds that a packet can lie in this machine after its connection was reset. Where a cable is pulled, the kernel
keeps it while it looks for the neighbour, three times for a second (arp(7): `ucast_solicit`, `retrans_time_ms`), and
sends it when the cable is back. Seen: an open carried out after its reset."""

_LEAST_FOR_TAKING = 0.4
"""Part of the deadline that a terminal's side has at least to acknowledge a press; a LAN needs a thousandth of it."""

_LONGEST_WAIT = 0.5
"""Seconds after which a waiting press looks at the clock again. The event loop's timers stand still in a suspended
machine; the deadline does not."""


class Presses:
    """Carries presses to terminals that are connected now."""

    def __init__(
        self,
        registry: TerminalRegistry,
        events: EventBus,
        clock: Clock,
        new_msgid: Callable[[], str],
        deadline: float,
    ) -> None:
        """Build the dispatcher.

        Args:
            registry: of the terminals.
            events: told every reply.
            clock: that ages are read from.
            new_msgid: makes an id that was never used before.
            deadline: seconds from being asked for, within which a press is carried out or not at all.
        """
        self._registry = registry
        self._replies = ReplyDispatcher(events, clock)
        self._clock = clock
        self._new_msgid = new_msgid
        self._deadline = deadline
        # What is not taken by then is withdrawn, so early that the deadline finds no copy of it on the way.
        self._take_within = max(deadline - _IN_THE_MACHINE, deadline * _LEAST_FOR_TAKING)
        self._waiting: dict[str, int] = {}

    async def press(self, sn: str, command: Press, origin: Origin, asked_at: float | None) -> Reply:
        """Carry out a press on one terminal, and tell whoever asked how it ended.

        Args:
            sn: the terminal.
            command: what.
            origin: who asked.
            asked_at: the earliest time (`Clock.boottime`) at which it can have been asked for; None where that
                cannot be told, so that it counts as too old.
        """
        asked = self._replies.builder(_name(command), command.request_id, sn)
        return self._replies.publish(await self._press(asked, command, asked_at), origin)

    async def press_group(
        self, group: str, command: Press, origin: Origin, asked_at: float | None
    ) -> GroupSummary | Reply:
        """Carry out a press on every member of a group at once; as `press` for each.

        Returns:
            The summary, or an `invalid` reply for a group that is unknown or empty.
        """
        name = _name(command)
        members = self._registry.members(group)
        if not members:
            asked = self._replies.builder(name, command.request_id, None)
            return self._replies.publish(asked.unknown_group(group), origin)
        members_origin = replace(origin, response_topic=None, correlation_data=None)
        replies = await asyncio.gather(
            *(self.press(known.terminal.sn, command, members_origin, asked_at) for known in members)
        )
        return self._replies.publish_summary(replies, name, group, command.request_id, origin)

    async def _press(self, asked: ReplyBuilder, command: Press, asked_at: float | None) -> Reply:
        sn = asked.sn or ""
        known = self._registry.get(sn)
        if known is None:
            return asked.unknown_terminal()
        if asked_at is None or self._clock.boottime() >= asked_at + self._deadline:
            return asked.reply(Outcome.EXPIRED, message="reached the bridge too late; not carried out", delivered=False)
        if known.connection is None:
            return asked.reply(
                Outcome.OFFLINE, message="the terminal is not connected; not carried out", delivered=False
            )
        if self._waiting.get(sn, 0) >= MAXIMUM_WAITING:
            return asked.reply(
                Outcome.UNAVAILABLE,
                message=f"{MAXIMUM_WAITING} presses already wait for this terminal; not carried out",
                delivered=False,
            )
        self._waiting[sn] = self._waiting.get(sn, 0) + 1
        try:
            return await self._send(asked, command, known, known.connection, asked_at)
        finally:
            self._waiting[sn] -= 1
            if not self._waiting[sn]:
                del self._waiting[sn]

    async def _send(
        self, asked: ReplyBuilder, command: Press, known: KnownTerminal, connection: Connection, asked_at: float
    ) -> Reply:
        msgid = self._new_msgid()
        encode = encode_open if isinstance(command, Open) else encode_reboot
        answered: asyncio.Future[TerminalReply | None] = asyncio.get_running_loop().create_future()
        unexpect = known.expect(
            msgid,
            connection,
            on_reply=lambda reply: _settle(answered, reply),
            on_lost=lambda: _settle(answered, None),
        )
        _LOGGER.debug(
            "%s goes to terminal %s",
            asked.command,
            asked.sn,
            extra={"sn": asked.sn, "msgid": msgid, "request_id": asked.request_id},
        )
        try:
            position = await connection.send(encode(msgid=msgid, sn=connection.sn))
            await self._wait(answered, asked_at + self._take_within)
            if not answered.done() and connection.acknowledged(position) is not True:
                unexpect()
                connection.reset("a press was not taken in time")
            await self._wait(answered, asked_at + self._deadline)
        except ConnectionLostError:
            return asked.reply(
                Outcome.LOST, msgid=msgid, message="the connection broke; not carried out", delivered=False
            )
        finally:
            unexpect()
        if not answered.done():
            return self._timed_out(asked, msgid, connection, position)
        reply = answered.result()
        if reply is None:
            return asked.reply(
                Outcome.LOST,
                msgid=msgid,
                message="the connection broke before the answer",
                delivered=connection.acknowledged(position),
            )
        return asked.answered(reply)

    async def _wait(self, answered: "asyncio.Future[TerminalReply | None]", until: float) -> None:
        while not answered.done() and (left := until - self._clock.boottime()) > 0:
            await asyncio.wait((answered,), timeout=min(left, _LONGEST_WAIT))

    def _timed_out(self, asked: ReplyBuilder, msgid: str, connection: Connection, position: int) -> Reply:
        delivered = connection.acknowledged(position) is True
        return asked.reply(
            Outcome.TIMEOUT,
            msgid=msgid,
            message="no answer from the terminal" if delivered else "the terminal did not take it; withdrawn",
            delivered=delivered,
        )


def _settle(answered: "asyncio.Future[TerminalReply | None]", reply: TerminalReply | None) -> None:
    if not answered.done():
        answered.set_result(reply)


def _name(command: Press) -> str:
    return (OPEN if isinstance(command, Open) else REBOOT).name
