"""Replies: how one is made of a command and its end, and who hears of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.model.events import CommandReplied, GroupReplied
from bridge.model.faults import Fault
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply
from bridge.protocol.replies import TerminalReply

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplyBuilder:
    """A command that was taken and has yet to end; makes its replies.

    Attributes:
        command: its name.
        request_id: what it carried.
        sn: the terminal, None for a group or the bridge.
        since: when the bridge took it (`Clock.boottime`).
        clock: the time of its replies.
    """

    command: str
    request_id: str | None
    sn: str | None
    since: float
    clock: Clock

    def reply(self, outcome: Outcome, **details: Any) -> Reply:
        """Make the reply; `details` are further fields of `Reply`."""
        return Reply(
            command=self.command,
            request_id=self.request_id,
            sn=self.sn,
            outcome=outcome,
            at=self.clock.now(),
            duration_ms=(self.clock.boottime() - self.since) * 1000,
            **details,
        )

    def answered(self, answer: TerminalReply) -> Reply:
        """Make the reply of what the terminal said."""
        return self.reply(
            Outcome.OK if answer.status == 0 else Outcome.REFUSED,
            msgid=answer.msgid,
            status=answer.status,
            message=answer.message,
            delivered=True,
        )

    def invalid(self, faults: Sequence[Fault], **details: Any) -> Reply:
        """Make the reply to a command that was not understood or is not allowed."""
        return self.reply(
            Outcome.INVALID,
            message="; ".join(
                f"{fault.path}: {fault.message}" if fault.path else fault.message for fault in faults[:3]
            ),
            delivered=False,
            faults=tuple(faults),
            **details,
        )

    def unknown_terminal(self) -> Reply:
        """Make the reply to a command for a terminal that nobody knows."""
        return self.invalid([Fault("sn", f"terminal {self.sn} is not known; is the SN right?")])

    def unknown_group(self, group: str) -> Reply:
        """Make the reply to a command for a group without members."""
        return self.invalid([Fault("group", f"no terminal is in a group {group!r}")], group=group)


class ReplyDispatcher:
    """Tells whoever listens how commands ended."""

    def __init__(self, events: EventBus, clock: Clock) -> None:
        self._events = events
        self._clock = clock

    def builder(self, command: str, request_id: str | None, sn: str | None) -> ReplyBuilder:
        """Note that a command was taken now."""
        return ReplyBuilder(command, request_id, sn, self._clock.boottime(), self._clock)

    def publish(self, reply: Reply, origin: Origin) -> Reply:
        """Announce a reply, and return it."""
        self._events.publish(CommandReplied(at=reply.at, reply=reply, origin=origin))
        # Afterwards: writing a line takes longer than all that the hub does for a press.
        _LOGGER.info(
            "%s%s: %s",
            reply.command,
            f" on {reply.sn}" if reply.sn else "",
            reply.outcome.value,
            extra={
                "sn": reply.sn,
                "msgid": reply.msgid,
                "request_id": reply.request_id,
                "person_id": reply.person_id,
            },
        )
        return reply

    def publish_summary(
        self, replies: Sequence[Reply], command: str, group: str, request_id: str | None, origin: Origin
    ) -> GroupSummary:
        """Announce that every member of a group has ended, and return the summary."""
        summary = GroupSummary.of(replies, command=command, group=group, at=self._clock.now(), request_id=request_id)
        self._events.publish(GroupReplied(at=summary.at, summary=summary, origin=origin))
        return summary
