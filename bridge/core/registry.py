"""The known terminals, and which of them are connected."""

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
    UnknownReply,
)
from bridge.model.names import ALL_TERMINALS
from bridge.model.reply import Reply
from bridge.model.terminal import Terminal
from bridge.protocol.replies import TerminalReply


@dataclass(frozen=True, slots=True)
class _Expected:
    connection: Connection
    on_reply: Callable[[TerminalReply], None]
    on_lost: Callable[[], None] | None


class KnownTerminal:
    """Outlives connections; there is one object per terminal, and all that belongs to the terminal is here.

    Attributes:
        terminal: who it is.
        connection: the connection it has, if any.
        last_reply: the last word on the last command.
        unknown_replies: answers on this connection to a msgid that nothing waits for.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.connection: Connection | None = None
        self.last_reply: Reply | None = None
        self.unknown_replies = 0
        self._last_seen: datetime | None = None
        self._expected: dict[str, _Expected] = {}

    @property
    def last_seen(self) -> datetime | None:
        """When its last frame came in, on whichever connection."""
        return self.connection.last_seen if self.connection is not None else self._last_seen

    def connected(self, connection: Connection) -> Connection | None:
        """Take a new connection; return the one whose place it takes, whose waiters have been told it is lost."""
        replaced = self.connection
        self.connection = connection
        self.unknown_replies = 0
        if replaced is not None:
            self._lose(replaced)
        return replaced

    def disconnected(self, connection: Connection) -> bool:
        """Let go of a connection; return False where another had already taken its place."""
        if self.connection is not connection:
            return False
        self._last_seen = connection.last_seen
        self.connection = None
        self._lose(connection)
        return True

    def expect(
        self,
        msgid: str,
        connection: Connection,
        on_reply: Callable[[TerminalReply], None],
        on_lost: Callable[[], None] | None = None,
    ) -> Callable[[], None]:
        """Have the reply to `msgid` handed to `on_reply`, once.

        Args:
            msgid: of the frame about to be sent.
            connection: it is sent on.
            on_reply: called with the reply, whichever connection of this terminal it comes in on.
            on_lost: called instead when `connection` ends first; without it the reply is waited for over reconnections.

        Returns:
            The undo, which does nothing once one of them was called.
        """
        self._expected[msgid] = _Expected(connection, on_reply, on_lost)

        def forget() -> None:
            self._expected.pop(msgid, None)

        return forget

    def received(self, reply: TerminalReply) -> bool:
        """Hand a reply to whoever waits for it; return False where nobody does."""
        expected = self._expected.pop(reply.msgid, None)
        if expected is None:
            self.unknown_replies += 1
            return False
        expected.on_reply(reply)
        return True

    def _lose(self, connection: Connection) -> None:
        lost = [
            (msgid, expected.on_lost)
            for msgid, expected in self._expected.items()
            if expected.connection is connection and expected.on_lost is not None
        ]
        for msgid, on_lost in lost:
            del self._expected[msgid]
            on_lost()


_LOGGER = logging.getLogger(__name__)

_TOLD = 10
"""Unknown replies of one connection that are worth a line in the log: a terminal that doubles its answers shows with
these, and one that floods does not fill the disk."""


class TerminalRegistry:
    """All known terminals by SN. The terminals' face tells it of connections and replies."""

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
        """Return a known terminal."""
        return self._terminals.get(sn)

    def members(self, group: str) -> list[KnownTerminal]:
        """Return the terminals of a group, those of `all` being every known one."""
        if group == ALL_TERMINALS:
            return list(self)
        return [known for known in self if group in known.terminal.groups]

    def put(self, terminal: Terminal) -> KnownTerminal:
        """Make a terminal known, or replace what is known of it; its connection stays."""
        known = self._terminals.get(terminal.sn)
        if known is None:
            known = self._terminals[terminal.sn] = KnownTerminal(terminal)
        else:
            known.terminal = terminal
        return known

    def remove(self, sn: str) -> KnownTerminal | None:
        """Stop knowing a terminal; what to do with its connection is the caller's."""
        return self._terminals.pop(sn, None)

    def connected(self, connection: Connection) -> None:
        """Take a known terminal's new connection; one it had before is reset and never shown as offline.

        Raises:
            KeyError: the terminal is not known (any more).
        """
        known = self._terminals[connection.sn]
        replaced = known.connected(connection)
        if replaced is not None:
            # Reset, not closed: a press that its waiter was just told is lost may still lie in its buffers.
            replaced.reset("replaced by a newer connection")
        _LOGGER.info(
            "terminal %s connected from %s%s",
            connection.sn,
            connection.address,
            " in place of an older connection" if replaced is not None else "",
            extra={"sn": connection.sn, "address": connection.address},
        )
        self._events.publish(
            TerminalConnected(
                at=self._clock.now(),
                sn=connection.sn,
                address=connection.address,
                replaced=replaced is not None,
            )
        )

    def disconnected(self, connection: Connection, reason: str) -> None:
        """Let go of a connection that has ended."""
        known = self._terminals.get(connection.sn)
        if known is None or not known.disconnected(connection):
            return
        _LOGGER.info("terminal %s disconnected: %s", connection.sn, reason, extra={"sn": connection.sn})
        self._events.publish(TerminalDisconnected(at=self._clock.now(), sn=connection.sn, reason=reason))

    def received(self, connection: Connection, reply: TerminalReply) -> None:
        """Hand a terminal's reply to whoever waits for it."""
        known = self._terminals.get(connection.sn)
        if known is None or known.received(reply):
            return
        if known.unknown_replies <= _TOLD:
            _LOGGER.info(
                "terminal %s answered a msgid that nothing waits for%s",
                connection.sn,
                "; further ones are only counted" if known.unknown_replies == _TOLD else "",
                extra={"sn": connection.sn, "msgid": reply.msgid},
            )
        self._events.publish(UnknownReply(at=self._clock.now(), sn=connection.sn, msgid=reply.msgid))

    def _replied(self, event: CommandReplied | PersonSettled) -> None:
        known = self._terminals.get(event.reply.sn or "")
        # A list of persons is an answer of its own kind, and too much for a state that is published again and again.
        if known is not None and event.reply.persons is None:
            known.last_reply = event.reply
