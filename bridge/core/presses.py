"""Presses: carry out `open` and `reboot` at most once and before their deadline, or not at all (promise 1)."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from bridge.core.clock import Clock
from bridge.core.commands import OPEN, REBOOT
from bridge.core.event_bus import EventBus
from bridge.core.ports import ConnectionLostError
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.core.request_age import request_age
from bridge.core.tasks import BackgroundTasks
from bridge.core.written_presses import PressQueue, RunningPress, WrittenPresses
from bridge.model.commands import Open, Press, Reboot
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

_FIRST_POLL_SECONDS = 0.001
_MAX_POLL_SECONDS = 0.05
"""A press that waits for the buffers of its connection checks them after the first interval, then after doubled ones up
to the second. The kernel has no event for acknowledged bytes. A check takes some 10 microseconds."""


class Presses:
    """Carries out presses on connected terminals.

    A press is written in the call that requests it, if possible, and is continued by callbacks: by the terminal's
    answer, by the end of its connection, and by one timer for all presses. A task and a timer for each press took a
    fifth of the processor time of an open (measured).
    """

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
        self._started_at = clock.boottime()
        # A press that is not acknowledged by then is withdrawn, so early that no copy of it is left at the deadline.
        acknowledge_within = max(deadline - _NEIGHBOUR_DISCOVERY_SECONDS, deadline * _MIN_ACKNOWLEDGE_FRACTION)
        self._write_within = acknowledge_within - min(deadline * _MIN_WITHDRAW_FRACTION, _MAX_WITHDRAW_SECONDS)
        self._queues: dict[str, PressQueue] = {}
        self._tasks = BackgroundTasks()
        self._written = WrittenPresses(clock, self._tasks, acknowledge_within, deadline, self._end)

    def press(
        self,
        sn: str,
        command: Press,
        origin: Origin,
        requested_at: float | None,
        *,
        in_group: bool = False,
        on_end: Callable[[], None] | None = None,
    ) -> "asyncio.Future[Reply]":
        """Carry out a press on one terminal, publish the reply and return it.

        The press goes on if the returned future is cancelled.

        Args:
            sn: the terminal.
            command: the press.
            origin: where it came from.
            requested_at: the earliest time (`Clock.boottime`) at which it can have been requested, as the bridge
                measured it; the press counts from its `asked_at` if that is older. None if it is unknown: the press
                then counts as too old.
            in_group: whether it is a part of a press on a group; the log shows only the summary of the group.
            on_end: called once after the reply is published, unless the press has ended when this returns. A callback
                of the future would cost the event loop a round of its own.
        """
        reply_builder = self._replies.builder(_name(command), command.request_id, sn)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        accepted = self._accept(reply_builder, command, origin, requested_at, future)
        if isinstance(accepted, Reply):
            future.set_result(self._replies.publish(accepted, origin, in_group=in_group))
        else:
            accepted.in_group = in_group
            try:
                self._begin(accepted)
            except BaseException:
                self._release(accepted)
                raise
            if not accepted.has_ended:
                accepted.on_end = on_end
        return future

    def press_group(
        self, group: str, command: Press, origin: Origin, requested_at: float | None
    ) -> "asyncio.Future[GroupSummary | Reply]":
        """Carry out a press on every member of a group at once, each as `press` does.

        Returns:
            The summary, or an `invalid` reply for a group that is unknown or empty.
        """
        members = self._registry.members(group)
        # Only the summary goes to the Response Topic, not every member's reply.
        member_origin = replace(origin, response_topic=None, correlation_data=None)
        presses = [
            self.press(known.terminal.sn, command, member_origin, requested_at, in_group=True) for known in members
        ]
        name = _name(command)
        return self._tasks.start(self._summarise(presses, command, group, origin), name=f"{name} on group {group}")

    async def _summarise(
        self, presses: "Sequence[asyncio.Future[Reply]]", command: Press, group: str, origin: Origin
    ) -> GroupSummary | Reply:
        name = _name(command)
        if not presses:
            reply_builder = self._replies.builder(name, command.request_id, None)
            return self._replies.publish(reply_builder.unknown_group(group), origin)
        replies = await asyncio.gather(*presses)
        return self._replies.publish_summary(replies, name, group, command.request_id, origin)

    def _accept(
        self,
        reply_builder: ReplyBuilder,
        command: Press,
        origin: Origin,
        requested_at: float | None,
        future: "asyncio.Future[Reply]",
    ) -> RunningPress | Reply:
        """Return the press if it may be carried out, or the reply to it."""
        sn = reply_builder.sn or ""
        known = self._registry.get(sn)
        if known is None:
            return reply_builder.unknown_terminal()
        age_note = ""
        if command.asked_at is not None:
            age = request_age(self._clock, requested_at, command.asked_at, self._write_within)
            requested_at, age_note = age.requested_at, age.note
        if requested_at is None or self._is_too_late(requested_at):
            too_late = "reached the bridge too late; not carried out"
            return reply_builder.reply(
                Outcome.EXPIRED, message=f"{too_late} ({age_note})" if age_note else too_late, delivered=False
            )
        if command.asked_at is not None and requested_at < self._started_at:
            # `RepeatedPresses` does not survive the process. Tried with a deadline of 30 s: a press that was sent again
            # after a `kill -9` opened the door twice.
            return reply_builder.reply(Outcome.EXPIRED, message=_BEFORE_START, delivered=None)
        connection = known.connection
        if connection is None:
            return reply_builder.reply(
                Outcome.OFFLINE, message="the terminal is not connected; not carried out", delivered=False
            )
        if not connection.responsive:
            return reply_builder.unavailable(
                "the terminal received an earlier press, did not answer it and has sent nothing since; not carried "
                "out: check the terminal",
                delivered=False,
            )
        queue = self._queues.get(sn)
        if queue is None:
            queue = self._queues[sn] = PressQueue()
        elif queue.number >= MAXIMUM_WAITING:
            return reply_builder.unavailable(
                f"{MAXIMUM_WAITING} presses already wait for this terminal; not carried out", delivered=False
            )
        msgid = self._new_msgid()
        frame = _frame(command, msgid, sn)
        queue.number += 1
        return RunningPress(reply_builder, origin, known, connection, queue, requested_at, future, msgid, frame)

    def _begin(self, press: RunningPress) -> None:
        """Write a press now if none waits before it and TCP transmits it at once; otherwise let it wait."""
        if _LOGGER.isEnabledFor(logging.DEBUG):
            builder = press.reply_builder
            _LOGGER.debug(
                "sending %s to terminal %s",
                builder.command,
                builder.sn,
                extra={"sn": builder.sn, "msgid": press.msgid, "request_id": builder.request_id},
            )
        queue = press.queue
        if not queue.waiting and self._try_to_write(press):
            return
        queue.waiting.append(press)
        if len(queue.waiting) == 1:
            self._tasks.start(self._write_waiting(queue), name=f"presses that wait for {press.connection.sn}")

    async def _write_waiting(self, queue: PressQueue) -> None:
        """Write the waiting presses of a terminal in their order, each as soon as TCP transmits it at once.

        They wait here and not in a buffer, because the kernel empties its buffers while this process is frozen.
        """
        while queue.waiting:
            press = queue.waiting[0]
            if not self._try_to_write(press):
                poll_seconds = _FIRST_POLL_SECONDS
                with press.connection.reserve():
                    await asyncio.sleep(poll_seconds)
                    while not self._try_to_write(press):
                        poll_seconds = min(2 * poll_seconds, _MAX_POLL_SECONDS)
                        await asyncio.sleep(poll_seconds)
            queue.waiting.popleft()

    def _try_to_write(self, press: RunningPress) -> bool:
        """Write a press if TCP transmits it at once; return False if it must go on waiting.

        Only computation lies between the look at the clock and the write.
        """
        connection = press.connection
        if self._is_too_late(press.requested_at):
            reply = press.reply_builder.reply(
                Outcome.TIMEOUT,
                message="other data still waited to be sent to the terminal; not carried out",
                delivered=False,
            )
            self._end(press, reply)
            return True
        press.cancel_expected = press.known.expect(
            press.msgid,
            connection,
            on_reply=lambda reply: self._answered(press, reply),
            on_lost=lambda: self._connection_lost(press),
        )
        try:
            written = connection.send_urgent(press.frame)
        except ConnectionLostError:
            reply = press.reply_builder.reply(
                Outcome.LOST, msgid=press.msgid, message="the connection broke; not carried out", delivered=False
            )
            self._end(press, reply)
            return True
        if written is None:
            press.cancel_expected()
            return False
        press.written = written
        if not press.has_ended:
            self._written.add(press)
        return True

    def _is_too_late(self, requested_at: float) -> bool:
        """Return whether too little of the deadline is left to write a press and to withdraw it in time."""
        return self._clock.boottime() >= requested_at + self._write_within

    def _answered(self, press: RunningPress, answer: TerminalReply) -> None:
        self._end(press, press.reply_builder.from_terminal(answer))

    def _connection_lost(self, press: RunningPress) -> None:
        assert press.written is not None
        reply = press.reply_builder.reply(
            Outcome.LOST,
            msgid=press.msgid,
            message="the connection broke before the answer",
            delivered=press.connection.delivered(press.written),
        )
        self._end(press, reply)

    def _end(self, press: RunningPress, reply: Reply) -> None:
        """Publish the reply to a press."""
        self._release(press)
        self._replies.publish(reply, press.origin, in_group=press.in_group)
        if not press.reply.done():
            press.reply.set_result(reply)
        if press.on_end is not None:
            press.on_end()

    def _release(self, press: RunningPress) -> None:
        """Make room for further presses on the terminal."""
        press.has_ended = True
        self._written.remove(press)
        if press.cancel_expected is not None:
            press.cancel_expected()
        press.queue.number -= 1
        if not press.queue.number:
            self._queues.pop(press.reply_builder.sn or "", None)


_BEFORE_START = (
    "asked_at is before the start of the bridge, which may have carried it out then; not carried out now: press again"
)


# mypy reports a kind of press that is missing in these.
def _name(command: Press) -> str:
    match command:
        case Open():
            return OPEN.name
        case Reboot():
            return REBOOT.name


def _frame(command: Press, msgid: str, sn: str) -> bytes:
    match command:
        case Open():
            return encode_open(msgid=msgid, sn=sn)
        case Reboot():
            return encode_reboot(msgid=msgid, sn=sn)
