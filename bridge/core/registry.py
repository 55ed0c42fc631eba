"""The known terminals and their connections."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.ports import Connection
from bridge.model.events import (
    CommandReplied,
    PersonSettled,
    TerminalConnected,
    TerminalDisconnected,
    TerminalMessage,
    TerminalReplaced,
    UnknownReply,
)
from bridge.model.names import ALL_TERMINALS
from bridge.model.reply import Reply
from bridge.model.terminal import Terminal
from bridge.protocol.replies import TerminalReply

_LOGGER = logging.getLogger(__name__)

_MAX_LOGGED_UNKNOWN_REPLIES = 10
"""Per connection. These show a terminal that sends each answer twice; one that floods must not fill the disk."""

_FLAPPING_TAKEOVERS, _FLAPPING_SECONDS = 3, 600.0
"""Takeovers within ten minutes after which two devices may share an SN. A terminal whose network breaks also takes over
from its own dead connection, but the bridge notices a dead connection within seconds."""

_FLAPPING_WARNING_SECONDS = 3600.0
"""Pause between two warnings about the same terminal."""

_COLLAPSED = {"collapse": True}
"""Lets the log count equal lines: a terminal that connects again and again would fill it."""


@dataclass(slots=True, eq=False)
class _ExpectedReply:
    connection: Connection
    on_reply: Callable[[TerminalReply], None]
    on_lost: Callable[[], None] | None


class KnownTerminal:
    """All that the bridge knows of one terminal. There is one object per terminal; it outlives connections.

    Attributes:
        terminal: its configuration.
        connection: its connection, if it has one.
        last_reply: the newest reply to one of its commands.
        unknown_replies: the number of unexpected replies on this connection.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.connection: Connection | None = None
        self.last_reply: Reply | None = None
        self.unknown_replies = 0
        self._last_seen: datetime | None = None
        self._takeovers: tuple[float, ...] = ()
        self._warned_at: float | None = None
        self._expected: dict[str, _ExpectedReply] = {}

    @property
    def last_seen(self) -> datetime | None:
        """When its last frame arrived, on any connection."""
        return self.connection.last_seen if self.connection is not None else self._last_seen

    def connected(self, connection: Connection) -> Connection | None:
        """Use a new connection; return the one it replaces, after calling `on_lost` for its expected replies."""
        replaced = self.connection
        self.connection = connection
        self.unknown_replies = 0
        if replaced is not None:
            self._notify_lost(replaced)
        return replaced

    def begins_to_flap(self, now: float) -> bool:
        """Count a takeover; return whether to warn that connections replace each other again and again."""
        self._takeovers = (*self._takeovers, now)[-_FLAPPING_TAKEOVERS:]
        if len(self._takeovers) < _FLAPPING_TAKEOVERS or now - self._takeovers[0] > _FLAPPING_SECONDS:
            return False
        if self._warned_at is not None and now - self._warned_at < _FLAPPING_WARNING_SECONDS:
            return False
        self._warned_at = now
        return True

    def disconnected(self, connection: Connection) -> bool:
        """Drop a connection that has ended; return False if another has replaced it already."""
        if self.connection is not connection:
            return False
        self._last_seen = connection.last_seen
        self.connection = None
        self._notify_lost(connection)
        return True

    def expect(
        self,
        msgid: str,
        connection: Connection,
        on_reply: Callable[[TerminalReply], None],
        on_lost: Callable[[], None] | None = None,
    ) -> Callable[[], None]:
        """Call `on_reply` once with the reply to `msgid`.

        Args:
            msgid: the id of the frame that is about to be sent.
            connection: sends the frame.
            on_reply: called with the reply, on any connection of this terminal.
            on_lost: called instead if `connection` ends first; without it, the reply is expected across reconnections.

        Returns:
            A function that cancels this; it does nothing after one of the callbacks.
        """
        self._expected[msgid] = _ExpectedReply(connection, on_reply, on_lost)

        def cancel() -> None:
            self._expected.pop(msgid, None)

        return cancel

    def received(self, reply: TerminalReply) -> bool:
        """Pass a reply to its callback; return False if it was not expected."""
        expected = self._expected.pop(reply.msgid, None)
        if expected is None:
            self.unknown_replies += 1
            return False
        expected.on_reply(reply)
        return True

    def _notify_lost(self, connection: Connection) -> None:
        lost = [
            (msgid, expected.on_lost)
            for msgid, expected in self._expected.items()
            if expected.connection is connection and expected.on_lost is not None
        ]
        for msgid, on_lost in lost:
            del self._expected[msgid]
            on_lost()


class TerminalRegistry:
    """All known terminals by serial number. The terminals' adapter reports connections and replies to it."""

    def __init__(self, events: EventBus, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._terminals: dict[str, KnownTerminal] = {}
        events.subscribe(CommandReplied, self._replied, name="terminal registry")
        events.subscribe(PersonSettled, self._replied, name="terminal registry")

    def __contains__(self, sn: str) -> bool:
        return sn in self._terminals

    def __iter__(self) -> Iterator[KnownTerminal]:
        return iter(tuple(self._terminals.values()))

    def __len__(self) -> int:
        return len(self._terminals)

    def get(self, sn: str) -> KnownTerminal | None:
        """Return a known terminal, None for an unknown one."""
        return self._terminals.get(sn)

    def members(self, group: str) -> list[KnownTerminal]:
        """Return the terminals of a group; every known terminal is a member of the group `all`."""
        if group == ALL_TERMINALS:
            return list(self)
        return [known for known in self if group in known.terminal.groups]

    def put(self, terminal: Terminal) -> KnownTerminal:
        """Add a terminal, or replace its configuration; its connection stays."""
        known = self._terminals.get(terminal.sn)
        if known is None:
            known = self._terminals[terminal.sn] = KnownTerminal(terminal)
        else:
            known.terminal = terminal
        return known

    def remove(self, sn: str) -> KnownTerminal | None:
        """Remove and return a terminal; the caller ends its connection."""
        return self._terminals.pop(sn, None)

    def restore(self, known: KnownTerminal) -> None:
        """Add a terminal again that `remove` returned."""
        self._terminals[known.terminal.sn] = known

    def connected(self, connection: Connection) -> None:
        """Use a known terminal's new connection. Reset the one it replaces, without an `offline` in between.

        Raises:
            KeyError: the terminal is not known (any more).
        """
        known = self._terminals[connection.sn]
        replaced = known.connected(connection)
        if replaced is not None:
            # Reset, not closed: its buffers may still hold a press whose reply has just said that it is lost.
            replaced.reset("replaced by a newer connection")
        _LOGGER.info(
            "terminal %s connected from %s%s",
            known.terminal.label,
            connection.address,
            ", replacing an older connection" if replaced is not None else "",
            extra={"sn": connection.sn, "address": connection.address, **_COLLAPSED},
        )
        self._events.publish(
            TerminalConnected(
                at=self._clock.now(),
                sn=connection.sn,
                address=connection.address,
                replaced=replaced is not None,
            )
        )
        if replaced is not None:
            self._report_takeover(known, connection, replaced)

    def disconnected(self, connection: Connection, reason: str) -> None:
        """Drop a connection that has ended."""
        known = self._terminals.get(connection.sn)
        if known is None or not known.disconnected(connection):
            return
        _LOGGER.info(
            "terminal %s disconnected: %s", known.terminal.label, reason, extra={"sn": connection.sn, **_COLLAPSED}
        )
        self._events.publish(TerminalDisconnected(at=self._clock.now(), sn=connection.sn, reason=reason))

    def received(self, connection: Connection, reply: TerminalReply) -> None:
        """Pass a terminal's reply to its callback."""
        known = self._terminals.get(connection.sn)
        if known is None or known.received(reply):
            return
        if known.unknown_replies <= _MAX_LOGGED_UNKNOWN_REPLIES:
            _LOGGER.info(
                "terminal %s answered a msgid that no command waits for%s",
                known.terminal.label,
                "; further ones are only counted" if known.unknown_replies == _MAX_LOGGED_UNKNOWN_REPLIES else "",
                extra={"sn": connection.sn, "msgid": reply.msgid},
            )
        self._events.publish(UnknownReply(at=self._clock.now(), sn=connection.sn, msgid=reply.msgid))

    def message_received(self, connection: Connection, frame: bytes) -> None:
        """Publish a text frame that is no reply, for `terminals.forward_messages`."""
        if connection.sn in self._terminals:
            self._events.publish(TerminalMessage(at=self._clock.now(), sn=connection.sn, frame=frame))

    def _report_takeover(self, known: KnownTerminal, connection: Connection, replaced: Connection) -> None:
        sn, address, previous = connection.sn, connection.address, replaced.address
        self._events.publish(TerminalReplaced(at=self._clock.now(), sn=sn, address=address, previous_address=previous))
        if known.begins_to_flap(self._clock.boottime()):
            _LOGGER.warning(
                "terminal %s: connections from %s and %s replace each other: either two devices have this SN, then give"
                " the terminal a username and password of its own; or its network breaks again and again",
                known.terminal.label,
                address,
                previous,
                extra={"sn": sn, "address": address},
            )

    def _replied(self, event: CommandReplied | PersonSettled) -> None:
        known = self._terminals.get(event.reply.sn or "")
        # A list of persons is too large for a state that is published again and again.
        if known is not None and event.reply.persons is None:
            known.last_reply = event.reply
