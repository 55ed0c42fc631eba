"""Replies to commands: building and publishing them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.model.events import CommandReplied, GroupPersonChanged, GroupReplied, ReplyRepeated
from bridge.model.faults import Fault
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply
from bridge.protocol.replies import TerminalReply

_LOGGER = logging.getLogger(__name__)

_MAX_FAULTS_IN_MESSAGE = 3
"""The message is for people; `errors` has all faults."""


# Not frozen: each press has one, and a frozen dataclass takes three times as long to build.
@dataclass(slots=True)
class ReplyBuilder:
    """Builds the replies to one command; nothing changes it.

    Attributes:
        command: the command's name.
        request_id: the command's request id.
        sn: the terminal; None for a command to a group or the bridge.
        since: when the bridge accepted the command (`Clock.boottime`).
        clock: dates the replies.
    """

    command: str
    request_id: str | None
    sn: str | None
    since: float
    clock: Clock

    def reply(self, outcome: Outcome, **details: Any) -> Reply:
        """Return a reply; `details` are further fields of `Reply`."""
        return Reply(
            command=self.command,
            request_id=self.request_id,
            sn=self.sn,
            outcome=outcome,
            at=self.clock.now(),
            duration_ms=(self.clock.boottime() - self.since) * 1000,
            **details,
        )

    def from_terminal(self, answer: TerminalReply) -> Reply:
        """Return the reply for a terminal's answer."""
        return self.reply(
            Outcome.OK if answer.status == 0 else Outcome.REFUSED,
            msgid=answer.msgid,
            status=answer.status,
            message=answer.message,
            delivered=True,
        )

    def invalid(self, faults: Sequence[Fault], **details: Any) -> Reply:
        """Return the reply to a command that cannot be read or is not allowed."""
        return self.reply(
            Outcome.INVALID,
            message="; ".join(
                f"{fault.path}: {fault.message}" if fault.path else fault.message
                for fault in faults[:_MAX_FAULTS_IN_MESSAGE]
            ),
            delivered=False,
            faults=tuple(faults),
            **details,
        )

    def unavailable(self, reason: object, **details: Any) -> Reply:
        """Return the reply to a command that the bridge cannot carry out now."""
        return self.reply(Outcome.UNAVAILABLE, message=str(reason), **details)

    def unknown_terminal(self) -> Reply:
        """Return the reply to a command for an unknown terminal."""
        return self.invalid([Fault("sn", f"terminal {self.sn} is not known: check the SN")])

    def unknown_group(self, group: str) -> Reply:
        """Return the reply to a command for a group without members."""
        return self.invalid([Fault("group", f"no terminal is in group {group!r}: check the name")], group=group)


class ReplyDispatcher:
    """Publishes the replies to commands as events."""

    def __init__(self, events: EventBus, clock: Clock) -> None:
        self._events = events
        self._clock = clock

    def builder(self, command: str, request_id: str | None, sn: str | None) -> ReplyBuilder:
        """Return a builder for a command that the bridge accepts now."""
        return ReplyBuilder(command, request_id, sn, self._clock.boottime(), self._clock)

    def publish(self, reply: Reply, origin: Origin, *, in_group: bool = False) -> Reply:
        """Publish a reply and return it; `ReplyLog` writes its log line.

        Args:
            reply: the reply.
            origin: where the command came from.
            in_group: whether the command addressed a group and this is the reply of a member.
        """
        if reply.is_repeated:
            self.publish_again(reply, origin)
            return reply
        self._events.publish(CommandReplied(at=reply.at, reply=reply, origin=origin, in_group=in_group))
        return reply

    def publish_group_change(self, reply: Reply, group: str, origin: Origin) -> None:
        """Publish, for the audit, that a person that only a group keeps was changed."""
        reply = replace(reply, group=group)
        self._events.publish(GroupPersonChanged(at=reply.at, reply=reply, origin=origin))

    def publish_again(self, reply: Reply | GroupSummary, origin: Origin) -> None:
        """Publish the last known reply to a command that arrived again and is not carried out again."""
        self._events.publish(ReplyRepeated(at=self._clock.now(), reply=reply, origin=origin))
        _LOGGER.info(
            "%s from %s arrived again; not carried out again",
            reply.command,
            origin.source,
            extra={"request_id": reply.request_id},
        )

    def publish_summary(
        self, replies: Sequence[Reply], command: str, group: str, request_id: str | None, origin: Origin
    ) -> GroupSummary:
        """Publish the summary of a group's replies and return it.

        A change of a group without members has replies without a terminal; only the failed ones count.
        """
        counted = [reply for reply in replies if reply.sn is not None or reply.outcome is not Outcome.ACCEPTED]
        summary = GroupSummary.of(counted, command=command, group=group, at=self._clock.now(), request_id=request_id)
        if replies and all(reply.is_repeated for reply in replies):
            self.publish_again(summary, origin)
            return summary
        self._events.publish(GroupReplied(at=summary.at, summary=summary, origin=origin))
        return summary
