"""Written presses: withdraw those that are not acknowledged in time, and end those that are not answered in time."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.core.clock import Clock
from bridge.core.ports import Connection, WrittenFrame
from bridge.core.registry import KnownTerminal
from bridge.core.replies import ReplyBuilder
from bridge.core.tasks import BackgroundTasks
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply

_MAX_WAIT_SECONDS = 0.5
"""A waiting press reads the clock at least this often. The event loop's timers stand still in a suspended machine;
the deadline does not."""


@dataclass(slots=True)
class PressQueue:
    """The presses in progress on one terminal.

    Attributes:
        number: how many there are.
        waiting: those that are not written yet, in the order of their arrival. Only the first is written.
    """

    number: int = 0
    waiting: "deque[RunningPress]" = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class RunningPress:
    """A press on one terminal, from its request to its reply.

    Attributes:
        reply_builder: builds its reply.
        origin: where it came from.
        known: the terminal.
        connection: the connection that it is written to.
        queue: the presses of the terminal.
        requested_at: the time from which the deadline counts.
        reply: is set after the reply is published.
        msgid: the id of its frame.
        frame: its frame.
        written: the place of its frame once it is written.
        cancel_expected: stops the wait for the terminal's answer.
        check_at: the next time at which the clock decides something (`Clock.boottime`).
        is_acknowledgement_checked: whether its connection was reset if its bytes were not acknowledged in time.
        has_ended: whether its reply is published.
        in_group: whether it is a part of a press on a group.
        on_end: called after its reply is published.
    """

    reply_builder: ReplyBuilder
    origin: Origin
    known: KnownTerminal
    connection: Connection
    queue: PressQueue
    requested_at: float
    reply: "asyncio.Future[Reply]"
    msgid: str
    frame: bytes
    written: WrittenFrame | None = None
    cancel_expected: Callable[[], None] | None = None
    check_at: float = 0.0
    is_acknowledgement_checked: bool = False
    has_ended: bool = False
    in_group: bool = False
    on_end: Callable[[], None] | None = None


class WrittenPresses:
    """The presses that wait for an answer, with one timer for all of them."""

    def __init__(
        self,
        clock: Clock,
        tasks: BackgroundTasks,
        acknowledge_within: float,
        deadline: float,
        end: "Callable[[RunningPress, Reply], None]",
    ) -> None:
        """Begin without presses.

        Args:
            clock: the time.
            tasks: ends presses at their deadline.
            acknowledge_within: seconds after its request within which the terminal's kernel must acknowledge a press.
            deadline: seconds after its request within which a press is carried out or not at all.
            end: publishes the reply to a press, and calls `remove`.
        """
        self._clock = clock
        self._tasks = tasks
        self._acknowledge_within = acknowledge_within
        self._deadline = deadline
        self._end = end
        # In the order in which they were written.
        self._presses: dict[RunningPress, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def add(self, press: RunningPress) -> None:
        """Watch a press that was written just now."""
        press.check_at = press.requested_at + self._acknowledge_within
        self._presses[press] = None
        if self._timer is None or press.check_at < self._timer_at:
            self._start_timer()

    def remove(self, press: RunningPress) -> None:
        """Stop watching a press that has ended."""
        self._presses.pop(press, None)

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._presses:
            return
        now = self._clock.boottime()
        self._timer_at = min(now + _MAX_WAIT_SECONDS, *(press.check_at for press in self._presses))
        self._timer = asyncio.get_running_loop().call_later(max(self._timer_at - now, 0.0), self._check)

    def _check(self) -> None:
        """Withdraw presses that are not acknowledged in time, and end those that have reached their deadline."""
        self._timer = None
        now = self._clock.boottime()
        for press in [press for press in self._presses if press.check_at <= now]:
            if press.has_ended:
                # The reset for an earlier one has ended all presses of its connection.
                continue
            if not press.is_acknowledgement_checked:
                press.is_acknowledgement_checked = True
                self._check_acknowledged(press)
            if press.requested_at + self._deadline <= self._clock.boottime():
                del self._presses[press]
                self._tasks.start(self._time_out(press), name=f"end of an unanswered press on {press.connection.sn}")
            else:
                press.check_at = press.requested_at + self._deadline
        self._start_timer()

    def _check_acknowledged(self, press: RunningPress) -> None:
        assert press.written is not None
        assert press.cancel_expected is not None
        if press.connection.delivered(press.written) is not True:
            press.cancel_expected()
            press.connection.reset("a press was not acknowledged in time")

    async def _time_out(self, press: RunningPress) -> None:
        if press.has_ended:
            return
        assert press.written is not None
        assert press.cancel_expected is not None
        press.cancel_expected()
        delivered = press.connection.delivered(press.written)
        if delivered:
            # A program that hangs would carry out everything that it has received when it continues.
            await press.connection.probe()
        reply = press.reply_builder.reply(
            Outcome.TIMEOUT, msgid=press.msgid, message=_TIMEOUT_MESSAGES[delivered], delivered=delivered
        )
        self._end(press, reply)


_TIMEOUT_MESSAGES = {
    True: "no answer from the terminal",
    False: "it could not be sent to the terminal; withdrawn",
    None: "sent, but the terminal did not acknowledge it: it may have been carried out before the deadline, not later",
}
"""By `Connection.delivered`."""
