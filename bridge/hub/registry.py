"""Which terminals are known, and which of them are connected."""

import logging
from collections.abc import Iterator

from bridge.hub.clock import Clock
from bridge.hub.event_bus import EventBus
from bridge.hub.known_terminal import KnownTerminal
from bridge.hub.ports import Connection
from bridge.model.events import (
    CommandReplied,
    PersonSettled,
    TerminalConnected,
    TerminalDisconnected,
    UnknownReply,
)
from bridge.model.names import ALL_TERMINALS
from bridge.model.terminal import Terminal
from bridge.protocol.replies import TerminalReply

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
