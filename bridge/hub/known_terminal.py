"""One known terminal while the bridge runs: who it is, its connection, and which replies are waited for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bridge.hub.ports import Connection
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
